/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: clones of one image share what was read once, each cluster is read for one
 *       of them only; a clone that is killed with faults pending harms none of them
 *       (INV-HOLE). Killing the daemon blocks them, and they go on in the copy lane
 *       of the next one over the cache of the first (INV-HELD).
 * Method: a daemon and clones in processes of their own, slow reads. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define VICTIMS 8
#define DISK_BYTES (8u << 20)

static pid_t start_daemon(const struct test_server *t)
{
        pid_t pid = guest_run_self("--daemon", t->path, -1);

        test_server_await(t);
        return pid;
}

static void clone_start(struct guest *g, const struct fake_image *image, int image_fd,
                        const char *socket_path)
{
        struct err e;

        *g = (struct guest){ .image = *image, .image_fd = image_fd };
        MUST(ps_client_connect(socket_path, &g->client, &e), &e);
        guest_map(g, PS_LANE_AUTO, PS_PREFETCH_OFF, 0);
        TEST(g->welcome.lane == PS_LANE_SHARED);
        TEST(g->welcome.cache_fd < 0 && g->welcome.filled_fd < 0);      /* INV-READONLY */
        guest_attach(g, false);
}

static void look_at_all(struct guest *g)
{
        struct toucher t = { .guest = g, .seed = 23 };

        toucher_start(&t);
        TEST(toucher_join(&t, PATIENCE_MS));
        TEST(t.wrong == 0);
}

static void second_and_third_read_nothing(const char *socket_path)
{
        struct fake_image image = { .seed = 61, .disk_bytes = DISK_BYTES, .cluster_bits = 14 };
        int image_fd = fake_image_file(&image);
        struct guest g[3];
        struct ps_stats s;
        uint64_t zeros = 0;

        for (uint64_t c = 0; c < DISK_BYTES >> 14; c++)
                zeros += fake_is_zero(&image, c);
        for (unsigned i = 0; i < ARRAY_SIZE(g); i++) {
                clone_start(&g[i], &image, image_fd, socket_path);
                look_at_all(&g[i]);
                guest_stats(&g[i], &s);
                TEST(s.prefetch_bytes == 0);
                if (i == 0) {
                        TEST(s.demand_bytes > 0);
                        continue;
                }
                /* zero pages are each clone's own: those are all it asks for */
                TEST(s.demand_bytes == 0);
                TEST(s.demand_faults <= zeros);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(g); i++)
                guest_free(&g[i]);
        close(image_fd);
        printf("ok: clones find pages without a message\n");
}

/* --victim PATH, image on 4: four threads that are killed while they wait */
static int victim(const char *socket_path)
{
        struct fake_image image;
        struct guest g;
        struct toucher t[GUEST_TOUCHERS_MAX];

        TEST(pread(4, &image, sizeof(image), 0) == sizeof(image));
        clone_start(&g, &image, 4, socket_path);
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
                t[i] = (struct toucher){ .guest = &g, .seed = 40 + i };
                toucher_start(&t[i]);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
                pthread_join(t[i].thread, NULL);
        pause();
        return 0;
}

static void killed_clones_harm_nobody(const char *socket_path)
{
        for (unsigned k = 0; k < VICTIMS; k++) {
                struct fake_image image = {
                        .seed = 300 + k, .disk_bytes = DISK_BYTES, .cluster_bits = 13,
                        .slow_us = 200,
                };
                int image_fd = fake_image_file(&image);
                struct timespec moment = { .tv_nsec = 15000000 + k * 5000000 };
                struct guest sibling, late;
                struct toucher t = { .guest = &sibling, .seed = 7 };

                clone_start(&sibling, &image, image_fd, socket_path);

                pid_t pid = guest_run_self("--victim", socket_path, image_fd);

                toucher_start(&t);
                nanosleep(&moment, NULL);
                TEST(kill(pid, SIGKILL) == 0);
                TEST(waitpid(pid, NULL, 0) == pid);
                TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
                clone_start(&late, &image, image_fd, socket_path);
                look_at_all(&late);
                guest_free(&sibling);
                guest_free(&late);
                close(image_fd);
        }
        printf("ok: %u clones killed beside others\n", VICTIMS);
}

static void daemon_is_replaced(const struct test_server *t, pid_t *daemon)
{
        struct fake_image image = {
                .seed = 77, .disk_bytes = DISK_BYTES, .cluster_bits = 14, .slow_us = 500,
        };
        struct guest g;
        struct toucher toucher = { .guest = &g, .seed = 3 };
        struct timespec moment = { .tv_nsec = 30000000 };
        struct err e;

        clone_start(&g, &image, fake_image_file(&image), t->path);
        toucher_start(&toucher);
        nanosleep(&moment, NULL);
        TEST(kill(*daemon, SIGKILL) == 0 && waitpid(*daemon, NULL, 0) == *daemon);
        guest_lose_server(&g);
        TEST(!toucher_join(&toucher, 50));              /* INV-HELD: it blocks */
        *daemon = start_daemon(t);                      /* over a stale socket */
        MUST(ps_client_connect(t->path, &g.client, &e), &e);
        guest_reattach(&g, PS_LANE_COPY, PS_PREFETCH_OFF);
        TEST(toucher_join(&toucher, PATIENCE_MS) && toucher.wrong == 0);
        close(g.image_fd);
        guest_free(&g);
        printf("ok: a daemon is replaced\n");
}

int main(int argc, char **argv)
{
        struct test_server t;
        int status = 0;

        setbuf(stdout, NULL);
        test_server_role(argc, argv);
        if (argc == 3 && !strcmp(argv[1], "--victim"))
                return victim(argv[2]);
        guest_need_uffd();
        alarm(120);
        test_server_name(&t);

        pid_t daemon = start_daemon(&t);

        second_and_third_read_nothing(t.path);
        killed_clones_harm_nobody(t.path);
        daemon_is_replaced(&t, &daemon);
        TEST(kill(daemon, SIGTERM) == 0 && waitpid(daemon, &status, 0) == daemon);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        TEST(access(t.path, F_OK) < 0);
        test_server_unname(&t);
        return 0;
}
