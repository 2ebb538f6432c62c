/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever is done to a pool, in whatever order, each of its tags is as it was
 *       saved, equal content is stored once, nothing leaks; whoever reads one tag
 *       keeps it from being deleted and reads on while all else changes; what an
 *       older state uses stays while somebody may read it (INV-SHADOW, INV-REUSE).
 * Method: random histories of a few tags next to a model (store-tank.h), over
 *       cluster sizes, RAM with holes, none at all, or less than a cluster; all is
 *       compared after each step. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/store-tank.h"
#include "tests/unit/suite.h"

#define QEMU_READS 100                  /* the byte that its readers lock */

/* Who reads one tag all the time. */
struct watcher {
        struct qs_image *image;
        uint8_t *bytes;
        int tag;                        /* of the file that has the name; -1 = of an older one */
};

/* Who may read all that was published when he came. */
struct guard {
        int fd;
        uint8_t *bytes;
        uint32_t *refs;
        uint64_t clusters;
        unsigned bits;
};

struct history {
        struct tank t;
        struct watcher watcher;
        struct guard guard;
        const char *row;
};

static void watch(struct history *h)
{
        struct watcher *w = &h->watcher;
        int i = (int)tank_below(&h->t, TANK_TAGS);

        if (!h->t.tag[i].bytes)
                return;
        w->image = tank_open(&h->t, (unsigned)i);
        w->bytes = malloc(h->t.o.disk_bytes);
        ASSERT(w->bytes);
        memcpy(w->bytes, h->t.tag[i].bytes, h->t.o.disk_bytes);
        w->tag = i;
}

static void unwatch(struct history *h)
{
        qs_image_close(h->watcher.image);
        free(h->watcher.bytes);
        h->watcher = (struct watcher){ .tag = -1 };
}

static void keep(struct history *h)
{
        struct guard *g = &h->guard;
        struct flock l = { .l_type = F_RDLCK, .l_start = QEMU_READS, .l_len = 1 };
        struct pool *p = NULL;
        size_t bytes;

        CU_ASSERT_EQUAL_FATAL(pool_open(h->t.path, &p, NULL), 0);
        g->fd = kit_open(h->t.path);
        CU_ASSERT_EQUAL_FATAL(fcntl(g->fd, F_OFD_SETLK, &l), 0);
        g->bits = p->latest->hdr.cluster_bits;
        g->bytes = kit_load(h->t.path, &bytes);
        g->clusters = bytes >> g->bits;
        g->refs = p->refs;
        p->refs = NULL;
        pool_close(p);
}

static void unkeep(struct history *h)
{
        if (h->guard.bytes)
                close(h->guard.fd);
        free(h->guard.bytes);
        free(h->guard.refs);
        h->guard = (struct guard){ 0 };
}

/* All that it used is there yet; the header has switched, of course. */
static void guard_agrees(const struct guard *g)
{
        size_t cluster = (size_t)1 << g->bits;
        AUTO_FREE uint8_t *buf = malloc(cluster);
        unsigned wrong = 0;

        for (uint64_t i = 1; g->bytes && i < g->clusters; i++) {
                if (g->refs[i])
                        wrong += pread(g->fd, buf, cluster, (off_t)(i * cluster)) !=
                                 (ssize_t)cluster ||
                                 memcmp(buf, g->bytes + i * cluster, cluster) != 0;
        }
        CU_ASSERT_EQUAL(wrong, 0);                                      /* INV-REUSE */
}

static void add(struct history *h, unsigned i)
{
        bool there = h->t.tag[i].bytes != NULL;
        struct err e = { 0 };

        tank_evolve(&h->t, 40);
        h->t.o.compress = tank_below(&h->t, 3) ? h->t.o.compress
                          : h->t.o.compress == QS_COMPRESS_NONE ? QS_COMPRESS_ZSTD
                                                                : QS_COMPRESS_NONE;
        if (there)
                EXPECT_EQUAL(h->row, tank_add(&h->t, i, false, &e), -EEXIST);

        h->t.ram.drafts = h->t.births % 3;
        h->t.ram.seed = h->t.births;

        int rc = tank_add(&h->t, i, true, &e);

        EXPECT_EQUAL(h->row, rc, there && h->watcher.tag == (int)i ? -EBUSY : 0);
        if (rc < 0 && rc != -EBUSY)
                fprintf(stderr, "add: %s\n", e.text);
}

