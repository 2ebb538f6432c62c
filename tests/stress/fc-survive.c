/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-REATTACH for guests of Firecracker, which never connect again: they outlive
 *       kill -9 of their server and its upgrade, balloons included, and see no wrong
 *       byte. When one ends, by itself or killed, nobody keeps a descriptor of it.
 * Method: the supervisor with a door for Firecracker over the fake store, clients of all
 *       versions (fc-client.h) that look at every byte, kill -9 at random moments. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/supervise.h"
#include "tests/stress/fc-client.h"
#include "tests/stress/fc-doors.h"
#include "tests/stress/ps-procs.h"

#define MIB (1ull << 20)
#define CLIENTS 3
#define KILLS 12
#define PATIENCE_MS 10000

struct rig {
        struct test_server names;
        char image_path[100];
        pid_t supervisor;
        pid_t server;
        unsigned supervisor_fds;        /* with no guest */
        unsigned random;
};

static void moment(unsigned ms)
{
        struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

        nanosleep(&ts, NULL);
}

static unsigned random_below(struct rig *r, unsigned n)
{
        r->random = r->random * 1103515245 + 12345;
        return (r->random >> 16) % n;
}

/* ---- the other processes ------------------------------------------------------------ */

static void fc_path(const char *path, char *ret, size_t room)
{
        TEST((size_t)snprintf(ret, room, "%s.fc", path) < room);
}

static int serve(const char *path)
{
        /* without prefetch, which would wake who sleeps on a lost message, after a while */
        struct server_options o = { .socket_path = path, .workers = 2, .fcs = 1 };
        char image[100];
        struct err e;

        snprintf(image, sizeof(image), "%s.image", path);
        fc_path(path, o.fc[0].socket_path, sizeof(o.fc[0].socket_path));
        o.fc[0].image_path = image;
        MUST(server_run(&o, &e), &e);
        return 0;
}

static int supervise(const char *path)
{
        char self[PATH_MAX];
        char *argv[] = { (char *)"self", (char *)"--serve", (char *)path, NULL };
        struct supervise_options o = {
                .socket_path = path, .program = self, .argv = argv, .settled_ms = 1,
        };
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        struct err e;
        int rc;

        TEST(n > 0);
        self[n] = '\0';
        rc = supervise_run(&o, &e);
        MUST(rc, &e);
        return rc;
}

static void await_server(struct rig *r, pid_t old)
{
        int i = 0;

        do {
                TEST(i++ < PATIENCE_MS);
                moment(1);
                r->server = procs_only_child(r->supervisor);
        } while (r->server == 0 || r->server == old);
}

/* ---- guests --------------------------------------------------------------------------- */

static void make_plan(struct rig *r, struct fc_plan *plan)
{
        const uint64_t bytes[] = { 12 * MIB, 8 * MIB };

        *plan = (struct fc_plan){
                .threads = 2,
                .image = { .seed = 90, .cluster_bits = 13, .slow_us = 700 },
        };
        plan->memory.page_bytes = FC_PAGE;
        fc_plan_regions(plan, bytes, ARRAY_SIZE(bytes));
        fc_image_of(plan, true);
        fc_path(r->names.path, plan->socket_path, sizeof(plan->socket_path));
}

static void start_guests(const struct fc_plan *plan, bool stays, pid_t pid[CLIENTS])
{
        static const enum fc_version versions[CLIENTS] = { FC_V1_1, FC_V1_7, FC_V1_12 };

        for (unsigned i = 0; i < CLIENTS; i++) {
                struct fc_plan p = *plan;

                p.version = versions[i];
                p.balloon = i != 0 && !stays;
                p.stays = stays;
                pid[i] = fc_client_start(&p);
        }
}

/* four of each guest */
static void await_kept(const struct rig *r, unsigned guests)
{
        for (int i = 0; procs_fds(r->supervisor) != r->supervisor_fds + 4 * guests; i++) {
                if (i == PATIENCE_MS)
                        fprintf(stderr, "the supervisor has %u descriptors, not %u\n",
                                procs_fds(r->supervisor), r->supervisor_fds + 4 * guests);
                TEST(i < PATIENCE_MS);
                moment(1);
        }
}

static void killed_servers(struct rig *r, const struct fc_plan *plan)
{
        pid_t pid[CLIENTS];

        start_guests(plan, false, pid);
        await_kept(r, CLIENTS);
        for (unsigned k = 0; k < KILLS; k++) {
                pid_t old = r->server;

                moment(random_below(r, 60));
                TEST(kill(k % 4 == 3 ? r->supervisor : old, k % 4 == 3 ? SIGHUP : SIGKILL) == 0);
                await_server(r, old);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
                fc_client_good(pid[i]);
        await_kept(r, 0);
        printf("ok: %u guests, %u servers\n", CLIENTS, KILLS + 1);
}

static void killed_guests(struct rig *r, const struct fc_plan *plan)
{
        pid_t pid[CLIENTS], old = r->server;

        start_guests(plan, true, pid);
        await_kept(r, CLIENTS);
        TEST(kill(old, SIGKILL) == 0);
        await_server(r, old);
        fc_client_kill(pid[0]);
        await_kept(r, CLIENTS - 1);
        fc_client_kill(pid[1]);
        old = r->server;
        TEST(kill(old, SIGKILL) == 0);          /* it may not have noticed */
        await_server(r, old);
        await_kept(r, 1);
        fc_client_kill(pid[2]);
        await_kept(r, 0);
        printf("ok: guests that are killed leave nothing\n");
}

static void start(struct rig *r, const struct fc_plan *plan)
{
        AUTO_FD image = open(r->image_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        int sock;

        fake_image_update(image, &plan->image);
        r->supervisor = guest_run_self("--supervise", r->names.path, -1);
        test_server_await(&r->names);
        while (access(plan->socket_path, F_OK) < 0 || (sock = fc_try_dial(plan->socket_path)) < 0)
                moment(1);
        close(sock);
        await_server(r, 0);
        r->supervisor_fds = procs_fds(r->supervisor);
}

static void stop(struct rig *r)
{
        int status;

        TEST(kill(r->supervisor, SIGTERM) == 0);
        TEST(waitpid(r->supervisor, &status, 0) == r->supervisor);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        unlink(r->image_path);
        test_server_unname(&r->names);
}

int main(int argc, char **argv)
{
        static struct fc_plan plan;
        struct rig r = { .random = (unsigned)getpid() };

        setbuf(stdout, NULL);
        fc_client_role(argc, argv);
        if (argc == 3 && !strcmp(argv[1], "--supervise"))
                return supervise(argv[2]);
        if (argc == 3 && !strcmp(argv[1], "--serve"))
                return serve(argv[2]);
        guest_need_uffd();
        alarm(120);
        test_server_name(&r.names);
        snprintf(r.image_path, sizeof(r.image_path), "%s.image", r.names.path);
        make_plan(&r, &plan);
        start(&r, &plan);
        printf("seed %u\n", r.random);
        killed_servers(&r, &plan);
        killed_guests(&r, &plan);
        stop(&r);
        return 0;
}
