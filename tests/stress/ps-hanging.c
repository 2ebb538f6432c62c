/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a client whose image hangs keeps the others waiting once and not for long
 *       (INV-APART), however many there are; it goes on with the right bytes when its image
 *       answers again; and the server ends while it hangs.
 * Method: made-up images that do not answer as long as their file says so, read by more
 *         threads than there are workers; beside them a guest that touches page after page
 *         and notes what each took. Each case that does little but wait is a process. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/watch.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PAGE 4096u
#define PATIENCE_MS 60000
#define WORKERS 2
#define TOUCHERS 4
#define HANGING_BYTES (4u << 20)
#define GOOD_BYTES (128u << 20)
/* between two touches */
#define STEP_NS (2 * NS_PER_MS)
/* once, until it is seen that threads hang */
#define STALL_NS (2500 * NS_PER_MS)
/* nobody waits for another's disk: what a busy machine may take */
#define CALM_NS (200 * NS_PER_MS)
#define TEST_SECONDS 300

static void sleep_ns(uint64_t ns)
{
        struct timespec t = { .tv_sec = (time_t)(ns / NS_PER_SEC),
                              .tv_nsec = (long)(ns % NS_PER_SEC) };

        nanosleep(&t, NULL);
}

/* ---- a guest whose image hangs -------------------------------------------------------- */

struct hanging {
        struct guest guest;
        struct toucher toucher[TOUCHERS];
};

static void set_hangs(struct hanging *h, bool hangs)
{
        h->guest.image.hangs = hangs;
        fake_image_update(h->guest.image_fd, &h->guest.image);
}

static void connect_to(const char *path, struct guest *g)
{
        struct err e;

        MUST(ps_client_connect(path, &g->client, &e), &e);
}

static void hanging_start(struct hanging *h, const char *path, uint64_t seed, enum ps_lane lane)
{
        *h = (struct hanging){ .guest.image = {
                .seed = seed, .disk_bytes = HANGING_BYTES, .cluster_bits = 12 } };
        h->guest.image_fd = fake_image_file(&h->guest.image);
        connect_to(path, &h->guest);
        guest_map(&h->guest, lane, PS_PREFETCH_UNLIMITED, 0);
        set_hangs(h, true);
        guest_attach(&h->guest, false);
        for (unsigned i = 0; i < TOUCHERS; i++) {
                h->toucher[i] = (struct toucher){ .guest = &h->guest, .seed = seed * 7 + i };
                toucher_start(&h->toucher[i]);
        }
}

/* all of its pages, with the right bytes */
static void hanging_answers(struct hanging *h)
{
        set_hangs(h, false);
        for (unsigned i = 0; i < TOUCHERS; i++)
                TEST(toucher_join(&h->toucher[i], PATIENCE_MS) && h->toucher[i].wrong == 0);
}

static void hanging_end(struct hanging *h)
{
        guest_free(&h->guest);
        close(h->guest.image_fd);
}

/* ---- a guest that is watched ------------------------------------------------------------ */

struct good {
        struct guest guest;
        pthread_t thread;
        _Atomic bool stop;
        uint64_t pages;                 /* touched */
        uint64_t wrong;
        uint64_t max_ns;
        _Atomic unsigned stalls;        /* longer than CALM_NS */
        unsigned late;                  /* sleeps that were too long: the machine is busy */
};

static void *touch_slowly(void *arg)
{
        struct good *g = arg;
        struct guest *guest = &g->guest;

        for (uint64_t gpa = 0; gpa < guest->image.disk_bytes && !atomic_load(&g->stop);
             gpa += PAGE) {
                if (!guest_has(guest, gpa))
                        continue;

                uint64_t begin_ns = clock_now_ns();

                g->wrong += !fake_page_ok(&guest->image, gpa,
                                          (volatile uint64_t *)(guest->ram + gpa));

                uint64_t ns = clock_now_ns() - begin_ns;

                g->pages++;
                g->max_ns = MAX(g->max_ns, ns);
                g->stalls += ns > CALM_NS;
                begin_ns = clock_now_ns();
                sleep_ns(STEP_NS);
                g->late += clock_now_ns() - begin_ns > CALM_NS / 4;
        }
        return NULL;
}