static void delete(struct history *h, unsigned i)
{
        struct err e = { 0 };
        int want = !h->t.tag[i].bytes ? -ENOENT
                   : tank_tags(&h->t) == 1 ? -EINVAL : h->watcher.tag == (int)i ? -EBUSY : 0;
        int rc = tank_delete(&h->t, i, &e);

        EXPECT_EQUAL(h->row, rc, want);
        if (rc != want)
                fprintf(stderr, "delete: %s\n", e.text);
}

static void remake(struct history *h, bool optimize)
{
        static const unsigned bits[] = { 0, 0, 12, 14, 16, 21 };
        struct qs_writer_options o = h->t.o;
        struct qs_writer_stats stats;
        struct err e = { 0 };

        o.cluster_bits = bits[tank_below(&h->t, ARRAY_SIZE(bits))];
        o.compress = tank_below(&h->t, 2) ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;

        int rc = optimize ? qs_optimize(h->t.path, &o, NULL, NULL, &stats, &e)
                          : qs_compact(h->t.path, NULL, NULL, &stats, &e);

        EXPECT_EQUAL(h->row, rc, 0);
        EXPECT_EQUAL(h->row, stats.file_bytes, tank_file_bytes(&h->t));
        if (rc < 0)
                fprintf(stderr, "remake: %s\n", e.text);
        h->watcher.tag = -1;            /* his file has no name any more */
}

static void step(struct history *h)
{
        unsigned i = (unsigned)tank_below(&h->t, TANK_TAGS);
        uint64_t what = tank_below(&h->t, 17);

        h->t.o.threads = 1 + (unsigned)tank_below(&h->t, 4);
        if (what < 7)
                add(h, i);
        else if (what < 12)
                delete(h, i);
        else if (what < 15)
                remake(h, what > 12);
        else if (what == 15)
                h->watcher.image ? unwatch(h) : watch(h);
        else
                h->guard.bytes ? unkeep(h) : keep(h);
}

#define K 1024ull

static const struct qs_ram_range holes[] = {
        { 0, 640 * K }, { 1024 * K, 768 * K }, { 2052 * K, 12 * K }, { 2080 * K, 500 * K },
};
static const struct qs_ram_range plain[] = { { 0, 1284 * K } };
static const struct qs_ram_range large[] = { { 0, 10240 * K } };
static const struct qs_ram_range tiny[] = { { 0, 12 * K } };
static const struct qs_ram_range two[] = { { 0, 4 * K }, { 4096 * K, 260 * K } };

static const struct life {
        const char *row;
        unsigned bits;
        enum qs_compress compress;
        unsigned steps;
        const struct qs_ram_range *ranges;
        size_t n;
} lives[] = {
        { "4K, raw, holes", 12, QS_COMPRESS_NONE, 36, holes, ARRAY_SIZE(holes) },
        { "4K, packed, plain", 12, QS_COMPRESS_ZSTD, 36, plain, 1 },
        { "16K, packed, holes", 14, QS_COMPRESS_ZSTD, 36, holes, ARRAY_SIZE(holes) },
        { "64K, raw, two", 16, QS_COMPRESS_NONE, 36, two, ARRAY_SIZE(two) },
        { "64K, packed, less than a cluster", 16, QS_COMPRESS_ZSTD, 36, tiny, 1 },
        { "2M, raw, holes", 21, QS_COMPRESS_NONE, 9, holes, ARRAY_SIZE(holes) },
        { "2M, packed, two", 21, QS_COMPRESS_ZSTD, 9, two, ARRAY_SIZE(two) },
};

static void live(const struct life *l)
{
        struct history h = { .row = l->row, .watcher = { .tag = -1 } };

        tank_begin(&h.t, l->bits, l->compress, l->ranges, l->n);
        tank_evolve(&h.t, 200);
        EXPECT_EQUAL(l->row, tank_add(&h.t, 0, false, NULL), 0);
        for (unsigned i = 0; i < l->steps && CU_get_number_of_failures() == 0; i++) {
                step(&h);
                tank_agrees(&h.t);
                tank_index_is_small(&h.t);
                guard_agrees(&h.guard);
                if (h.watcher.image)
                        CU_ASSERT_EQUAL(kit_compare(h.watcher.image, h.watcher.bytes), 0);
        }
        if (CU_get_number_of_failures())
                fprintf(stderr, "row '%s'\n", l->row);
        unwatch(&h);
        unkeep(&h);
        tank_end(&h.t);
}

