/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what ps-hanging.c shows with made-up images holds for threads that hang in the
 *       kernel, in a daemon that is in its sandbox: INV-APART, and a server that leaves while
 *       the kernel does not let its thread go.
 * Method: an image on a FUSE of our own that takes reads and does not answer them. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/stress/fuse-file.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define TOUCHERS 4
#define DISK_BYTES (4u << 20)
/* what is seen of a hanging image elsewhere, as watch.h says, and a busy machine */
#define STALL_NS (2500 * NS_PER_MS)
#define TEST_SECONDS 120

struct rig {
        struct test_server server;      /* only its name */
        pid_t pid;
        int backing_fd;
        struct fuse_file *file;
        struct guest hanging;
        struct toucher toucher[TOUCHERS];
};

static void sleep_ns(uint64_t ns)
{
        struct timespec t = { .tv_sec = (time_t)(ns / NS_PER_SEC),
                              .tv_nsec = (long)(ns % NS_PER_SEC) };

        nanosleep(&t, NULL);
}

static void start_daemon(struct rig *r)
{
        test_server_name(&r->server);
        r->pid = guest_run_self("--daemon", r->server.path, -1);
        test_server_await(&r->server);
}

static void start_guest(struct rig *r, struct guest *g)
{
        struct err e;

        MUST(ps_client_connect(r->server.path, &g->client, &e), &e);
        guest_map(g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        guest_attach(g, false);
}

static void start_hanging(struct rig *r)
{
        const struct fake_image image = { .seed = 9, .disk_bytes = DISK_BYTES,
                                          .cluster_bits = 12 };
        struct err e;

        r->backing_fd = fake_image_file(&image);
        if (fuse_file_new(r->backing_fd, &r->file, &e) < 0) {
                printf("skipped: %s\n", e.text);
                exit(77);
        }
        start_daemon(r);
        r->hanging = (struct guest){ .image = image, .image_fd = fuse_file_open(r->file) };
        TEST(r->hanging.image_fd >= 0);
        start_guest(r, &r->hanging);
        fuse_file_answers(r->file, false);
        for (unsigned i = 0; i < TOUCHERS; i++) {
                r->toucher[i] = (struct toucher){ .guest = &r->hanging, .seed = i };
                toucher_start(&r->toucher[i]);
        }
}

static void hanging_is_through(struct rig *r)
{
        for (unsigned i = 0; i < TOUCHERS; i++)
                TEST(toucher_join(&r->toucher[i], PATIENCE_MS) && r->toucher[i].wrong == 0);
}

/* One after the other, while the image hangs: all but the first see nothing of it. */
static void good_guests(struct rig *r)
{
        for (unsigned i = 0; i < 4; i++) {
                struct guest g = { .image = { .seed = 20 + i, .disk_bytes = DISK_BYTES,
                                              .cluster_bits = 12 } };
                struct toucher t = { .guest = &g, .seed = i };
                uint64_t begin_ns = clock_now_ns();

                g.image_fd = fake_image_file(&g.image);
                start_guest(r, &g);
                toucher_start(&t);
                TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
                TEST(clock_now_ns() - begin_ns < STALL_NS);
                guest_free(&g);
                close(g.image_fd);
        }
        printf("ok: others beside an image that hangs in the kernel\n");
}

static bool hung_up(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 5000) == 1 && (p.revents & (POLLIN | POLLHUP));
}

/* The kernel keeps the process until the read is over; nobody else has to wait for that. */
static void leaves(struct rig *r)
{
        int status;

        TEST(kill(r->pid, SIGTERM) == 0);
        TEST(hung_up(ps_client_fd(r->hanging.client)));
        sleep_ns(3 * NS_PER_SEC);
        TEST(access(r->server.path, F_OK) < 0);
        fuse_file_answers(r->file, true);
        TEST(waitpid(r->pid, &status, 0) == r->pid);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        test_server_unname(&r->server);
        printf("ok: SIGTERM while it hangs in the kernel\n");
}

static void stop_daemon(struct rig *r)
{
        int status;

        TEST(kill(r->pid, SIGTERM) == 0);
        TEST(waitpid(r->pid, &status, 0) == r->pid);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        test_server_unname(&r->server);
}

/* Of a client that leaves before it attaches the session ends, and closes the image, at
 * once. */
static void close_hangs(struct rig *r)
{
        struct guest g = { .image = r->hanging.image, .image_fd = r->hanging.image_fd };
        struct err e;

        guest_free(&r->hanging);
        MUST(ps_client_connect(r->server.path, &g.client, &e), &e);
        guest_map(&g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        fuse_file_answers(r->file, false);
        guest_free(&g);
        sleep_ns(NS_PER_SEC / 2);
        good_guests(r);
        fuse_file_answers(r->file, true);
        printf("ok: others beside an image that hangs while it is closed\n");
}

static void end(struct rig *r)
{
        close(r->hanging.image_fd);
        stop_daemon(r);
        fuse_file_free(r->file);
        close(r->backing_fd);
}

static void beside(void)
{
        struct rig r;

        start_hanging(&r);
        sleep_ns(NS_PER_SEC / 5);
        good_guests(&r);
        sleep_ns(3 * NS_PER_SEC);
        good_guests(&r);
        fuse_file_answers(r.file, true);
        hanging_is_through(&r);
        printf("ok: it goes on when its image answers\n");
        close_hangs(&r);
        end(&r);
}

static void ending(void)
{
        struct rig r;
        struct err e;

        start_hanging(&r);
        sleep_ns(NS_PER_SEC);
        leaves(&r);
        start_daemon(&r);
        guest_lose_server(&r.hanging);
        MUST(ps_client_connect(r.server.path, &r.hanging.client, &e), &e);
        guest_reattach(&r.hanging, PS_LANE_COPY, PS_PREFETCH_OFF);
        hanging_is_through(&r);
        guest_free(&r.hanging);
        end(&r);
}

int main(int argc, char **argv)
{
        test_server_role(argc, argv);
        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(TEST_SECONDS);
        beside();
        ending();
        return 0;
}
