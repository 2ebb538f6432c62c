/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-REATTACH for the shared daemon: its process may be killed at any moment,
 *       mid-cluster too, and upgraded; its guests only wait, find the same cache again,
 *       stay in the shared lane and see no wrong byte. What nobody needs
 *       any more is given back, by the supervisor too.
 * Method: the supervisor over the fake store, guests whose watch threads do what a
 *       monitor's does, kill -9 of the server at random moments (PS_KILLS, 20); the
 *       gap of each guest is from the kill to its new attachment. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/supervise.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-procs.h"
#include "tests/stress/ps-server.h"

#define KILLS 20
#define KILLS_A_ROUND 20
#define CLONES 3
#define TOUCHERS 2
#define PATIENCE_MS 60000
#define DISK_BYTES (16u << 20)
#define CLUSTER_BITS 13
#define PAGES ((DISK_BYTES - (384u << 10)) / 4096)

/* a monitor: its watch thread finds the server again */
struct clone {
        struct guest guest;
        struct toucher toucher[TOUCHERS];
        const char *path;
        uint64_t prefetch;
        pthread_t watch;
        _Atomic bool quit;
        _Atomic uint64_t attached_ns;           /* the last time */
        /* results */
        _Atomic unsigned attempts_lost;         /* the server died meanwhile */
        _Atomic int failed;                     /* errno that no killed server explains */
        char text[200];
};

struct rig {
        struct test_server server;
        char program[PATH_MAX];                 /* a link to this one */
        char self[PATH_MAX];
        pid_t supervisor;
        uint64_t random;
        /* gaps in ns */
        uint64_t *gap;
        size_t gaps;
};

static void moment(uint64_t us)
{
        struct timespec ts = { .tv_nsec = (long)us * 1000 };

        nanosleep(&ts, NULL);
}

static uint64_t random_below(struct rig *r, uint64_t n)
{
        r->random = r->random * 6364136223846793005ull + 1442695040888963407ull;
        return (r->random >> 33) % n;
}

/* ---- the watch thread: as vmm/pager.c, without its way out ------------------------- */

static int rejoin(struct clone *c, struct err *e)
{
        struct guest *g = &c->guest;
        struct ps_welcome w;
        const struct ps_hello h = {
                .image_fds = &g->image_fd, .nimages = 1, .image_path = "fake image",
                .lane = PS_LANE_SHARED, .prefetch_rate = c->prefetch,
                .cache_fd = -1, .filled_fd = -1, .map_fd = g->welcome.map_fd, .removed_fd = -1,
        };
        struct ps_client *client;
        int rc = ps_client_connect(c->path, &client, e);

        if (rc < 0)
                return rc;
        rc = ps_client_hello(client, &h, &w, e);
        if (rc == 0) {
                close(w.map_fd);
                rc = ps_client_attach(client, g->region, g->regions, g->uffd, GUEST_UFFDS, true,
                                      e);
        }
        if (rc < 0) {
                ps_client_abandon(client);
                return rc;
        }
        g->client = client;
        return 0;
}

static bool was_killed(int rc)
{
        return rc == -EPIPE || rc == -ECONNRESET;
}

static bool find_server(struct clone *c)
{
        struct err e = { .code = 0 };
        int rc;

        guest_lose_server(&c->guest);
        while ((rc = rejoin(c, &e)) < 0 && was_killed(rc))
                atomic_fetch_add(&c->attempts_lost, 1);
        if (rc < 0) {
                snprintf(c->text, sizeof(c->text), "%.190s", e.text);
                atomic_store(&c->failed, -rc);
                return false;
        }
        atomic_store(&c->attached_ns, clock_now_ns());
        return true;
}

static void *watch(void *arg)
{
        struct clone *c = arg;

        while (!atomic_load(&c->quit)) {
                struct pollfd p = { .fd = ps_client_fd(c->guest.client), .events = POLLIN };
                struct ps_event event;

                if (poll(&p, 1, 20) <= 0)
                        continue;
                if (ps_client_event(c->guest.client, &event, NULL) < 0 && !find_server(c))
                        break;
        }
        return NULL;
}

static void clone_start(struct clone *c, const struct rig *r, const struct fake_image *image,
                        int image_fd, unsigned i)
{
        struct err e;

        *c = (struct clone){
                .guest = { .image = *image, .image_fd = image_fd }, .path = r->server.path,
                .prefetch = i == 1 ? 4 << 20 : PS_PREFETCH_OFF,
        };
        MUST(ps_client_connect(c->path, &c->guest.client, &e), &e);
        guest_map(&c->guest, PS_LANE_SHARED, c->prefetch, 0);
        guest_attach(&c->guest, false);
        atomic_store(&c->attached_ns, clock_now_ns());
        for (unsigned k = 0; k < TOUCHERS; k++) {
                c->toucher[k] = (struct toucher){ .guest = &c->guest, .seed = 7 * i + k };
                toucher_start(&c->toucher[k]);
        }
        TEST(pthread_create(&c->watch, NULL, watch, c) == 0);
}

