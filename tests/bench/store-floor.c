/* SPDX-License-Identifier: Apache-2.0 */
/* store-floor - what saving and reading cost when nothing but the work itself
 * is done; and the reads of the store beside them, cluster by cluster.
 *
 *   store-floor compress RAW CLUSTER_BITS LEVEL THREADS
 *       every cluster with content by a bare ZSTD_compress2(), from memory to
 *       memory: "seconds cpu_seconds BYTES"
 *   store-floor reads IMAGE LEVEL COUNT
 *       random clusters by qs_cluster_read(), each followed by its floor: for
 *       a packed one ZSTD_decompressDCtx() of the same content, for a raw one
 *       a pread(); lines "KIND who p50_ns p99_ns", and "open - ns ns": open to
 *       first cluster
 *   store-floor time COMMAND...
 *       "seconds cpu_seconds anonymous_KiB_at_most" of a program that ends with status 0
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/io.h"
#include "qcowstore/chunk.h"
#include "qcowstore/store.h"
#include "qcowstore/sum.h"

#define ROUNDS 5
#define THREADS_MAX 64

static int by_value(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a;
        uint64_t y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static uint64_t part_of(uint64_t *sample, size_t n, unsigned percent)
{
        qsort(sample, n, sizeof(*sample), by_value);
        return sample[(n - 1) * percent / 100];
}

/* ---- compress ----------------------------------------------------------- */

struct squeeze {
        const uint8_t *ram;
        size_t bytes;
        size_t cluster;
        int level;
        _Atomic size_t next;
        _Atomic uint64_t packed;
};

static void *squeeze_part(void *arg)
{
        struct squeeze *s = arg;
        size_t room = ZSTD_compressBound(s->cluster);
        AUTO_FREE uint8_t *out = malloc(room);
        ZSTD_CCtx *zstd = ZSTD_createCCtx();
        const size_t step = 1 << 20;

        ASSERT(out && zstd);
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, s->level);
        for (size_t at; (at = atomic_fetch_add(&s->next, step)) < s->bytes;) {
                for (size_t i = at; i < MIN(at + step, s->bytes); i += s->cluster) {
                        if (sum_all_zero(s->ram + i, s->cluster))
                                continue;

                        size_t n = ZSTD_compress2(zstd, out, room, s->ram + i, s->cluster);

                        s->packed += MIN(s->cluster, n);
                }
        }
        ZSTD_freeCCtx(zstd);
        return NULL;
}

static uint64_t cpu_now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

