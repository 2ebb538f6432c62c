/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-REATTACH: a private server may be killed at any moment; the guest only
 *       waits, and goes on with the next one. A server ends by itself once its
 *       client has died.
 * Method: kill -9 in the middle of slow reads, KILLS times for each lane, while
 *       threads look at every page; then a client that dies without a word. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define KILLS 20
#define TOUCHERS 3
#define PATIENCE_MS 60000

static void start_server(struct guest *g)
{
        struct err e;

        MUST(ps_client_spawn("/proc/self/exe", &g->client, &e), &e);
        TEST(ps_client_pid(g->client) > 0);
}

static unsigned touched(struct toucher *t)
{
        unsigned n = 0;

        for (unsigned i = 0; i < TOUCHERS; i++)
                n += atomic_load(&t[i].touched);
        return n;
}

/* until the threads have come so far, or are all done */
static void await_progress(struct toucher *t, unsigned goal)
{
        struct timespec moment = { .tv_nsec = 200000 };

        for (int i = 0; touched(t) < goal; i++) {
                TEST(i < PATIENCE_MS * 5);
                nanosleep(&moment, NULL);
        }
}

static void kill_server(struct guest *g)
{
        pid_t pid = ps_client_pid(g->client);
        struct err e;
        struct ps_event event;
        int rc;

        TEST(kill(pid, SIGKILL) == 0);
        TEST(waitpid(pid, NULL, 0) == pid);
        do
                rc = ps_client_event(g->client, &event, &e);
        while (rc == 0);
        TEST(rc == -EPIPE);
        guest_lose_server(g);
}

static void play(enum ps_lane lane)
{
        struct fake_image image = {
                .seed = 99 + lane, .disk_bytes = 16 << 20, .cluster_bits = 13, .slow_us = 300,
        };
        struct guest g = { .image = image, .image_fd = fake_image_file(&image) };
        struct toucher t[TOUCHERS];
        unsigned all = TOUCHERS * ((16 << 20) - (384 << 10)) / 4096;

        start_server(&g);
        guest_map(&g, lane, PS_PREFETCH_OFF, 0);
        guest_attach(&g, false);
        for (unsigned i = 0; i < TOUCHERS; i++) {
                t[i] = (struct toucher){ .guest = &g, .seed = i * 3 + 1 };
                toucher_start(&t[i]);
        }
        for (unsigned k = 0; k < KILLS; k++) {
                await_progress(t, all / (KILLS + 1) * (k + 1));
                kill_server(&g);
                start_server(&g);
                guest_reattach(&g, lane, k % 2 ? 8ull << 20 : PS_PREFETCH_OFF);
        }
        for (unsigned i = 0; i < TOUCHERS; i++) {
                TEST(toucher_join(&t[i], PATIENCE_MS));
                TEST(t[i].wrong == 0);
        }
        TEST(touched(t) == all);

        pid_t pid = ps_client_pid(g.client);

        guest_free(&g);
        TEST(kill(pid, SIGTERM) == 0 && waitpid(pid, NULL, 0) == pid);
        close(g.image_fd);
        printf("ok: %u kills in the %s lane\n", KILLS, lane == PS_LANE_COPY ? "copy" : "shared");
}

/* --orphan: attaches, touches some, dies with the server at work */
static int orphan(void)
{
        struct fake_image image = { .seed = 5, .disk_bytes = 8 << 20, .cluster_bits = 12 };
        struct guest g = { .image = image, .image_fd = fake_image_file(&image) };
        struct toucher t = { .guest = &g, .seed = 3, .pages = 50 };

        start_server(&g);
        guest_map(&g, PS_LANE_SHARED, 1 << 20, 0);
        guest_attach(&g, false);
        toucher_start(&t);
        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        raise(SIGKILL);
        return 1;
}

static void orphaned_server_ends(void)
{
        TEST(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);

        pid_t pid = guest_run_self("--orphan", NULL, -1);
        int status;

        TEST(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        /* the server is our child now; alarm() ends the test if it stays */
        TEST(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        printf("ok: a server ends after its client\n");
}

int main(int argc, char **argv)
{
        setbuf(stdout, NULL);
        test_server_role(argc, argv);
        guest_need_uffd();
        if (argc == 2 && !strcmp(argv[1], "--orphan"))
                return orphan();
        alarm(120);
        play(PS_LANE_SHARED);
        play(PS_LANE_COPY);
        orphaned_server_ends();
        return 0;
}