static void good_start(struct good *g, const char *path, enum ps_lane lane)
{
        *g = (struct good){ .guest.image = {
                .seed = 5, .disk_bytes = GOOD_BYTES, .cluster_bits = 12 } };
        g->guest.image_fd = fake_image_file(&g->guest.image);
        connect_to(path, &g->guest);
        guest_map(&g->guest, lane, PS_PREFETCH_OFF, 0);
        guest_attach(&g->guest, false);
        TEST(pthread_create(&g->thread, NULL, touch_slowly, g) == 0);
}

static void good_end(struct good *g)
{
        atomic_store(&g->stop, true);
        TEST(pthread_join(g->thread, NULL) == 0);
        TEST(g->wrong == 0);
        guest_free(&g->guest);
        close(g->guest.image_fd);
}

/* until it was kept waiting once more, or nobody does it */
static void await_stall(struct good *g, unsigned before)
{
        for (uint64_t ns = 0; ns < NS_PER_SEC && g->stalls == before; ns += STEP_NS)
                sleep_ns(STEP_NS);
}

/* Once for each of n, and what a busy machine adds. */
static bool was_calm(const struct good *g, unsigned n)
{
        return g->max_ns < STALL_NS && g->stalls <= n + n / 8 + g->late;
}

/* ---- cases -------------------------------------------------------------------------------- */

static void one_stall(enum ps_lane lane, const char *name)
{
        struct test_server server;
        struct hanging bad;
        struct good good;

        test_server_start(&server, WORKERS);
        good_start(&good, server.path, lane);
        sleep_ns(NS_PER_SEC / 5);
        hanging_start(&bad, server.path, 11, lane);
        sleep_ns(4 * NS_PER_SEC);
        hanging_answers(&bad);
        good_end(&good);
        printf("ok: %s lane, %llu pages, longest %llu ms, %u stalls\n", name,
               (unsigned long long)good.pages, (unsigned long long)(good.max_ns / NS_PER_MS),
               good.stalls);
        TEST(was_calm(&good, 1));
        TEST(good.pages > 200);
        hanging_end(&bad);
        test_server_stop(&server);
}

/* The second one of an image that hangs already costs nobody anything. */
static void a_clone_too(void)
{
        struct test_server server;
        struct hanging first;
        struct guest clone;
        struct toucher t = { .guest = &clone, .seed = 3 };
        struct good good;

        test_server_start(&server, WORKERS);
        hanging_start(&first, server.path, 12, PS_LANE_SHARED);
        clone = (struct guest){ .image = first.guest.image, .image_fd = first.guest.image_fd };
        sleep_ns(3 * NS_PER_SEC);
        good_start(&good, server.path, PS_LANE_SHARED);
        connect_to(server.path, &clone);
        guest_map(&clone, PS_LANE_SHARED, PS_PREFETCH_UNLIMITED, 0);
        guest_attach(&clone, false);
        toucher_start(&t);
        sleep_ns(NS_PER_SEC);
        good_end(&good);
        TEST(good.stalls <= good.late);
        hanging_answers(&first);
        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        guest_free(&clone);
        hanging_end(&first);
        test_server_stop(&server);
        printf("ok: a clone of an image that hangs\n");
}

/* Its client leaves; the thread that hangs keeps what it needs until it comes out. */
static void left_behind(void)
{
        struct test_server server;
        struct hanging bad;
        struct good good;

        test_server_start(&server, WORKERS);
        hanging_start(&bad, server.path, 13, PS_LANE_SHARED);
        good_start(&good, server.path, PS_LANE_SHARED);
        sleep_ns(3 * NS_PER_SEC);
        guest_lose_server(&bad.guest);
        sleep_ns(NS_PER_SEC);
        hanging_answers(&bad);          /* a session that drains is served (INV-HOLE) */
        good_end(&good);
        TEST(good.stalls <= 1 + good.late);
        hanging_end(&bad);
        test_server_stop(&server);
        printf("ok: a client that leaves\n");
}

/* ---- opening ------------------------------------------------------------------------------- */

struct opener {
        const char *path;
        struct fake_image image;
        int image_fd;
        pthread_t thread;
        int rc;
        uint64_t ns;
        struct err err;
};

static void *hello(void *arg)
{
        struct opener *o = arg;
        uint64_t begin_ns = clock_now_ns();
        struct ps_welcome welcome;
        struct ps_client *c;
        const struct ps_hello h = {
                .image_fds = &o->image_fd, .nimages = 1, .image_path = "far away",
                .cache_fd = -1, .filled_fd = -1, .map_fd = -1, .removed_fd = -1,
        };

        o->rc = ps_client_connect(o->path, &c, &o->err);
        if (o->rc < 0)
                return NULL;
        o->rc = ps_client_hello(c, &h, &welcome, &o->err);
        o->ns = clock_now_ns() - begin_ns;
        ps_client_free(c);
        return NULL;
}