static int compress(int argc, char **argv, struct err *e)
{
        if (argc != 4)
                return err_msg(e, EINVAL, "compress needs RAW CLUSTER_BITS LEVEL THREADS");

        AUTO_FD fd = open(argv[0], O_RDONLY | O_CLOEXEC);
        unsigned threads = MIN((unsigned)atoi(argv[3]), THREADS_MAX);
        struct squeeze s = { .cluster = (size_t)1 << atoi(argv[1]), .level = atoi(argv[2]) };
        uint64_t took[ROUNDS];
        uint64_t cpu[ROUNDS];
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open '%s'", argv[0]);
        s.bytes = ALIGN_DOWN((size_t)st.st_size, s.cluster);
        s.ram = mmap(NULL, s.bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        if (s.ram == MAP_FAILED)
                return err_set(e, errno, "map '%s'", argv[0]);
        for (unsigned r = 0; r < ROUNDS; r++) {
                pthread_t thread[THREADS_MAX];
                uint64_t start = clock_now_ns();
                uint64_t cpu_start = cpu_now_ns();

                s.next = s.packed = 0;
                for (unsigned i = 0; i < threads; i++) {
                        int rc = pthread_create(&thread[i], NULL, squeeze_part, &s);

                        ASSERT(rc == 0);
                }
                for (unsigned i = 0; i < threads; i++)
                        pthread_join(thread[i], NULL);
                took[r] = clock_now_ns() - start;
                cpu[r] = cpu_now_ns() - cpu_start;
        }
        printf("%.4f %.4f %llu\n", (double)part_of(took, ROUNDS, 50) / NS_PER_SEC,
               (double)part_of(cpu, ROUNDS, 50) / NS_PER_SEC, (unsigned long long)s.packed);
        return 0;
}

/* ---- reads -------------------------------------------------------------- */

struct reads {
        struct qs_image *image;
        struct qs_reader *reader;
        const char *path;
        size_t cluster;
        uint64_t clusters;
        uint64_t file_clusters;
        int level;
        size_t count;
        uint8_t *buf;
        uint8_t *plain;
        struct dedup *dedup;
        struct chunk *chunk;            /* makes the streams that are in the file */
        uint64_t *ours;
        uint64_t *floor;
        uint64_t random;
};

/* xorshift64 */
static uint64_t next_random(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static int open_once(const char *path, uint64_t *ret_ns, struct err *e)
{
        uint64_t start = clock_now_ns();
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        struct qs_image *image;
        struct qs_reader *reader = NULL;

        if (fd < 0)
                return err_set(e, errno, "open '%s'", path);

        int rc = qs_image_open(fd, path, NULL, &image, e);

        if (rc < 0)
                return rc;

        size_t cluster = (size_t)1 << qs_image_info(image)->cluster_bits;
        AUTO_FREE uint8_t *buf = malloc(cluster);

        rc = qs_reader_new(image, &reader, e);
        if (rc == 0)
                rc = qs_cluster_read(reader, qs_image_info(image)->disk_bytes / cluster / 2, buf,
                                     e);
        *ret_ns = clock_now_ns() - start;
        qs_reader_free(reader);
        qs_image_close(image);
        return rc;
}

/* A packed cluster is read twice, so that neither time has cold memory in it. */
static int one_packed(struct reads *r, uint64_t cluster, ZSTD_DCtx *zstd, size_t i,
                      struct err *e)
{
        int rc = qs_cluster_read(r->reader, cluster, r->buf, e);

        if (rc < 0)
                return rc;

        chunk_fill(r->chunk, 0, 1, r->buf);

        for (unsigned warm = 0; warm < 2; warm++) {
                uint64_t start = clock_now_ns();

                ZSTD_decompressDCtx(zstd, r->plain, r->cluster, r->chunk->streams,
                                    r->chunk->stream_bytes);
                r->floor[i] = clock_now_ns() - start;
                start = clock_now_ns();
                rc = qs_cluster_read(r->reader, cluster, r->buf, e);
                r->ours[i] = clock_now_ns() - start;
                if (rc < 0)
                        break;
        }
        return rc;
}

/* A raw one once, as libqcow's, which keeps what it has read; its floor is
 * another place of the file. */
static int one_raw(struct reads *r, uint64_t cluster, int fd, size_t i, struct err *e)
{
        uint64_t start = clock_now_ns();
        int rc = qs_cluster_read(r->reader, cluster, r->buf, e);

        r->ours[i] = clock_now_ns() - start;
        if (rc < 0)
                return rc;

        uint64_t at = next_random(&r->random) % r->file_clusters * r->cluster;

        start = clock_now_ns();
        rc = io_pread_full(fd, r->plain, r->cluster, at);
        r->floor[i] = clock_now_ns() - start;
        return rc < 0 ? err_set(e, -rc, "read '%s'", r->path) : 0;
}

static int read_kind(struct reads *r, enum qs_kind kind, const char *name, struct err *e)
{
        AUTO_FD fd = open(r->path, O_RDONLY | O_CLOEXEC);
        ZSTD_DCtx *zstd = ZSTD_createDCtx();
        size_t n = 0;
        int rc = 0;

        ASSERT(fd >= 0 && zstd);
        for (uint64_t tries = 0; rc == 0 && n < r->count && tries < r->count * 100; tries++) {
                uint64_t cluster = next_random(&r->random) % r->clusters;
                enum qs_kind is;

                rc = qs_cluster_kind(r->reader, cluster, &is, e);
                if (rc < 0 || is != kind)
                        continue;
                rc = kind == QS_PACKED ? one_packed(r, cluster, zstd, n, e)
                                       : one_raw(r, cluster, fd, n, e);
                n++;
        }
        ZSTD_freeDCtx(zstd);
        if (rc < 0 || n < r->count / 10)        /* too few of them to say anything */
                return rc;
        printf("%s ours %llu %llu\n", name, (unsigned long long)part_of(r->ours, n, 50),
               (unsigned long long)part_of(r->ours, n, 99));
        printf("%s floor %llu %llu\n", name, (unsigned long long)part_of(r->floor, n, 50),
               (unsigned long long)part_of(r->floor, n, 99));
        return 0;
}

static int read_both(struct reads *r, struct err *e)
{
        const struct qs_image_info *info = qs_image_info(r->image);
        int rc = qs_reader_new(r->image, &r->reader, e);

        r->cluster = (size_t)1 << info->cluster_bits;
        r->clusters = info->disk_bytes / r->cluster;
        r->file_clusters = info->file_bytes / r->cluster;
        r->buf = calloc(1, r->cluster);
        r->plain = calloc(1, r->cluster);
        r->dedup = dedup_new(1, 1, 1);
        r->chunk = chunk_new(info->cluster_bits, QS_COMPRESS_ZSTD, r->level, 1, r->dedup);
        r->ours = calloc(r->count, sizeof(*r->ours));
        r->floor = calloc(r->count, sizeof(*r->floor));
        ASSERT(r->buf && r->plain && r->dedup && r->chunk && r->ours && r->floor);
        if (rc == 0)
                rc = read_kind(r, QS_PACKED, "packed", e);
        if (rc == 0)
                rc = read_kind(r, QS_RAW, "raw", e);
        qs_reader_free(r->reader);
        free(r->buf);
        free(r->plain);
        chunk_free(r->chunk);
        dedup_free(r->dedup);
        free(r->ours);
        free(r->floor);
        return rc;
}

static int reads(int argc, char **argv, struct err *e)
{
        struct reads r = { .random = 88172645463325252 };
        uint64_t took[ROUNDS * 5];
        int rc = 0;

        if (argc != 3)
                return err_msg(e, EINVAL, "reads needs IMAGE LEVEL COUNT");
        r.path = argv[0];
        r.level = atoi(argv[1]);
        r.count = MAX((size_t)atoi(argv[2]), 10);
        for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(took); i++)
                rc = open_once(r.path, &took[i], e);
        if (rc < 0)
                return rc;
        printf("open - %llu %llu\n", (unsigned long long)part_of(took, ARRAY_SIZE(took), 50),
               (unsigned long long)part_of(took, ARRAY_SIZE(took), 99));

        AUTO_FD fd = open(r.path, O_RDONLY | O_CLOEXEC);

        rc = fd < 0 ? err_set(e, errno, "open '%s'", r.path)
                    : qs_image_open(fd, r.path, NULL, &r.image, e);
        if (rc < 0)
                return rc;
        rc = read_both(&r, e);
        qs_image_close(r.image);
        return rc;
}

/* ---- time --------------------------------------------------------------- */

/* Anonymous memory of a process, in KiB; it is polled, short peaks are missed. */
static long anonymous(pid_t pid)
{
        char path[64];
        char line[128];
        long kib = 0;

        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        FILE *f = fopen(path, "r");

        while (f && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "RssAnon: %ld", &kib) == 1)
                        break;
        }
        if (f)
                fclose(f);
        return kib;
}

