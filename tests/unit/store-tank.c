/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-tank.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/store-draft.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define PAGE 4096u

void tank_begin(struct tank *t, unsigned bits, enum qs_compress compress,
                const struct qs_ram_range *ranges, size_t n)
{
        uint64_t end = ranges[n - 1].gpa + ranges[n - 1].bytes;

        *t = (struct tank){ .random = bits * 2 + 1, .ram = { .ranges = n } };
        t->o = (struct qs_writer_options){
                .cluster_bits = bits, .compress = compress, .zstd_level = 1, .threads = 2,
                .disk_bytes = end, .append = true,
        };
        memcpy(t->ram.range, ranges, n * sizeof(*ranges));
        t->ram.bytes = calloc(1, end);
        t->attic = calloc(1, end);
        ASSERT(t->ram.bytes && t->attic);
        kit_folder(t->folder);
        kit_path(t->folder, "pool", t->path);
}

static void forget(struct tank_tag *g)
{
        free(g->bytes);
        free(g->state);
        *g = (struct tank_tag){ 0 };
}

void tank_end(struct tank *t)
{
        for (unsigned i = 0; i < TANK_TAGS; i++)
                forget(&t->tag[i]);
        free(t->ram.bytes);
        free(t->attic);
        unlink(t->path);
        CU_ASSERT(kit_gone(t->folder));
}

uint64_t tank_below(struct tank *t, uint64_t n)
{
        return store_random(&t->random) % n;
}

static uint64_t random_page(struct tank *t)
{
        const struct qs_ram_range *r = &t->ram.range[tank_below(t, t->ram.ranges)];

        return r->gpa + tank_below(t, r->bytes / PAGE) * PAGE;
}

void tank_evolve(struct tank *t, unsigned pages)
{
        if (tank_below(t, 8) == 0)
                memcpy(t->attic, t->ram.bytes, t->o.disk_bytes);
        for (uint64_t n = tank_below(t, pages + 1); n > 0; n--) {
                uint8_t *to = t->ram.bytes + random_page(t);
                uint64_t what = tank_below(t, 7);
                const uint8_t *from = t->tag[tank_below(t, TANK_TAGS)].bytes;

                if (what < 3) {
                        memset(to, 0, PAGE);
                        store_ram_page(to, PAGE, (unsigned)what, &t->random);
                } else if (what == 3 && from) {
                        memcpy(to, from + random_page(t), PAGE);
                } else if (what == 4) {
                        memcpy(to, t->attic + (to - t->ram.bytes), PAGE);
                } else {
                        memmove(to, t->ram.bytes + random_page(t), PAGE);
                }
        }
}

void tank_name(unsigned i, char tag[QS_TAG_MAX + 1])
{
        snprintf(tag, QS_TAG_MAX + 1, "tag %u", i);
}

unsigned tank_tags(const struct tank *t)
{
        unsigned n = 0;

        for (unsigned i = 0; i < TANK_TAGS; i++)
                n += t->tag[i].bytes != NULL;
        return n;
}

int tank_latest(const struct tank *t)
{
        int latest = -1;

        for (int i = 0; i < TANK_TAGS; i++) {
                if (t->tag[i].bytes && (latest < 0 || t->tag[i].born > t->tag[latest].born))
                        latest = i;
        }
        return latest;
}

int tank_write(struct tank *t, unsigned i, bool force, struct qs_writer **ret, struct err *e)
{
        struct qs_writer *w = NULL;

        t->o.force = force;
        t->o.date_ns = 1000000007ull * (t->births + 1);
        t->o.vm_clock_ns = 77 + t->births;
        tank_name(i, t->o.tag);

        int rc = qs_writer_new(t->path, &t->o, &w, e);

        if (rc == 0 && t->refs_max)
                w->refs_max = t->refs_max;
        if (rc == 0)
                rc = qs_writer_section(w, "META", kit_meta, strlen(kit_meta), e);
        if (rc == 0 && t->extra)
                rc = qs_writer_section(w, QS_SECTION_WORKING_SET, t->extra, t->extra_bytes, e);
        if (rc == 0)
                rc = draft_take(w, &t->ram, e);
        if (rc < 0) {
                qs_writer_free(w);
                return rc;
        }
        *ret = w;
        return 0;
}

