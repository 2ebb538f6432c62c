/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the installed program serves a real image: zero, raw and packed clusters reach
 *       a guest as they were written, in both lanes, from fault and prefetch, out of one
 *       file or of a chain; a damaged cluster does not, of whichever file.
 * Method: qs_writer makes an image, `pageserver --private` of the build folder serves
 *       it, every byte is compared; then a delta over it whose parent's name leads
 *       nowhere any more; then one byte of the parent is flipped. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/client.h"
#include "pageserver/uffd.h"
#include "qcowstore/store.h"

#define DISK_BYTES (8u << 20)
#define CLUSTER_BITS 14
#define CLUSTER (1u << CLUSTER_BITS)
#define IMAGE "ps-image.qcow2"
#define DELTA "ps-image-delta.qcow2"
#define FILES 2

#define TEST(cond) must((cond), #cond, __LINE__)
#define MUST(rc, e) must((rc) >= 0, (e)->text, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "ps-image.c:%d: failed: %s\n", line, what);
        exit(1);
}

/* a third zeros, a third noise (stored raw), a third text (packed) */
static void fill(uint8_t *ram)
{
        uint64_t x = 88172645463325252ull;

        for (size_t i = 0; i < DISK_BYTES; i++) {
                switch (i / CLUSTER % 3) {
                case 0:
                        ram[i] = 0;
                        break;
                case 1:
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        ram[i] = (uint8_t)x;
                        break;
                default:
                        ram[i] = (uint8_t)('a' + i / 64 % 26);
                }
        }
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        (void)bytes;
        (void)buf;
        (void)ret;
        (void)e;
        return (const uint8_t *)ctx + gpa;
}

static void write_image(const char *path, uint8_t *ram, const char *backing)
{
        struct qs_writer_options o = {
                .cluster_bits = CLUSTER_BITS, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1,
                .threads = 1, .disk_bytes = DISK_BYTES, .force = true,
                .backing = backing,
        };
        struct qs_ram_range all = { .gpa = 0, .bytes = DISK_BYTES };
        struct qs_ram_source source = { .span = span, .ctx = ram };
        struct qs_writer *w = NULL;
        struct qs_writer_stats s;
        struct err e;

        MUST(qs_writer_new(path, &o, &w, &e), &e);
        MUST(qs_writer_ram(w, &all, 1, &source, NULL, NULL, &e), &e);
        MUST(qs_writer_publish(w, &e), &e);
        qs_writer_stats(w, &s);
        TEST(backing || s.clusters_zero > 100);
        TEST(backing || (s.clusters_raw > 100 && s.clusters_packed > 10));
        qs_writer_free(w);
}

struct served {
        struct ps_client *client;
        uint8_t *map;
        int uffd;
};

static void serve(struct served *s, const int *fds, size_t n, enum ps_lane lane,
                  uint64_t prefetch)
{
        struct ps_hello hello = {
                .image_fds = fds, .nimages = n, .image_path = IMAGE, .lane = lane,
                .prefetch_rate = prefetch, .cache_fd = -1, .filled_fd = -1,
                .map_fd = -1, .removed_fd = -1,
        };
        struct ps_welcome welcome;
        struct err e;

        MUST(ps_client_spawn("pageserver/pageserver", &s->client, &e), &e);
        MUST(ps_client_hello(s->client, &hello, &welcome, &e), &e);
        s->map = mmap(NULL, DISK_BYTES, PROT_NONE,
                      MAP_PRIVATE | (lane == PS_LANE_COPY ? MAP_ANONYMOUS : 0), welcome.map_fd, 0);
        TEST(s->map != MAP_FAILED);
        MUST(uffd_open(0, &s->uffd, &e), &e);

        struct ps_region region = { .hva = (uintptr_t)s->map, .bytes = DISK_BYTES };

        MUST(uffd_register_missing(s->uffd, region.hva, DISK_BYTES, &e), &e);
        TEST(mprotect(s->map, DISK_BYTES, PROT_READ | PROT_WRITE) == 0);
        MUST(ps_client_attach(s->client, &region, 1, &s->uffd, 1, false, &e), &e);
        fd_close(&welcome.map_fd);
        fd_close(&welcome.cache_fd);
        fd_close(&welcome.filled_fd);
}

