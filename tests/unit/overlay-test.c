/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a guest reads from an overlay what it wrote and else the base, whatever it writes and
 *       however its threads mix; the base stays; a write that fails harms nothing.
 * Method: random requests against a model in memory, on overlays of both kinds where the
 *         file system can share blocks (DISK_DIR names one); threads that write neighbouring
 *         sectors of the same blocks at once; a limit on the file's size. */
#include "vmm/disk/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/disk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/disk/blocks.h"
#include "vmm/disk/scatter.h"

#define BLOCK OVERLAY_BLOCK_BYTES
#define SECTOR 512u
#define BYTES (24u * BLOCK)
/* another file system than the base's, so that it is no reflink */
#define ELSEWHERE "/dev/shm"

struct bench {
        struct disk_kit kit;
        int base;
        struct overlay *o;
        uint64_t random;
};

static void start(struct bench *b, size_t bytes, const char *dir)
{
        struct err e = { 0 };

        disk_kit_init(&b->kit, bytes);
        b->random = 42;
        b->base = open(b->kit.base, O_RDONLY | O_CLOEXEC);
        CU_ASSERT_EQUAL_FATAL(overlay_new(b->base, b->kit.base, bytes, dir, &b->o, &e), 0);
}

static void end(struct bench *b)
{
        overlay_free(b->o);
        fd_close(&b->base);
        disk_kit_fini(&b->kit);
}

static bool reads_as(struct overlay *o, const uint8_t *model, uint64_t offset, size_t bytes)
{
        AUTO_FREE uint8_t *buf = malloc(bytes);
        const struct iovec iov[] = { { buf, bytes / 3 }, { NULL, 0 },
                                     { buf + bytes / 3, bytes - bytes / 3 } };

        return overlay_read(o, iov, 3, offset) == 0 && !memcmp(buf, model + offset, bytes);
}

static int write_at(struct overlay *o, uint8_t *p, uint64_t offset, size_t bytes)
{
        size_t first = bytes / 2;
        const struct iovec iov[] = { { p, first }, { p + first, bytes - first } };

        return overlay_write(o, iov, 2, offset);
}

/* What a discard makes zeros of. */
static void model_discard(struct disk_kit *k, uint64_t offset, size_t bytes)
{
        for (uint64_t at = 0; at < k->bytes; at += BLOCK) {
                uint64_t last = MIN(at + BLOCK, k->bytes);

                if (at >= offset && last <= offset + bytes)
                        memset(k->model + at, 0, last - at);
        }
}

static int random_step(struct bench *b)
{
        struct disk_kit *k = &b->kit;
        uint64_t sectors = k->bytes / SECTOR, kind = disk_kit_random(&b->random) % 10;
        uint64_t at = disk_kit_random(&b->random) % sectors;
        uint64_t most = disk_kit_random(&b->random) % 4 ? 9 : 700;
        uint64_t n = 1 + disk_kit_random(&b->random) % most;

        n = MIN(n, sectors - at);

        uint64_t offset = at * SECTOR, bytes = n * SECTOR;

        if (kind < 5) {
                disk_kit_fill(k->model + offset, bytes, &b->random);
                return write_at(b->o, k->model + offset, offset, bytes);
        }
        if (kind == 5) {
                memset(k->model + offset, 0, bytes);
                return overlay_zeroes(b->o, offset, bytes);
        }
        if (kind == 6) {
                model_discard(k, offset, bytes);
                return overlay_discard(b->o, offset, bytes);
        }
        return reads_as(b->o, k->model, offset, bytes) ? 0 : -EILSEQ;
}