static void opener_start(struct opener *o, const struct test_server *server, uint64_t seed)
{
        *o = (struct opener){ .path = server->path, .image = {
                .seed = seed, .disk_bytes = HANGING_BYTES, .cluster_bits = 12,
                .opens_never = true } };
        o->image_fd = fake_image_file(&o->image);
        TEST(pthread_create(&o->thread, NULL, hello, o) == 0);
}

static void opener_answers(struct opener *o)
{
        o->image.opens_never = false;
        fake_image_update(o->image_fd, &o->image);
}

static int one_hello(const struct test_server *server)
{
        struct opener o = { .path = server->path, .image = {
                .seed = 77, .disk_bytes = HANGING_BYTES, .cluster_bits = 12 } };

        o.image_fd = fake_image_file(&o.image);
        hello(&o);
        close(o.image_fd);
        return o.rc;
}

/* Until nobody is taken in any more; those who are there notice nothing but once of each. */
static void as_many_as_may(void)
{
        static struct hanging bad[HANDS_SPARE];
        struct test_server server;
        struct good good;
        unsigned n = 0;

        test_server_start(&server, WORKERS);
        good_start(&good, server.path, PS_LANE_COPY);
        while (n < HANDS_SPARE && one_hello(&server) != -EBUSY) {
                unsigned before = good.stalls;

                hanging_start(&bad[n], server.path, 100 + n, PS_LANE_COPY);
                n++;
                await_stall(&good, before);
        }
        TEST(n >= HANDS_SPARE / (2 * WORKERS) && n < HANDS_SPARE);
        sleep_ns(NS_PER_SEC);
        for (unsigned i = 0; i < n; i++)
                hanging_answers(&bad[i]);
        good_end(&good);
        printf("ok: %u at a time, longest %llu ms, %u stalls\n", n,
               (unsigned long long)(good.max_ns / NS_PER_MS), good.stalls);
        TEST(was_calm(&good, n));
        TEST(one_hello(&server) == 0);
        for (unsigned i = 0; i < n; i++)
                hanging_end(&bad[i]);
        test_server_stop(&server);
}

/* Most are turned away in time and by name, one is opened late, and the last one leaves;
 * somebody else comes in meanwhile and notices nothing. */
static void never_open(void)
{
        enum { OPENERS = 8 };
        static struct opener o[OPENERS];
        struct test_server server;
        struct good good;

        test_server_start(&server, WORKERS);
        for (unsigned i = 0; i < OPENERS; i++)
                opener_start(&o[i], &server, 200 + i);
        sleep_ns(NS_PER_SEC / 2);

        uint64_t begin_ns = clock_now_ns();

        good_start(&good, server.path, PS_LANE_SHARED);
        TEST(clock_now_ns() - begin_ns < NS_PER_SEC);
        opener_answers(&o[0]);
        TEST(pthread_join(o[0].thread, NULL) == 0);
        TEST(o[0].rc == 0 && o[0].ns < 5 * NS_PER_SEC);
        for (unsigned i = 1; i < OPENERS; i++) {
                TEST(pthread_join(o[i].thread, NULL) == 0);
                TEST(o[i].rc == -ETIMEDOUT && strstr(o[i].err.text, "far away"));
                TEST(o[i].ns > 9 * NS_PER_SEC && o[i].ns < 14 * NS_PER_SEC);
        }
        good_end(&good);
        TEST(good.stalls <= good.late && good.pages > 1000);
        for (unsigned i = 1; i < OPENERS; i++)
                opener_answers(&o[i]);
        test_server_stop(&server);
        for (unsigned i = 0; i < OPENERS; i++)
                close(o[i].image_fd);
        printf("ok: images that do not open: %s\n", o[1].err.text);
}

