/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a pool is no larger than it must be. Freed clusters are used again and go back
 *       to the file system, but not while somebody may read them (INV-REUSE); content
 *       that is there is found again after any deletion (INV-INDEX) and counted below
 *       its limit (INV-COUNT); an abandoned tag leaves nothing; compact leaves out
 *       what is not needed; optimize puts the working set first.
 * Method: RAM of noise, of which sizes and places in the file are known, next to a
 *       model (store-tank.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/store-tank.h"
#include "tests/unit/suite.h"

#define PAGE 4096u
#define PAGES 300u
#define RAM_BYTES ((uint64_t)PAGES * PAGE)
#define ROUNDS 60
#define QEMU_READS 100                  /* the byte that its readers lock */

static const struct qs_ram_range ram = { 0, RAM_BYTES };

/* all pages are new, none like another */
static void fill(struct tank *t)
{
        for (uint64_t at = 0; at < RAM_BYTES; at += PAGE)
                store_ram_page(t->ram.bytes + at, PAGE, 2, &t->random);
}

static void add(struct tank *t, unsigned i, bool force)
{
        struct err e = { 0 };
        int rc = tank_add(t, i, force, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
}

static void delete(struct tank *t, unsigned i)
{
        struct err e = { 0 };
        int rc = tank_delete(t, i, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
}

/* Two tags of new content each, the older one replaced by deleting and adding: the
 * file holds three at worst (INV-SHADOW), a tenth more for tables, and as much again
 * for what is too short a hole for a chunk of 1 MiB. */
static void rounds(unsigned bits, enum qs_compress compress)
{
        struct tank t;
        uint64_t early = 0;

        tank_begin(&t, bits, compress, &ram, 1);
        fill(&t);
        add(&t, 0, false);
        for (unsigned i = 1; i <= ROUNDS; i++) {
                fill(&t);
                add(&t, i % 3, false);
                delete(&t, (i - 1) % 3);
                if (i == 10)
                        early = tank_file_bytes(&t);
        }
        CU_ASSERT(tank_file_bytes(&t) <= 2 * 33 * RAM_BYTES / 10);
        CU_ASSERT(tank_file_bytes(&t) <= early + early / 5);
        tank_agrees(&t);
        tank_index_is_small(&t);
        tank_end(&t);
}

static void no_growth(void)
{
        rounds(12, QS_COMPRESS_NONE);
        rounds(12, QS_COMPRESS_ZSTD);
        rounds(14, QS_COMPRESS_NONE);
}

/* One page changes each time: what is stored is a page and tables. */
static void little_changes(void)
{
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
        fill(&t);
        add(&t, 0, false);
        add(&t, 1, false);

        uint64_t before = tank_file_bytes(&t);

        for (unsigned i = 2; i < 2 + ROUNDS; i++) {
                store_ram_page(t.ram.bytes + i % PAGES * PAGE, PAGE, 2, &t.random);
                add(&t, 1 + i % 5, true);
                if (i % 7 == 0)
                        tank_index_is_small(&t);
        }
        CU_ASSERT(tank_file_bytes(&t) <= before + RAM_BYTES / 2);
        tank_agrees(&t);
        tank_end(&t);
}

static uint64_t stored(struct tank *t, unsigned i)
{
        struct qs_writer *w = NULL;
        struct qs_writer_stats stats;

        CU_ASSERT_EQUAL_FATAL(tank_write(t, i, false, &w, NULL), 0);
        qs_writer_stats(w, &stats);
        qs_writer_free(w);
        return stats.clusters_raw + stats.clusters_packed;
}

/* Whichever tag goes, what the others have is known, and nothing else. */
static void found_again(void)
{
        for (unsigned gone = 0; gone < 4; gone++) {
                struct tank t;

                tank_begin(&t, 12, gone % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE, &ram, 1);
                for (unsigned i = 0; i < 4; i++) {
                        fill(&t);
                        add(&t, i, false);
                }
                delete(&t, gone);
                for (unsigned i = 0; i < 4; i++) {
                        if (i == gone)
                                continue;
                        memcpy(t.ram.bytes, t.tag[i].bytes, RAM_BYTES);
                        CU_ASSERT_EQUAL(stored(&t, 4), 0);
                }
                fill(&t);
                CU_ASSERT_EQUAL(stored(&t, 4), PAGES);
                tank_agrees(&t);
                tank_end(&t);
        }
}

/* Content that went, whose clusters hold another one now, is not taken to be there. */
static void gone_is_gone(void)
{
        for (unsigned replace = 0; replace < 2; replace++) {
                struct tank t;
                AUTO_FREE uint8_t *old = malloc(RAM_BYTES);

                ASSERT(old);
                tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
                for (unsigned i = 0; i < 2; i++) {
                        fill(&t);
                        add(&t, i, false);
                }
                memcpy(old, t.tag[0].bytes, RAM_BYTES);
                fill(&t);
                if (!replace)
                        delete(&t, 0);
                add(&t, 0, replace);
                fill(&t);
                add(&t, 2, false);
                memcpy(t.ram.bytes, old, RAM_BYTES);
                CU_ASSERT_EQUAL(stored(&t, 3), PAGES);
                add(&t, 3, false);
                tank_agrees(&t);
                tank_end(&t);
        }
}

/* Sections of the index are merged, so that many tags make few. */
static void few_sections(void)
{
        struct qs_ram_source source;
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
        fill(&t);
        add(&t, 0, false);
        source = kit_source(&t.ram);
        for (unsigned i = 1; i < ROUNDS; i++) {
                struct qs_writer *w = NULL;
                struct pool *p = NULL;

                store_ram_page(t.ram.bytes + i * PAGE, PAGE, 2, &t.random);
                snprintf(t.o.tag, sizeof(t.o.tag), "more %u", i);
                CU_ASSERT_EQUAL_FATAL(qs_writer_new(t.path, &t.o, &w, NULL), 0);
                CU_ASSERT_EQUAL(qs_writer_ram(w, &ram, 1, &source, NULL, NULL, NULL), 0);
                CU_ASSERT_EQUAL(qs_writer_publish(w, NULL), 0);
                qs_writer_free(w);
                CU_ASSERT_EQUAL_FATAL(pool_open(t.path, &p, NULL), 0);
                CU_ASSERT(p->area_toc.count <= 9);      /* 300 entries, then 150 at most, ... */
                pool_close(p);
                tank_index_is_small(&t);
        }
        tank_end(&t);
}

static int guard(const struct tank *t)
{
        struct flock l = { .l_type = F_RDLCK, .l_start = QEMU_READS, .l_len = 1 };
        int fd = kit_open(t->path);

        CU_ASSERT_EQUAL_FATAL(fcntl(fd, F_OFD_SETLK, &l), 0);
        return fd;
}

static void readers(void)
{
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
        for (unsigned i = 0; i < 2; i++) {
                fill(&t);
                add(&t, i, false);
        }

        int fd = guard(&t);
        uint64_t usage = tank_disk_usage(&t);
        uint64_t size = tank_file_bytes(&t);

        delete(&t, 0);
        CU_ASSERT(tank_disk_usage(&t) >= usage);                        /* INV-REUSE */
        fill(&t);
        add(&t, 2, false);
        CU_ASSERT(tank_file_bytes(&t) >= size + RAM_BYTES);
        size = tank_file_bytes(&t);
        close(fd);
        fill(&t);
        add(&t, 3, false);
        CU_ASSERT(tank_file_bytes(&t) <= size + RAM_BYTES / 10);
        tank_agrees(&t);
        tank_end(&t);
}

static void punched(void)
{
        for (unsigned gone = 0; gone < 3; gone++) {
                struct tank t;

                tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
                for (unsigned i = 0; i < 3; i++) {
                        fill(&t);
                        add(&t, i, false);
                }

                uint64_t usage = tank_disk_usage(&t);

                delete(&t, gone);
                CU_ASSERT(tank_disk_usage(&t) + RAM_BYTES <= usage);
                tank_agrees(&t);
                tank_end(&t);
        }
}

/* What the published state uses is as it was, so is the size. */
static void compare_used(const struct tank *t, const uint8_t *before, size_t bytes)
{
        size_t now_bytes;
        AUTO_FREE uint8_t *now = kit_load(t->path, &now_bytes);
        struct pool *p = NULL;
        unsigned wrong = 0;

        CU_ASSERT_EQUAL_FATAL(now_bytes, bytes);
        CU_ASSERT_EQUAL_FATAL(pool_open(t->path, &p, NULL), 0);
        for (size_t i = 0; i < bytes / PAGE; i++)
                wrong += p->refs[i] && memcmp(now + i * PAGE, before + i * PAGE, PAGE) != 0;
        CU_ASSERT_EQUAL(wrong, 0);
        pool_close(p);
}

static void abandoned(void)
{
        struct qs_writer *w = NULL;
        struct tank t;
        size_t bytes;

        tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
        for (unsigned i = 0; i < 3; i++) {
                fill(&t);
                add(&t, i, false);
        }
        delete(&t, 1);          /* so there is free space to begin with */

        AUTO_FREE uint8_t *before = kit_load(t.path, &bytes);

        for (unsigned i = 0; i < 4; i++) {
                int fd = i % 2 ? guard(&t) : -1;

                fill(&t);
                CU_ASSERT_EQUAL_FATAL(tank_write(&t, i, true, &w, NULL), 0);
                CU_ASSERT_EQUAL(tank_add(&t, 5, false, NULL), -EBUSY);
                CU_ASSERT_EQUAL(tank_delete(&t, 0, NULL), -EBUSY);
                qs_writer_free(w);
                compare_used(&t, before, bytes);
                if (fd >= 0)
                        close(fd);
        }
        tank_agrees(&t);
        tank_end(&t);
}

/* Few contents, many references: never more than twice the limit, as each counts
 * for the tag and for the active layer. */
static void counted(void)
{
        enum { LIMIT = 40 };
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
        t.refs_max = LIMIT;
        fill(&t);
        for (unsigned i = 0; i < PAGES; i++)
                memmove(t.ram.bytes + i * PAGE, t.ram.bytes + i % 5 * PAGE, PAGE);
        for (unsigned i = 0; i < 20; i++) {
                struct pool *p = NULL;
                uint32_t most = 0;

                store_ram_page(t.ram.bytes + i * 3 * PAGE, PAGE, 2, &t.random);
                add(&t, (unsigned)tank_below(&t, TANK_TAGS), true);
                if (i % 4 == 3 && tank_tags(&t) > 1)
                        delete(&t, (unsigned)tank_latest(&t));
                CU_ASSERT_EQUAL_FATAL(pool_open(t.path, &p, NULL), 0);
                for (uint64_t k = 0; k < p->latest->bound / PAGE; k++)
                        most = MAX(most, p->refs[k]);
                CU_ASSERT(most <= 2 * LIMIT && most > LIMIT / 2);       /* INV-COUNT */
                pool_close(p);
                tank_agrees(&t);
        }
        tank_end(&t);
}

/* The tags of t, the oldest first, saved to a new file; its size. */
static uint64_t fresh_size(struct tank *t)
{
        struct tank fresh;
        uint64_t size;

        tank_begin(&fresh, t->o.cluster_bits, t->o.compress, &ram, 1);
        for (unsigned born = 1; born <= t->births; born++) {
                for (unsigned i = 0; i < TANK_TAGS; i++) {
                        if (!t->tag[i].bytes || t->tag[i].born != born)
                                continue;
                        memcpy(fresh.ram.bytes, t->tag[i].bytes, RAM_BYTES);
                        add(&fresh, i, false);
                }
        }
        size = tank_file_bytes(&fresh);
        tank_end(&fresh);
        return size;
}

static void compacted(void)
{
        for (unsigned bits = 12; bits <= 16; bits += 2) {
                struct qs_writer_stats stats;
                struct tank t;

                tank_begin(&t, bits, bits == 14 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE, &ram, 1);
                for (unsigned i = 0; i < 18; i++) {
                        tank_evolve(&t, 400);
                        add(&t, i % TANK_TAGS, true);
                }
                for (unsigned i = 0; i < 4; i++)
                        delete(&t, (i * 2 + 1) % 5);
                CU_ASSERT_EQUAL(qs_compact(t.path, NULL, NULL, &stats, NULL), 0);
                tank_agrees(&t);
                CU_ASSERT_EQUAL(stats.file_bytes, tank_file_bytes(&t));
                CU_ASSERT(tank_file_bytes(&t) <= fresh_size(&t) * 105 / 100);
                tank_end(&t);
        }
}

/* pages */
static const struct { uint64_t first, n; } wanted[] = {
        { 290, 10 }, { 5, 1 }, { 250, 20 }, { 0, 2 }, { 255, 3 }, { 1000, 1 }, { 100, 40 },
};

static uint64_t place_of(struct qs_image *m, uint64_t page)
{
        struct extent x;

        CU_ASSERT_EQUAL_FATAL(image_extent(m, page * PAGE, PAGE, &x, NULL), 0);
        return x.offset;
}

/* Those that are wanted ascend, and lie before all others. */
static void look_at_order(const struct tank *t, unsigned tag)
{
        struct qs_image *m = tank_open(t, tag);
        bool seen[PAGES] = { false };
        uint64_t last = 0;

        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
                for (uint64_t k = wanted[i].first; k < wanted[i].first + wanted[i].n; k++) {
                        if (k >= PAGES || seen[k])
                                continue;
                        seen[k] = true;
                        CU_ASSERT(place_of(m, k) > last);
                        last = place_of(m, k);
                }
        }
        for (uint64_t k = 0; k < PAGES; k++)
                CU_ASSERT(seen[k] || place_of(m, k) > last);
        qs_image_close(m);
}

static void working_set(void)
{
        uint8_t set[ARRAY_SIZE(wanted) * 16];

        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
                put_le64(set + i * 16, wanted[i].first * PAGE);
                put_le64(set + i * 16 + 8, wanted[i].n * PAGE);
        }
        for (unsigned threads = 1; threads <= 4; threads += 3) {
                struct qs_writer_stats stats;
                struct tank t;

                tank_begin(&t, 12, QS_COMPRESS_NONE, &ram, 1);
                t.extra = set;
                t.extra_bytes = sizeof(set);
                for (unsigned i = 0; i < 2; i++) {
                        fill(&t);
                        add(&t, i, false);
                }
                t.o.threads = threads;
                CU_ASSERT_EQUAL(qs_optimize(t.path, &t.o, NULL, NULL, &stats, NULL), 0);
                look_at_order(&t, 0);
                look_at_order(&t, 1);
                tank_agrees(&t);
                tank_end(&t);
        }
}

static const CU_TestInfo cases[] = {
        { "the file does not grow over many rounds", no_growth },
        { "little changes take little space", little_changes },
        { "content is found again after any deletion", found_again },
        { "content that went is not found", gone_is_gone },
        { "the index has few sections", few_sections },
        { "what may be read is not reused", readers },
        { "freed space is given back", punched },
        { "an abandoned tag leaves nothing", abandoned },
        { "counts stay below their limit", counted },
        { "compact is as small as new", compacted },
        { "optimize puts the working set first", working_set },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-pool-space", cases);
}