static void agrees_with_model(void)
{
        static const struct {
                const char *name;
                size_t bytes;
                const char *dir;
        } rows[] = {
                { "sparse, whole blocks", BYTES, ELSEWHERE },
                { "sparse, a part of a block at the end", BYTES + 3 * SECTOR, ELSEWHERE },
                { "sparse, less than a block", 7 * SECTOR, ELSEWHERE },
                { "beside its base", BYTES + SECTOR, NULL },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bench b;
                AUTO_FREE uint8_t *before = NULL;
                int rc = 0;

                start(&b, rows[i].bytes, rows[i].dir);
                before = malloc(rows[i].bytes);
                memcpy(before, b.kit.model, rows[i].bytes);
                for (unsigned step = 0; step < 3000 && rc == 0; step++)
                        rc = random_step(&b);
                EXPECT_EQUAL(rows[i].name, rc, 0);
                EXPECT_TRUE(rows[i].name, reads_as(b.o, b.kit.model, 0, b.kit.bytes));
                EXPECT_TRUE(rows[i].name, disk_kit_holds(b.kit.base, before, b.kit.bytes));
                EXPECT_EQUAL(rows[i].name, disk_kit_files(&b.kit), 1);
                end(&b);
        }
}

static void holes_are_zeros(void)
{
        struct bench b;
        uint64_t told = 0;

        start(&b, BYTES, ELSEWHERE);
        CU_ASSERT_EQUAL(overlay_zeroes(b.o, 0, 2 * BLOCK), 0);
        memset(b.kit.model, 0, 2 * BLOCK);
        CU_ASSERT_EQUAL(overlay_hole(b.o, SECTOR), 2 * BLOCK - SECTOR);
        for (uint64_t at = 0; at < BYTES; at += SECTOR) {
                uint64_t n = overlay_hole(b.o, at);

                for (uint64_t i = at; i < at + n; i++)
                        told += b.kit.model[i] == 0 ? 0 : 1;
        }
        CU_ASSERT_EQUAL(told, 0);
        end(&b);
}

static void another_is_fresh(void)
{
        struct bench b;
        struct overlay *again = NULL;
        AUTO_FREE uint8_t *before = malloc(BYTES);

        start(&b, BYTES, ELSEWHERE);
        memcpy(before, b.kit.model, BYTES);
        for (unsigned step = 0; step < 200; step++)
                random_step(&b);
        CU_ASSERT_EQUAL_FATAL(overlay_again(b.o, &again, NULL), 0);
        CU_ASSERT_TRUE(reads_as(again, before, 0, BYTES));
        CU_ASSERT_TRUE(reads_as(b.o, b.kit.model, 0, BYTES));
        overlay_free(again);
        end(&b);
}

/* INV-FILLED: what a failed write left does not count. */
static void failed_write_is_harmless(void)
{
        struct rlimit old, low = { BLOCK + SECTOR, RLIM_INFINITY };
        uint8_t data[4 * SECTOR];
        struct bench b;

        start(&b, BYTES, ELSEWHERE);
        memset(data, 7, sizeof(data));
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &old);
        low.rlim_max = old.rlim_max;
        setrlimit(RLIMIT_FSIZE, &low);
        CU_ASSERT_EQUAL(write_at(b.o, data, 5 * BLOCK, sizeof(data)), -EFBIG);
        CU_ASSERT_EQUAL(write_at(b.o, data, BLOCK, sizeof(data)), -EFBIG);
        setrlimit(RLIMIT_FSIZE, &old);
        CU_ASSERT_TRUE(reads_as(b.o, b.kit.model, 0, BYTES));
        CU_ASSERT_EQUAL(write_at(b.o, data, BLOCK + SECTOR, sizeof(data)), 0);
        memcpy(b.kit.model + BLOCK + SECTOR, data, sizeof(data));
        CU_ASSERT_TRUE(reads_as(b.o, b.kit.model, 0, BYTES));
        end(&b);
}

static void folders(void)
{
        struct disk_kit k;
        struct overlay *o = NULL;
        struct err e;

        disk_kit_init(&k, BLOCK);

        AUTO_FD base = open(k.base, O_RDONLY | O_CLOEXEC);

        CU_ASSERT_EQUAL(overlay_new(base, k.base, BLOCK, "/nowhere", &o, &e), -ENOENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "'/nowhere'"));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, k.base));
        CU_ASSERT_PTR_NULL(o);
        /* nobody makes files in /proc: elsewhere then */
        CU_ASSERT_EQUAL(overlay_new(base, "/proc/self/base", BLOCK, NULL, &o, &e), 0);
        overlay_free(o);
        overlay_free(NULL);
        disk_kit_fini(&k);
}