/* In a process of its own, for its threads cannot be joined. */
static void ends_all_the_same(void)
{
        struct test_server server;
        struct hanging bad;
        struct opener opener;
        uint64_t begin_ns;
        int status;
        pid_t pid;

        test_server_name(&server);
        pid = guest_run_self("--daemon", server.path, -1);
        test_server_await(&server);
        hanging_start(&bad, server.path, 14, PS_LANE_COPY);
        opener_start(&opener, &server, 15);
        sleep_ns(NS_PER_SEC);
        begin_ns = clock_now_ns();
        TEST(kill(pid, SIGTERM) == 0);
        TEST(waitpid(pid, &status, 0) == pid);
        printf("ended after %llu ms, status %#x\n",
               (unsigned long long)((clock_now_ns() - begin_ns) / NS_PER_MS), (unsigned)status);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        TEST(clock_now_ns() - begin_ns < 6 * NS_PER_SEC);
        TEST(access(server.path, F_OK) < 0);
        TEST(pthread_join(opener.thread, NULL) == 0 && opener.rc < 0);
        close(opener.image_fd);

        /* the next server serves what this one left */
        pid = guest_run_self("--daemon", server.path, -1);
        test_server_await(&server);
        guest_lose_server(&bad.guest);
        connect_to(server.path, &bad.guest);
        guest_reattach(&bad.guest, PS_LANE_COPY, PS_PREFETCH_OFF);
        hanging_answers(&bad);
        hanging_end(&bad);
        TEST(kill(pid, SIGTERM) == 0);
        TEST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        test_server_unname(&server);
        printf("ok: SIGTERM while it hangs\n");
}

/* ---- a private server ------------------------------------------------------------------------ */

/* a process: its server's number goes into the file; then it hangs */
static int private_client(const char *path)
{
        struct guest g = { .image_fd = 4 };
        struct err e;

        TEST(pread(4, &g.image, sizeof(g.image), 0) == sizeof(g.image));
        MUST(ps_client_spawn("/proc/self/exe", &g.client, &e), &e);
        guest_map(&g, PS_LANE_SHARED, PS_PREFETCH_UNLIMITED, 0);
        guest_attach(&g, false);

        FILE *f = fopen(path, "w");

        TEST(f && fprintf(f, "%d\n", (int)ps_client_pid(g.client)) > 0 && fclose(f) == 0);
        for (uint64_t gpa = 0; gpa < g.image.disk_bytes; gpa += PAGE)
                (void)*(volatile char *)(g.ram + gpa);
        return 1;
}

static int await_server_of(const char *path)
{
        for (unsigned i = 0; i < 1000; i++) {
                FILE *f = fopen(path, "r");
                int pid;
                bool there = f && fscanf(f, "%d\n", &pid) == 1;

                if (f)
                        fclose(f);
                if (there)
                        return (int)syscall(SYS_pidfd_open, pid, 0);
                sleep_ns(10 * NS_PER_MS);
        }
        return -1;
}

static void private_ends(void)
{
        const struct fake_image image = { .seed = 16, .disk_bytes = HANGING_BYTES,
                                          .cluster_bits = 12, .hangs = true };
        char path[] = "ps-pid-XXXXXX";
        int file = mkstemp(path);
        int image_fd = fake_image_file(&image);
        pid_t client = guest_run_self("--private-client", path, image_fd);
        struct pollfd server = { .fd = await_server_of(path), .events = POLLIN };

        TEST(file >= 0 && server.fd >= 0);
        sleep_ns(NS_PER_SEC);
        TEST(poll(&server, 1, 0) == 0);
        TEST(kill(client, SIGKILL) == 0 && waitpid(client, NULL, 0) == client);
        TEST(poll(&server, 1, 15000) == 1);
        close(server.fd);
        close(image_fd);
        close(file);
        unlink(path);
        printf("ok: a private server ends after its client, while the image hangs\n");
}

static void stall_by_copies(void) { one_stall(PS_LANE_COPY, "copy"); }
static void stall_shared(void) { one_stall(PS_LANE_SHARED, "shared"); }

static void (*const waiting[])(void) = { never_open, stall_by_copies, stall_shared, a_clone_too,
                                         left_behind, ends_all_the_same, private_ends };

int main(int argc, char **argv)
{
        int status, failed = 0;

        test_server_role(argc, argv);
        if (argc == 3 && !strcmp(argv[1], "--private-client"))
                return private_client(argv[2]);
        setbuf(stdout, NULL);
        guest_need_uffd();
        for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
                pid_t pid = fork();

                TEST(pid >= 0);
                if (pid == 0) {
                        alarm(TEST_SECONDS);
                        waiting[i]();
                        return 0;
                }
        }
        while (wait(&status) > 0)
                failed |= status;
        alarm(TEST_SECONDS);
        as_many_as_may();
        return failed != 0;
}
