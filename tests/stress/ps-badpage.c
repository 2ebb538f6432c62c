/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-VERIFIED: a cluster that cannot be read never reaches the guest: its
 *       client hears which and why, the thread waits, everything else goes on, and
 *       after a repair a retry brings the right bytes.
 *       A client that dies meanwhile is not kept from going (INV-HOLE).
 * Method: bad clusters in the image, with and without prefetch, in both lanes. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define CLUSTER_BITS 14

static void spoil(struct fake_image *image)
{
        for (uint64_t c = 100; image->bads < 3; c += 37) {
                if (!fake_is_zero(image, c))
                        image->bad[image->bads++] = c;
        }
}

static bool is_bad(const struct fake_image *image, uint64_t gpa)
{
        for (uint32_t i = 0; i < image->bads; i++) {
                if (image->bad[i] == gpa >> CLUSTER_BITS)
                        return true;
        }
        return false;
}

/* the sweep passes all the rest; then it rests */
static void await_sweep(struct guest *g)
{
        struct ps_stats s;

        do
                guest_stats(g, &s);
        while (s.present_bytes < s.total_bytes - (3ull << CLUSTER_BITS));
        TEST(s.present_bytes == s.total_bytes - (3ull << CLUSTER_BITS));
        TEST(s.resident_ns == 0);
}

static void play(const char *socket_path, enum ps_lane lane, uint64_t prefetch)
{
        struct fake_image image = {
                .seed = 1000 + lane + prefetch % 7, .disk_bytes = 8 << 20,
                .cluster_bits = CLUSTER_BITS,
        };
        struct fake_image repaired = image;

        spoil(&image);

        struct guest g = { .image = image, .image_fd = fake_image_file(&image) };
        struct toucher t = { .guest = &g, .seed = 11 };
        struct ps_event event;
        struct ps_stats s;
        struct err e;

        MUST(ps_client_connect(socket_path, &g.client, &e), &e);
        guest_map(&g, lane, prefetch, 0);
        guest_attach(&g, false);
        if (prefetch)
                await_sweep(&g);
        toucher_start(&t);
        guest_wait(&g, PS_EVENT_BAD_PAGE, &event);
        TEST(is_bad(&image, event.gpa));
        TEST(strstr(event.text, "is bad") != NULL);
        TEST(!toucher_join(&t, 50));
        guest_stats(&g, &s);
        TEST(s.bad_clusters == (prefetch ? 3u : 1u));

        /* too early: nothing is repaired, so it is reported again */
        MUST(ps_client_retry(g.client, &e), &e);
        guest_wait(&g, PS_EVENT_BAD_PAGE, &event);
        TEST(is_bad(&image, event.gpa));
        TEST(!toucher_join(&t, 20));

        fake_image_update(g.image_fd, &repaired);
        MUST(ps_client_retry(g.client, &e), &e);
        TEST(toucher_join(&t, PATIENCE_MS));
        TEST(t.wrong == 0);
        guest_stats(&g, &s);
        if (!s.resident_ns)
                guest_wait(&g, PS_EVENT_RESIDENT, &event);
        guest_stats(&g, &s);
        TEST(s.bad_clusters == 0 && s.present_bytes == s.total_bytes);
        guest_free(&g);
        close(g.image_fd);
        printf("ok: %s lane, prefetch %s\n", lane == PS_LANE_COPY ? "copy" : "shared",
               prefetch ? "on" : "off");
}

/* The client is a process of its own; another one, in the place of KVM's kernel
 * threads, reads its memory, which keeps that alive beyond its death. */
static pid_t dying_client(const char *socket_path, struct guest *g, int ready)
{
        pid_t pid = fork();
        struct err e;

        TEST(pid >= 0);
        if (pid > 0)
                return pid;
        MUST(ps_client_connect(socket_path, &g->client, &e), &e);
        guest_map(g, PS_LANE_SHARED, PS_PREFETCH_OFF, 0);
        guest_attach(g, false);
        TEST(write(ready, &g->ram, sizeof(g->ram)) == sizeof(g->ram));
        for (;;)
                pause();
}

static pid_t reader_of(pid_t pid, char *hva)
{
        char byte;
        struct iovec here = { .iov_base = &byte, .iov_len = 1 };
        struct iovec there = { .iov_base = hva, .iov_len = 1 };
        pid_t reader = fork();

        TEST(reader >= 0);
        if (reader == 0)
                _exit(process_vm_readv(pid, &here, 1, &there, 1, 0) == 1 && byte == 0 ? 0 : 1);
        return reader;
}

static void die_waiting(const char *socket_path)
{
        struct guest g = {
                .image = { .seed = 5, .disk_bytes = 8 << 20, .cluster_bits = CLUSTER_BITS },
        };
        int pipe_fds[2], status;
        char *ram;

        spoil(&g.image);
        g.image_fd = fake_image_file(&g.image);
        TEST(pipe(pipe_fds) == 0);

        pid_t client = dying_client(socket_path, &g, pipe_fds[1]);

        TEST(read(pipe_fds[0], &ram, sizeof(ram)) == sizeof(ram));

        pid_t reader = reader_of(client, ram + (g.image.bad[0] << CLUSTER_BITS));

        usleep(100 * 1000);
        TEST(waitpid(reader, &status, WNOHANG) == 0);
        kill(client, SIGKILL);
        TEST(waitpid(client, NULL, 0) == client);
        /* without the server's help this waits for ever, and alarm() ends the test */
        TEST(waitpid(reader, &status, 0) == reader);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        close(g.image_fd);
        printf("ok: a client that dies waiting is let go\n");
}

int main(void)
{
        struct test_server server;

        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(120);
        test_server_start(&server, 2);
        play(server.path, PS_LANE_SHARED, PS_PREFETCH_OFF);
        play(server.path, PS_LANE_SHARED, PS_PREFETCH_UNLIMITED);
        play(server.path, PS_LANE_COPY, PS_PREFETCH_OFF);
        play(server.path, PS_LANE_COPY, PS_PREFETCH_UNLIMITED);
        die_waiting(server.path);
        test_server_stop(&server);
        return 0;
}
