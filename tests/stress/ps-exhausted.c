/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-TOLD: a server without descriptors or memory refuses new clients, each in one
 *       sentence, serves those it has, does not spin, loses nothing, and takes clients
 *       again as soon as it can.
 * Method: a daemon whose limits are set from outside to what it has plus a little more
 *       each time, so that every step of a new client fails once, beside a guest whose
 *       pages are all looked at. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/chan.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-procs.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
/* a new client in the shared lane takes fewer */
#define DESCRIPTORS_MORE 16
/* read so slowly that the test is through before the guest is */
#define GOOD_BYTES (32u << 20)
#define WAITING 12
#define WATCH_MS 600
/* its tables take some MiB */
#define LARGE_DISK_BYTES (64ull << 30)
#define MEMORY_STEP (256u << 10)
#define MEMORY_STEPS 60

struct rig {
        struct test_server server;
        pid_t daemon;
        struct guest good;
        struct toucher toucher;
};

static void moment(unsigned ms)
{
        struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

        nanosleep(&ts, NULL);
}

static void limit(const struct rig *r, int what, rlim_t value)
{
        struct rlimit l;

        TEST(prlimit(r->daemon, what, NULL, &l) == 0);
        l.rlim_cur = MIN(value, l.rlim_max);
        TEST(prlimit(r->daemon, what, &l, NULL) == 0);
}

static void rig_start(struct rig *r)
{
        struct fake_image image = {
                .seed = 17, .disk_bytes = GOOD_BYTES, .cluster_bits = 12, .slow_us = 5000,
        };
        struct err e;

        *r = (struct rig){ .good = { .image = image, .image_fd = fake_image_file(&image) } };
        test_server_name(&r->server);
        r->daemon = guest_run_self("--daemon", r->server.path, -1);
        test_server_await(&r->server);
        MUST(ps_client_connect(r->server.path, &r->good.client, &e), &e);
        guest_map(&r->good, PS_LANE_SHARED, PS_PREFETCH_OFF, 0);
        guest_attach(&r->good, false);
        r->toucher = (struct toucher){ .guest = &r->good, .seed = 3 };
        toucher_start(&r->toucher);
}

/* The good guest goes on: a little later it has touched more. */
static void good_goes_on(struct rig *r)
{
        unsigned before = atomic_load(&r->toucher.touched);

        for (int i = 0; atomic_load(&r->toucher.touched) <= before; i++) {
                TEST(i < 5000);
                moment(1);
        }
        TEST(atomic_load(&r->toucher.touched) < GOOD_BYTES / 4096 - 96);      /* not yet through */
}

/* A new client until its hello is answered. */
static int knock(const struct rig *r, const struct fake_image *image, struct err *e)
{
        struct ps_welcome w;
        struct ps_client *c;
        AUTO_FD image_fd = fake_image_file(image);
        const struct ps_hello h = {
                .image_fds = &image_fd, .nimages = 1, .image_path = "fake image",
                .lane = PS_LANE_SHARED, .cache_fd = -1, .filled_fd = -1, .map_fd = -1,
                .removed_fd = -1,
        };

        MUST(ps_client_connect(r->server.path, &c, e), e);

        int rc = ps_client_hello(c, &h, &w, e);

        if (rc == 0)
                fd_close(&w.map_fd);
        ps_client_free(c);
        return rc;
}

static unsigned await_fds(const struct rig *r, unsigned n)
{
        for (int i = 0; procs_fds(r->daemon) > n && i < 2000; i++)
                moment(1);
        return procs_fds(r->daemon);
}

static void few_descriptors(struct rig *r)
{
        const struct fake_image image = { .seed = 18, .disk_bytes = 1 << 20, .cluster_bits = 12 };
        unsigned base = procs_fds(r->daemon), refused = 0, taken = 0;
        struct err e;

        for (unsigned more = 0; more <= DESCRIPTORS_MORE; more++) {
                limit(r, RLIMIT_NOFILE, base + more);

                int rc = knock(r, &image, &e);

                if (rc < 0 && rc != -EMFILE)
                        fprintf(stderr, "with %u descriptors more: %s\n", more, e.text);
                TEST(rc == 0 || (rc == -EMFILE && e.text[0]));
                TEST(rc == 0 || taken == 0);            /* enough is enough */
                refused += rc < 0;
                taken += rc == 0;
                TEST(await_fds(r, base) == base);
                good_goes_on(r);
        }
        TEST(refused > 3 && taken > 3);
        printf("ok: %u times too few descriptors\n", refused);
}