static void histories(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(lives); i++)
                live(&lives[i]);
}

/* A guest that has touched nothing: no contents, no index. */
static void all_zero(void)
{
        struct tank t;

        tank_begin(&t, 14, QS_COMPRESS_NONE, plain, 1);
        for (unsigned i = 0; i < TANK_TAGS; i++) {
                CU_ASSERT_EQUAL(tank_add(&t, i, false, NULL), 0);
                tank_agrees(&t);
        }
        for (unsigned i = 0; i < TANK_TAGS - 1; i++) {
                CU_ASSERT_EQUAL(tank_delete(&t, (i * 5) % TANK_TAGS, NULL), 0);
                tank_agrees(&t);
        }
        tank_end(&t);
}

/* A file of several refcount blocks, some of which change. */
static void long_file(void)
{
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_NONE, large, 1);
        store_ram_fill(t.ram.bytes, t.o.disk_bytes, 5);
        for (unsigned i = 0; i < 6; i++) {
                CU_ASSERT_EQUAL(tank_add(&t, i % 3, true, NULL), 0);
                if (i >= 2 && i % 2 == 0)
                        CU_ASSERT_EQUAL(tank_delete(&t, (i + 1) % 3, NULL), 0);
                tank_agrees(&t);
                tank_evolve(&t, 1200);
        }
        CU_ASSERT(tank_file_bytes(&t) > 5u << 20);      /* a block is for 4 MiB */
        tank_end(&t);
}

/* Whoever reads a tag keeps it, and no other. */
static void tag_is_read(void)
{
        struct qs_writer_stats stats;
        struct tank t;

        tank_begin(&t, 12, QS_COMPRESS_NONE, plain, 1);
        for (unsigned i = 0; i < 3; i++) {
                tank_evolve(&t, 300);
                CU_ASSERT_EQUAL(tank_add(&t, i, false, NULL), 0);
        }
        for (unsigned i = 0; i < 3; i++) {
                struct qs_image *image = tank_open(&t, i);

                CU_ASSERT_EQUAL(tank_delete(&t, i, NULL), -EBUSY);
                CU_ASSERT_EQUAL(tank_add(&t, i, true, NULL), -EBUSY);
                CU_ASSERT_EQUAL(tank_add(&t, (i + 1) % 3, true, NULL), 0);
                CU_ASSERT_EQUAL(tank_add(&t, 4, false, NULL), 0);
                CU_ASSERT_EQUAL(tank_delete(&t, 4, NULL), 0);
                CU_ASSERT_EQUAL(kit_compare(image, t.tag[i].bytes), 0);
                if (i == 2) {           /* the old file's reader: the new one is free */
                        CU_ASSERT_EQUAL(qs_compact(t.path, NULL, NULL, &stats, NULL), 0);
                        CU_ASSERT_EQUAL(kit_compare(image, t.tag[i].bytes), 0);
                        CU_ASSERT_EQUAL(tank_add(&t, i, true, NULL), 0);
                }
                qs_image_close(image);
                CU_ASSERT_EQUAL(tank_add(&t, i, true, NULL), 0);
                tank_agrees(&t);
        }
        CU_ASSERT_EQUAL(tank_delete(&t, 0, NULL), 0);
        tank_end(&t);
}

/* Room for the contents of all tags is reckoned with the new clusters. */
static void smaller_clusters(void)
{
        struct qs_writer_stats stats;
        struct tank t;

        tank_begin(&t, 21, QS_COMPRESS_NONE, plain, 1);
        for (unsigned i = 0; i < 3; i++) {
                tank_evolve(&t, 300);
                CU_ASSERT_EQUAL(tank_add(&t, i, false, NULL), 0);
        }
        t.o.cluster_bits = 12;
        CU_ASSERT_EQUAL(qs_optimize(t.path, &t.o, NULL, NULL, &stats, NULL), 0);
        tank_agrees(&t);
        tank_end(&t);
}

static const CU_TestInfo cases[] = {
        { "random histories agree with the model", histories },
        { "tags without any content", all_zero },
        { "a file of several refcount blocks", long_file },
        { "a tag that is read stays", tag_is_read },
        { "optimize to smaller clusters", smaller_clusters },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-pool", cases);
}