int tank_add(struct tank *t, unsigned i, bool force, struct err *e)
{
        struct tank_tag g = {
                .bytes = malloc(t->o.disk_bytes), .state_bytes = tank_below(t, 3 * PAGE),
        };
        struct qs_writer *w = NULL;

        g.state = calloc(1, g.state_bytes + 1);
        ASSERT(g.bytes && g.state);
        memcpy(g.bytes, t->ram.bytes, t->o.disk_bytes);
        store_ram_page(g.state, g.state_bytes, 2, &t->random);

        int rc = tank_write(t, i, force, &w, e);

        if (rc == 0)
                rc = qs_writer_section(w, "STATE", g.state, g.state_bytes, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        qs_writer_free(w);
        if (rc < 0) {
                forget(&g);
                return rc;
        }
        g.date_ns = t->o.date_ns;
        g.vm_clock_ns = t->o.vm_clock_ns;
        g.born = ++t->births;
        forget(&t->tag[i]);
        t->tag[i] = g;
        return 0;
}

int tank_delete(struct tank *t, unsigned i, struct err *e)
{
        char name[QS_TAG_MAX + 1];

        tank_name(i, name);

        int rc = qs_snapshot_delete(t->path, name, e);

        if (rc == 0)
                forget(&t->tag[i]);
        return rc;
}

struct qs_image *tank_open(const struct tank *t, unsigned i)
{
        char name[QS_TAG_MAX + 1];
        AUTO_FD fd = kit_open(t->path);
        struct qs_image *image = NULL;
        struct err e = { 0 };

        tank_name(i, name);
        if (qs_image_open(fd, t->path, name, &image, &e) < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        return image;
}

static void section_agrees(struct qs_image *image, const char *name, const void *want, size_t n)
{
        struct qs_reader *r = NULL;
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;

        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        CU_ASSERT_EQUAL(qs_section_read(r, name, &data, &bytes, NULL), 0);
        CU_ASSERT(data && bytes == n && memcmp(data, want, n) == 0);
        qs_reader_free(r);
}

/* where a content is, and which it is */
struct content {
        uint64_t place;
        uint64_t key;
};

struct contents {
        struct content *at;
        size_t n;
};

static void list_contents(struct qs_image *m, const uint8_t *model, struct contents *all)
{
        uint64_t cluster = m->cluster_bytes;
        AUTO_FREE uint8_t *buf = malloc(cluster);
        unsigned wrong = 0;

        all->at = reallocarray(all->at, all->n + m->disk_clusters, sizeof(*all->at));
        ASSERT(buf && all->at);
        for (uint64_t at = 0; at < m->disk_bytes; at += cluster) {
                uint64_t bytes = MIN(cluster, m->disk_bytes - at);
                struct extent x;

                memset(buf, 0, cluster);

                bool zero = memcmp(model + at, buf, bytes) == 0;

                memcpy(buf, model + at, bytes);
                CU_ASSERT_EQUAL_FATAL(image_extent(m, at, bytes, &x, NULL), 0);
                wrong += (x.kind == L2_ZERO) != zero;
                if (!zero)
                        all->at[all->n++] = (struct content){ x.offset, XXH3_64bits(buf, cluster) };
        }
        CU_ASSERT_EQUAL(wrong, 0);
}

static void tag_agrees(const struct tank *t, unsigned i, struct contents *all)
{
        const struct tank_tag *g = &t->tag[i];
        struct qs_image *image = tank_open(t, i);
        const struct qs_image_info *info = qs_image_info(image);

        CU_ASSERT_EQUAL(kit_compare(image, g->bytes), 0);
        CU_ASSERT_EQUAL(info->date_ns, g->date_ns);
        CU_ASSERT_EQUAL(info->vm_clock_ns, g->vm_clock_ns);
        CU_ASSERT(!info->changed && info->layers == 1);
        section_agrees(image, "META", kit_meta, strlen(kit_meta));
        section_agrees(image, "STATE", g->state, g->state_bytes);
        list_contents(image, g->bytes, all);
        qs_image_close(image);
}

static int by_place(const void *a, const void *b)
{
        const struct content *x = a, *y = b;

        return (x->place > y->place) - (x->place < y->place);
}

static int by_key(const void *a, const void *b)
{
        const struct content *x = a, *y = b;

        return (x->key > y->key) - (x->key < y->key);
}

static size_t distinct(struct contents *all, int (*order)(const void *, const void *))
{
        size_t n = all->n > 0;

        if (all->n)
                qsort(all->at, all->n, sizeof(*all->at), order);
        for (size_t i = 1; i < all->n; i++)
                n += order(&all->at[i - 1], &all->at[i]) != 0;
        return n;
}

static void list_agrees(const struct tank *t)
{
        AUTO_FD fd = kit_open(t->path);
        AUTO_FREE struct qs_snapshot_info *list = NULL;
        int latest = tank_latest(t);
        size_t n = 0;

        CU_ASSERT_EQUAL_FATAL(qs_snapshot_list(fd, t->path, &list, &n, NULL), 0);
        CU_ASSERT_EQUAL(n, tank_tags(t));
        for (size_t i = 0; i < n; i++) {
                unsigned k = TANK_TAGS;

                CU_ASSERT_EQUAL_FATAL(sscanf(list[i].tag, "tag %u", &k), 1);
                CU_ASSERT_FATAL(k < TANK_TAGS && t->tag[k].bytes);
                CU_ASSERT_EQUAL(list[i].date_ns, t->tag[k].date_ns);
                CU_ASSERT_EQUAL(list[i].is_default, (int)k == latest);  /* INV-LATEST */
                for (size_t o = 0; o < i; o++)
                        CU_ASSERT(strcmp(list[o].id, list[i].id) && strcmp(list[o].tag,
                                                                           list[i].tag));
        }
}

static void say_finding(void *ctx, const char *text)
{
        (void)ctx;
        fprintf(stderr, "check: %s\n", text);
}

static void check_agrees(const struct tank *t)
{
        AUTO_FD fd = kit_open(t->path);
        struct qs_check_report report = { .leaks = 1 };

        CU_ASSERT_EQUAL(qs_check(fd, t->path, true, say_finding, NULL, NULL, NULL, &report, NULL),
                        0);
        CU_ASSERT(report.corruptions == 0 && report.leaks == 0 && !report.changed);
}

void tank_agrees(const struct tank *t)
{
        struct contents all = { 0 };

        for (unsigned i = 0; i < TANK_TAGS; i++) {
                if (t->tag[i].bytes)
                        tag_agrees(t, i, &all);
        }
        if (!t->refs_max)
                CU_ASSERT_EQUAL(distinct(&all, by_place), distinct(&all, by_key));
        free(all.at);
        list_agrees(t);
        check_agrees(t);
}

void tank_index_is_small(const struct tank *t)
{
        struct pool *p = NULL;

        CU_ASSERT_EQUAL_FATAL(pool_open(t->path, &p, NULL), 0);
        CU_ASSERT(p->area_toc.count <= INDEX_SEGMENTS_MAX + 1);
        for (unsigned i = 1; i < p->area_toc.count; i++)
                CU_ASSERT(p->area_toc.section[i].bytes <= p->area_toc.section[i - 1].bytes / 2);
        pool_close(p);
}

static struct stat status(const struct tank *t)
{
        struct stat st;
        int rc = stat(t->path, &st);

        ASSERT(rc == 0);
        return st;
}

uint64_t tank_file_bytes(const struct tank *t)
{
        return (uint64_t)status(t).st_size;
}

uint64_t tank_disk_usage(const struct tank *t)
{
        return (uint64_t)status(t).st_blocks * 512;
}