/* Connections that say nothing and cannot be taken: they wait or are sent away. */
static void no_spinning(struct rig *r)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        unsigned base = procs_fds(r->daemon), refused = 0;
        static struct psmsg m;
        int sock[WAITING], fds[FDPASS_FDS_MAX];

        memcpy(sa.sun_path, r->server.path, strlen(r->server.path));
        limit(r, RLIMIT_NOFILE, base + 2);

        unsigned before = procs_cpu_ms(r->daemon);

        for (unsigned i = 0; i < WAITING; i++) {
                sock[i] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
                TEST(connect(sock[i], (struct sockaddr *)&sa, sizeof(sa)) == 0);
        }
        moment(WATCH_MS);

        unsigned used = procs_cpu_ms(r->daemon) - before;

        for (unsigned i = 0; i < WAITING; i++) {
                struct pollfd p = { .fd = sock[i], .events = POLLIN };

                if (poll(&p, 1, 0) > 0 && chan_recv(sock[i], &m, fds) == 0) {
                        TEST(m.type == PSMSG_ERROR && m.error.code == -EMFILE);
                        TEST(m.error.text[0]);
                        refused++;
                }
                close(sock[i]);
        }
        TEST(refused >= WAITING - 3);
        TEST(used < WATCH_MS / 2);
        TEST(await_fds(r, base) == base);
        limit(r, RLIMIT_NOFILE, RLIM_INFINITY);
        good_goes_on(r);
        printf("ok: %u refused, %u ms of work in %d ms\n", refused, used, WATCH_MS);
}

static uint64_t address_space(const struct rig *r)
{
        char name[64];
        unsigned long pages = 0;

        snprintf(name, sizeof(name), "/proc/%d/statm", (int)r->daemon);

        FILE *f = fopen(name, "re");

        TEST(f && fscanf(f, "%lu", &pages) == 1);
        fclose(f);
        return pages * 4096ull;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITED_SPACE false             /* their shadow takes all of it */
#else
#define LIMITED_SPACE true
#endif

static void little_memory(struct rig *r)
{
        const struct fake_image image = {
                .seed = 19, .disk_bytes = LARGE_DISK_BYTES, .cluster_bits = 12,
        };
        unsigned base = procs_fds(r->daemon), refused = 0, taken = 0;
        uint64_t space = address_space(r);
        struct err e;

        for (unsigned i = 0; i < MEMORY_STEPS; i++) {
                limit(r, RLIMIT_AS, space + i * MEMORY_STEP);

                int rc = knock(r, &image, &e);

                if (rc < 0 && rc != -ENOMEM)
                        fprintf(stderr, "with %u KiB more: %s\n", i * (MEMORY_STEP >> 10), e.text);
                TEST(rc == 0 || (rc == -ENOMEM && e.text[0]));
                refused += rc < 0;
                taken += rc == 0;
                TEST(await_fds(r, base) == base);
        }
        limit(r, RLIMIT_AS, RLIM_INFINITY);
        TEST(refused > 3 && taken > 3);
        good_goes_on(r);
        printf("ok: %u times too little memory\n", refused);
}

int main(int argc, char **argv)
{
        struct rig r;
        int status = 0;

        setbuf(stdout, NULL);
        test_server_role(argc, argv);
        guest_need_uffd();
        alarm(120);
        rig_start(&r);
        few_descriptors(&r);
        no_spinning(&r);
        if (LIMITED_SPACE)
                little_memory(&r);
        r.good.image.slow_us = 0;
        fake_image_update(r.good.image_fd, &r.good.image);
        TEST(toucher_join(&r.toucher, PATIENCE_MS) && r.toucher.wrong == 0);
        guest_free(&r.good);
        close(r.good.image_fd);
        TEST(kill(r.daemon, SIGTERM) == 0 && waitpid(r.daemon, &status, 0) == r.daemon);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        test_server_unname(&r.server);
        return 0;
}