/* This process lives on, so its server would serve on too. */
static void stop(struct served *s)
{
        pid_t pid = ps_client_pid(s->client);
        int status = 1;

        munmap(s->map, DISK_BYTES);
        close(s->uffd);
        ps_client_free(s->client);
        TEST(kill(pid, SIGTERM) == 0);
        TEST(waitpid(pid, &status, 0) == pid);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void good_image(const int *fds, size_t n, const uint8_t *ram, enum ps_lane lane,
                       uint64_t prefetch)
{
        struct served s;
        struct ps_event event;
        struct err e;

        serve(&s, fds, n, lane, prefetch);
        if (prefetch) {
                MUST(ps_client_event(s.client, &event, &e), &e);
                TEST(event.type == PS_EVENT_RESIDENT);
        }
        TEST(!memcmp(s.map, ram, DISK_BYTES));
        stop(&s);
}

/* The first zeros, the second noise and the third text become something else. */
static void change(uint8_t *ram)
{
        for (size_t i = 0; i < DISK_BYTES / 4; i++) {
                if (i / CLUSTER % 5 == 0)
                        ram[i] = i / CLUSTER % 2 ? 0 : (uint8_t)(i * 7 >> 3);
        }
}

static void refused_without_parent(int delta_fd)
{
        const struct ps_hello hello = {
                .image_fds = &delta_fd, .nimages = 1, .image_path = DELTA,
                .cache_fd = -1, .filled_fd = -1,
                .map_fd = -1, .removed_fd = -1,
        };
        struct ps_client *client;
        struct ps_welcome welcome;
        struct err e;

        MUST(ps_client_spawn("pageserver/pageserver", &client, &e), &e);
        TEST(ps_client_hello(client, &hello, &welcome, &e) == -ENOTSUP);
        TEST(strstr(e.text, "cannot be reached from here") != NULL);
        ps_client_abandon(client);
}

static void in_all_ways(const int *fds, size_t n, const uint8_t *ram)
{
        good_image(fds, n, ram, PS_LANE_SHARED, PS_PREFETCH_OFF);
        good_image(fds, n, ram, PS_LANE_SHARED, PS_PREFETCH_UNLIMITED);
        good_image(fds, n, ram, PS_LANE_COPY, PS_PREFETCH_OFF);
        good_image(fds, n, ram, PS_LANE_COPY, PS_PREFETCH_UNLIMITED);
}

/* INV-VERIFIED with real damage: prefetch passes it, everything else is right */
static void damaged_parent(int delta_fd, const uint8_t *ram)
{
        AUTO_FD fd = open(IMAGE, O_RDWR | O_CLOEXEC);
        AUTO_FREE uint8_t *file = NULL;
        struct stat st;
        struct served s;
        struct ps_event event;
        struct err e;

        TEST(fd >= 0 && fstat(fd, &st) == 0);
        file = malloc((size_t)st.st_size);
        TEST(file && pread(fd, file, (size_t)st.st_size, 0) == st.st_size);

        /* a raw cluster: its bytes are in the file as they are */
        uint8_t *at = memmem(file, (size_t)st.st_size, ram + CLUSTER, CLUSTER);
        uint8_t flipped = (uint8_t)(ram[CLUSTER + 100] ^ 4);

        TEST(at != NULL);
        TEST(pwrite(fd, &flipped, 1, at - file + 100) == 1);
        serve(&s, (int[]){ delta_fd, fd }, FILES, PS_LANE_SHARED, PS_PREFETCH_UNLIMITED);
        do {
                MUST(ps_client_ask_stats(s.client, &e), &e);
                MUST(ps_client_event(s.client, &event, &e), &e);
                TEST(event.type == PS_EVENT_STATS);
        } while (event.stats.present_bytes < DISK_BYTES - CLUSTER);
        TEST(event.stats.present_bytes == DISK_BYTES - CLUSTER);
        TEST(event.stats.resident_ns == 0);
        TEST(!memcmp(s.map + 2 * CLUSTER, ram + 2 * CLUSTER, DISK_BYTES - 2 * CLUSTER));
        stop(&s);
}

int main(void)
{
        struct err e;
        int probe;

        setbuf(stdout, NULL);
        alarm(60);
        if (uffd_open(0, &probe, &e) < 0) {
                printf("skipped: %s\n", e.text);
                return 77;
        }
        close(probe);

        AUTO_FREE uint8_t *ram = malloc(DISK_BYTES);

        TEST(ram != NULL);
        fill(ram);
        write_image(IMAGE, ram, NULL);

        int fds[FILES] = { -1, open(IMAGE, O_RDONLY | O_CLOEXEC) };

        TEST(fds[1] >= 0);
        in_all_ways(fds + 1, 1, ram);
        change(ram);
        write_image(DELTA, ram, IMAGE);
        fds[0] = open(DELTA, O_RDONLY | O_CLOEXEC);
        TEST(fds[0] >= 0);
        TEST(rename(IMAGE, IMAGE ".away") == 0);        /* no name is followed */
        in_all_ways(fds, FILES, ram);
        refused_without_parent(fds[0]);
        TEST(rename(IMAGE ".away", IMAGE) == 0);
        close(fds[1]);
        damaged_parent(fds[0], ram);
        close(fds[0]);
        unlink(IMAGE);
        unlink(DELTA);
        return 0;
}