static void clone_end(struct clone *c)
{
        for (unsigned k = 0; k < TOUCHERS; k++) {
                TEST(toucher_join(&c->toucher[k], PATIENCE_MS));
                TEST(c->toucher[k].wrong == 0);
                TEST(atomic_load(&c->toucher[k].touched) == PAGES);
        }
        atomic_store(&c->quit, true);
        TEST(pthread_join(c->watch, NULL) == 0);
        if (atomic_load(&c->failed))
                fprintf(stderr, "a clone found no server: %s\n", c->text);
        TEST(atomic_load(&c->failed) == 0);
        guest_free(&c->guest);
}

/* ---- the server's process -------------------------------------------------------------- */

static pid_t server_of(const struct rig *r)
{
        pid_t pid = 0;

        for (int i = 0; i < PATIENCE_MS && pid == 0; i++) {
                pid = procs_only_child(r->supervisor);
                if (pid == 0)
                        moment(1000);
        }
        TEST(pid > 0);
        return pid;
}

static void await_attached(const struct rig *r, struct clone *c, uint64_t since_ns)
{
        (void)r;
        for (int i = 0; atomic_load(&c->attached_ns) <= since_ns; i++) {
                if (atomic_load(&c->failed))
                        fprintf(stderr, "a clone found no server: %s\n", c->text);
                TEST(atomic_load(&c->failed) == 0 && i < PATIENCE_MS * 2);
                moment(500);
        }
}

static void note_gaps(struct rig *r, struct clone *clones, uint64_t since_ns)
{
        for (unsigned i = 0; i < CLONES; i++) {
                await_attached(r, &clones[i], since_ns);
                if (r->gap)
                        r->gap[r->gaps++] = atomic_load(&clones[i].attached_ns) - since_ns;
        }
}

/* One in ten is killed again as soon as it is there: while it starts, or while its
 * clients come back. */
static void kill_server(struct rig *r, struct clone *clones)
{
        pid_t pid = server_of(r);
        uint64_t now = clock_now_ns();

        TEST(kill(pid, SIGKILL) == 0);
        if (random_below(r, 10) == 0) {
                pid_t again;

                while ((again = procs_only_child(r->supervisor)) == pid || again == 0)
                        moment(100);
                moment(random_below(r, 4000));
                TEST(kill(again, SIGKILL) == 0);
        }
        note_gaps(r, clones, now);
}

static unsigned touched(struct clone *clones)
{
        unsigned n = 0;

        for (unsigned i = 0; i < CLONES; i++) {
                for (unsigned k = 0; k < TOUCHERS; k++)
                        n += atomic_load(&clones[i].toucher[k].touched);
        }
        return n;
}

static void await_progress(struct clone *clones, unsigned goal)
{
        for (int i = 0; touched(clones) < goal; i++) {
                TEST(i < PATIENCE_MS * 5);
                moment(200);
        }
}

/* Two clones of one image and one of another; kills is 0 for an upgrade in the middle. */
static void play(struct rig *r, unsigned round, unsigned kills, void (*act)(struct rig *,
                                                                            struct clone *))
{
        struct fake_image image[2];
        int fd[2];
        struct clone clones[CLONES];
        unsigned all = CLONES * TOUCHERS * PAGES;

        for (unsigned i = 0; i < ARRAY_SIZE(image); i++) {
                image[i] = (struct fake_image){
                        .seed = 1000 + 2 * round + i, .disk_bytes = DISK_BYTES,
                        .cluster_bits = CLUSTER_BITS, .slow_us = 300,
                };
                fd[i] = fake_image_file(&image[i]);
        }
        for (unsigned i = 0; i < CLONES; i++)
                clone_start(&clones[i], r, &image[i / 2], fd[i / 2], i);
        for (unsigned k = 0; k < kills; k++) {
                await_progress(clones, all / (kills + 1) * k);
                moment(random_below(r, 6000));
                act(r, clones);
        }
        for (unsigned i = 0; i < CLONES; i++)
                clone_end(&clones[i]);
        close(fd[0]);
        close(fd[1]);
}

/* ---- what is given back ------------------------------------------------------------------ */

/* --clone PATH, image on 4: a whole life in a process of its own, for a server looks
 * after the memory of a process as long as that lives */
static int lone_clone(const char *path)
{
        struct rig r = { .supervisor = 0 };
        struct fake_image image;
        struct clone c;

        TEST(pread(4, &image, sizeof(image), 0) == sizeof(image));
        snprintf(r.server.path, sizeof(r.server.path), "%s", path);
        clone_start(&c, &r, &image, 4, 0);
        clone_end(&c);
        return 0;
}

static bool both_keep(const struct rig *r, bool some)
{
        return (procs_memfds(server_of(r)) > 0) == some &&
               (procs_memfds(r->supervisor) > 0) == some;
}