static double seconds(const struct timeval *t)
{
        return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static int time_it(int argc, char **argv, struct err *e)
{
        if (argc < 1)
                return err_msg(e, EINVAL, "time needs a command");

        uint64_t start = clock_now_ns();
        pid_t pid = fork();
        struct rusage used;
        long top = 0;
        int status = 0;

        if (pid == 0) {
                dup2(STDERR_FILENO, STDOUT_FILENO);
                execvp(argv[0], argv);
                _exit(127);
        }
        if (pid < 0)
                return err_set(e, errno, "fork");
        while (wait4(pid, &status, WNOHANG, &used) == 0) {
                struct timespec nap = { 0, 2 * NS_PER_MS };

                top = MAX(top, anonymous(pid));
                nanosleep(&nap, NULL);
        }

        uint64_t took = clock_now_ns() - start;

        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return err_msg(e, EIO, "'%s' failed with status %d", argv[0], status);
        printf("%.4f %.4f %ld\n", (double)took / NS_PER_SEC,
               seconds(&used.ru_utime) + seconds(&used.ru_stime), top);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(int argc, char **argv, struct err *e);
} modes[] = {
        { "compress", compress },
        { "reads", reads },
        { "time", time_it },
};

int main(int argc, char **argv)
{
        struct err e = { 0 };

        for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(modes); i++) {
                if (strcmp(argv[1], modes[i].name) != 0)
                        continue;
                if (modes[i].run(argc - 2, argv + 2, &e) == 0)
                        return 0;
                err_print("store-floor", &e);
                return 1;
        }
        fprintf(stderr, "usage: store-floor compress|reads|time ...\n");
        return 2;
}