/* ---- threads ------------------------------------------------------------- */

#define THREADS 4u

struct writer {
        struct bench *b;
        pthread_barrier_t *block;
        unsigned me;
        int rc;
};

/* Every fourth sector is ours. Each block is begun by all at once. */
static void *write_own(void *ctx)
{
        struct writer *w = ctx;
        uint64_t state = 77 + w->me;

        for (uint64_t i = w->me; i < BYTES / SECTOR; i += THREADS) {
                uint8_t *p = w->b->kit.model + i * SECTOR;

                if (i % (BLOCK / SECTOR) == w->me)
                        pthread_barrier_wait(w->block);
                if (w->rc < 0)
                        continue;
                disk_kit_fill(p, SECTOR, &state);
                w->rc = write_at(w->b->o, p, i * SECTOR, SECTOR);
                if (w->rc == 0 && !reads_as(w->b->o, w->b->kit.model, i * SECTOR, SECTOR))
                        w->rc = -EILSEQ;
        }
        return NULL;
}

static void threads_share_blocks(void)
{
        struct writer w[THREADS];
        pthread_t thread[THREADS];
        pthread_barrier_t block;
        struct bench b;

        pthread_barrier_init(&block, NULL, THREADS);
        for (unsigned round = 0; round < 10; round++) {
                start(&b, BYTES, ELSEWHERE);
                for (unsigned i = 0; i < THREADS; i++) {
                        w[i] = (struct writer){ .b = &b, .block = &block, .me = i };
                        pthread_create(&thread[i], NULL, write_own, &w[i]);
                }
                for (unsigned i = 0; i < THREADS; i++) {
                        pthread_join(thread[i], NULL);
                        CU_ASSERT_EQUAL(w[i].rc, 0);
                }
                CU_ASSERT_TRUE(reads_as(b.o, b.kit.model, 0, BYTES));
                end(&b);
        }
        pthread_barrier_destroy(&block);
}

/* ---- what it is made of -------------------------------------------------- */

static void parts_of_buffers(void)
{
        char a[3], c[5];
        const struct iovec iov[] = { { a, 3 }, { a, 0 }, { c, 5 } };
        struct iovec part[3];

        CU_ASSERT_EQUAL(scatter_bytes(iov, 3), 8);
        CU_ASSERT_EQUAL(scatter_part(iov, 3, 2, 3, part, 3), 2);
        CU_ASSERT(part[0].iov_base == a + 2 && part[0].iov_len == 1);
        CU_ASSERT(part[1].iov_base == c && part[1].iov_len == 2);
        CU_ASSERT_EQUAL(scatter_part(iov, 3, 3, 9, part, 3), 1);
        CU_ASSERT(part[0].iov_base == c && part[0].iov_len == 5);
        CU_ASSERT_EQUAL(scatter_part(iov, 3, 0, 8, part, 1), 1);
        CU_ASSERT_EQUAL(scatter_part(iov, 3, 8, 1, part, 3), 0);
}

static void sets_of_blocks(void)
{
        struct blocks b;

        CU_ASSERT_EQUAL_FATAL(blocks_init(&b, 130, NULL), 0);
        CU_ASSERT_TRUE(blocks_set(&b, 129));
        CU_ASSERT_FALSE(blocks_set(&b, 129));
        CU_ASSERT_TRUE(blocks_set(&b, 0));
        CU_ASSERT_TRUE(blocks_has(&b, 129));
        CU_ASSERT_FALSE(blocks_has(&b, 65));
        CU_ASSERT_EQUAL(blocks_count(&b), 2);
        blocks_fini(&b);
        blocks_fini(&b);
}

static CU_TestInfo cases[] = {
        { "random requests agree with a model", agrees_with_model },
        { "what is said to be a hole is zeros", holes_are_zeros },
        { "another overlay of the base is fresh", another_is_fresh },
        { "a write that fails leaves what was there", failed_write_is_harmless },
        { "where the file lies", folders },
        { "threads write into the same blocks", threads_share_blocks },
        { "parts of scattered buffers", parts_of_buffers },
        { "sets of blocks", sets_of_blocks },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("overlay", cases);
}