static void await_kept(const struct rig *r, bool some)
{
        for (int i = 0; !both_keep(r, some); i++) {
                TEST(i < PATIENCE_MS / 10);
                moment(10000);
        }
}

static void all_is_given_back(const struct rig *r)
{
        struct fake_image image = {
                .seed = 4, .disk_bytes = DISK_BYTES, .cluster_bits = CLUSTER_BITS, .slow_us = 200,
        };
        int fd = fake_image_file(&image);
        int status;

        TEST(both_keep(r, false));

        pid_t pid = guest_run_self("--clone", r->server.path, fd);

        await_kept(r, true);
        TEST(kill(server_of(r), SIGKILL) == 0);
        TEST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        await_kept(r, false);
        close(fd);
        printf("ok: all is given back\n");
}

/* ---- upgrades ------------------------------------------------------------------------------ */

static void upgrade(struct rig *r, struct clone *clones)
{
        pid_t old = server_of(r);
        uint64_t now = clock_now_ns();

        TEST(kill(r->supervisor, SIGHUP) == 0);
        note_gaps(r, clones, now);
        TEST(server_of(r) != old);
}

/* A program that does not come up must not cost the one that serves. */
static void bad_upgrade(struct rig *r, struct clone *clones)
{
        pid_t old = server_of(r);

        (void)clones;
        TEST(unlink(r->program) == 0 && symlink("/bin/false", r->program) == 0);
        TEST(kill(r->supervisor, SIGHUP) == 0);
        moment(100000);
        TEST(server_of(r) == old);
        TEST(unlink(r->program) == 0 && symlink(r->self, r->program) == 0);
}

/* ---- the test ------------------------------------------------------------------------------- */

static int supervisor(const char *path)
{
        char program[PATH_MAX];
        char *argv[] = { (char *)"self", (char *)"--daemon", (char *)path, NULL };
        struct supervise_options o = {
                .socket_path = path, .program = program, .argv = argv, .settled_ms = 1,
        };
        struct err e;

        snprintf(program, sizeof(program), "%s.program", path);

        int rc = supervise_run(&o, &e);

        if (rc < 0)
                fprintf(stderr, "supervisor: %s\n", e.text);
        return rc < 0 ? 1 : rc;
}

static int by_value(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static void print_gaps(struct rig *r, const char *what, unsigned times)
{
        qsort(r->gap, r->gaps, sizeof(*r->gap), by_value);
        printf("ok: %s: %u times, %zu gaps in ms: min %.1f median %.1f p99 %.1f max %.1f\n", what,
               times, r->gaps, (double)r->gap[0] / 1e6, (double)r->gap[r->gaps / 2] / 1e6,
               (double)r->gap[r->gaps * 99 / 100] / 1e6, (double)r->gap[r->gaps - 1] / 1e6);
        r->gaps = 0;
}

static void start(struct rig *r)
{
        ssize_t n = readlink("/proc/self/exe", r->self, sizeof(r->self) - 1);

        TEST(n > 0);
        test_server_name(&r->server);
        snprintf(r->program, sizeof(r->program), "%s.program", r->server.path);
        TEST(symlink(r->self, r->program) == 0);
        r->supervisor = guest_run_self("--supervise", r->server.path, -1);
        test_server_await(&r->server);
        server_of(r);
}

static void stop(struct rig *r)
{
        int status;

        TEST(kill(r->supervisor, SIGTERM) == 0);
        TEST(waitpid(r->supervisor, &status, 0) == r->supervisor);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        TEST(access(r->server.path, F_OK) < 0);
        unlink(r->program);
        test_server_unname(&r->server);
}

int main(int argc, char **argv)
{
        const char *asked = getenv("PS_KILLS");
        unsigned kills = asked ? (unsigned)atoi(asked) : KILLS;
        struct rig r = { .random = (uint64_t)getpid() };

        setbuf(stdout, NULL);
        if (argc == 3 && !strcmp(argv[1], "--supervise"))
                return supervisor(argv[2]);
        if (argc == 3 && !strcmp(argv[1], "--clone"))
                return lone_clone(argv[2]);
        test_server_role(argc, argv);
        guest_need_uffd();
        alarm(120 + 2 * kills);
        start(&r);
        r.gap = calloc((kills + 20) * CLONES, sizeof(*r.gap));
        printf("seed %llu\n", (unsigned long long)r.random);
        all_is_given_back(&r);
        for (unsigned done = 0; done < kills;) {
                unsigned n = MIN(kills - done, (unsigned)KILLS_A_ROUND);

                play(&r, done, n, kill_server);
                done += n;
        }
        print_gaps(&r, "killed", kills);
        play(&r, 5000, 1, bad_upgrade);
        play(&r, 6000, 5, upgrade);
        print_gaps(&r, "upgraded", 5);
        stop(&r);
        free(r.gap);
        return 0;
}
