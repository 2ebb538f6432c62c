/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a working set is stored in whatever file of ours, and read back; nothing of any
 *       snapshot changes by it: bytes, identity, deltas, readers; it goes where its
 *       snapshot goes, and with it.
 * Method: tables for the codec; files of one tag, of many, parents and deltas, each
 *       compared as a whole after each step (store-tags.h, store-box.h). */
#include "qcowstore/workset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/io.h"
#include "qcowstore/imglock.h"
#include "qcowstore/pool.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-box.h"
#include "tests/unit/store-tags.h"
#include "tests/unit/suite.h"

#define PAGE 4096u
#define DISK (300ull * PAGE)
#define SOME 4

/* ---- codec ------------------------------------------------------------------- */

static const struct {
        const char *name;
        uint64_t word[2 * SOME];
        size_t bytes;
        int want;                       /* extents; negative = errno */
        uint64_t last_bytes;
} parse_row[] = {
        { "none", { 0 }, 0, 0, 0 },
        { "one", { 0, PAGE }, 16, 1, PAGE },
        { "half of one", { 0, PAGE }, 8, -EBADMSG, 0 },
        { "empty extent", { 0, 0 }, 16, -EBADMSG, 0 },
        { "address within a page", { 1, PAGE }, 16, -EBADMSG, 0 },
        { "length within a page", { 0, PAGE + 1 }, 16, -EBADMSG, 0 },
        { "all the disk", { 0, DISK }, 16, 1, DISK },
        { "over its end", { DISK - PAGE, 2 * PAGE }, 16, 1, PAGE },
        { "behind its end", { 0, PAGE, DISK, PAGE }, 32, 1, PAGE },
        { "wraps around", { UINT64_MAX - PAGE + 1, 2 * PAGE }, 16, -EBADMSG, 0 },
        { "wraps by its length", { PAGE, UINT64_MAX - PAGE + 1 }, 16, -EBADMSG, 0 },
        { "the same over and over", { 0, DISK, 0, DISK, 0, DISK }, 48, -EBADMSG, 0 },
};

static void only_extents_of_the_disk_pass(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(parse_row); i++) {
                AUTO_FREE struct qs_ram_range *set = NULL;
                uint8_t bytes[16 * SOME];
                size_t n = 0;

                for (size_t k = 0; k < 2 * SOME; k++)
                        put_le64(bytes + 8 * k, parse_row[i].word[k]);

                int rc = qs_working_set_parse(bytes, parse_row[i].bytes, DISK, &set, &n, NULL);

                EXPECT_EQUAL(parse_row[i].name, rc < 0 ? rc : (int)n, parse_row[i].want);
                if (rc == 0 && n)
                        EXPECT_EQUAL(parse_row[i].name, set[n - 1].bytes,
                                     parse_row[i].last_bytes);
        }
}

static void too_many_extents(void)
{
        size_t bytes = (QS_WORKING_SET_MAX + 1ull) * 16;
        AUTO_FREE uint8_t *data = calloc(1, bytes);
        struct qs_ram_range *set = NULL;
        size_t n;

        for (size_t i = 0; i < bytes; i += 16)
                put_le64(data + i + 8, PAGE);
        CU_ASSERT_EQUAL(qs_working_set_parse(data, bytes, 1ull << 40, &set, &n, NULL), -EBADMSG);
        CU_ASSERT_EQUAL_FATAL(qs_working_set_parse(data, bytes - 16, 1ull << 40, &set, &n, NULL),
                              0);
        CU_ASSERT_EQUAL(n, QS_WORKING_SET_MAX);
        free(set);
}

/* Sets of the snapshots 1..3, each one extent; 2 is put again, 3 is gone. */
static void each_snapshot_has_its_own(void)
{
        struct snapshot all[] = { { .toc_sum = 1 }, { .toc_sum = 2 }, { .toc_sum = 3 } };
        AUTO_FREE uint8_t *data = NULL;
        size_t bytes = 0;
        const uint8_t *set;
        size_t n;

        for (unsigned i = 0; i < 4; i++) {
                struct qs_ram_range one = { 0, (i + 1) * PAGE };
                AUTO_FREE uint8_t *extent = workset_encode(&one, 1);
                AUTO_FREE uint8_t *old = data;

                CU_ASSERT_EQUAL_FATAL(worksets_put(old, bytes, all, i < 3 ? 3 : 2,
                                                   all[i < 3 ? i : 1].toc_sum, extent, 16, &data,
                                                   &bytes, NULL), 0);
        }
        CU_ASSERT_EQUAL(bytes, 2 * 32);
        CU_ASSERT_EQUAL_FATAL(worksets_find(data, bytes, 2, &set, &n, NULL), 0);
        CU_ASSERT_EQUAL(get_le64(set + 8), 4 * PAGE);
        CU_ASSERT_EQUAL_FATAL(worksets_find(data, bytes, 1, &set, &n, NULL), 0);
        CU_ASSERT_EQUAL(get_le64(set + 8), PAGE);
        CU_ASSERT_EQUAL(worksets_find(data, bytes, 3, &set, &n, NULL), -ENOENT);
        CU_ASSERT_EQUAL(worksets_find(data, bytes - 1, 3, &set, &n, NULL), -EBADMSG);
        put_le64(data + 8, UINT64_MAX - 15);
        CU_ASSERT_EQUAL(worksets_find(data, bytes, 3, &set, &n, NULL), -EBADMSG);
}

/* ---- files ------------------------------------------------------------------- */

/* pages a, a + 2, a + 4, ...: a set that no other one equals */
static void make_set(unsigned a, struct qs_ram_range set[SOME])
{
        for (unsigned i = 0; i < SOME; i++)
                set[i] = (struct qs_ram_range){ (a + 2 * i) * PAGE, PAGE };
}

static int put(const char *path, const char *tag, unsigned a)
{
        struct qs_ram_range set[SOME];
        struct err e = { 0 };

        make_set(a, set);

        int rc = qs_working_set_put(path, tag, NULL, set, SOME, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        return rc;
}

/* the first page of the set that is read; -errno */
static long first_of(struct qs_image *m)
{
        AUTO_FREE struct qs_ram_range *set = NULL;
        size_t n = 0;
        struct err e = { 0 };
        int rc = qs_working_set_read(m, &set, &n, &e);

        CU_ASSERT_EQUAL(e.code, rc);            /* no sentence without an error */
        if (rc < 0)
                return rc;
        CU_ASSERT_EQUAL(n, SOME);
        for (size_t i = 1; i < n; i++)
                CU_ASSERT_EQUAL(set[i].gpa, set[0].gpa + 2 * i * PAGE);
        return (long)(set[0].gpa / PAGE);
}

static struct qs_image *open_tag(const char *path, const char *tag)
{
        struct qs_open_options o = { .tag = tag };
        struct qs_image *m = NULL;

        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(path, &o, &m, NULL), 0);
        return m;
}

static long stored(const char *path, const char *tag)
{
        struct qs_image *m = open_tag(path, tag);
        long first = first_of(m);

        qs_image_close(m);
        return first;
}

static void save(struct tags *t, const char *name)
{
        uint8_t *ram = tags_ram(t, NULL);

        tags_scribble(t, ram, 120);
        CU_ASSERT_EQUAL_FATAL(tags_save(t, name, ram, NULL), 0);
}

static void one_snapshot(unsigned bits)
{
        struct tags t;

        tags_init(&t, bits, DISK, bits);
        save(&t, "a");

        struct qs_image *before = open_tag(t.path, NULL);

        CU_ASSERT_EQUAL(first_of(before), -ENOENT);
        CU_ASSERT_EQUAL(put(t.path, NULL, 7), 0);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT_EQUAL(stored(t.path, "a"), 7);

        /* whoever had it open goes on, and reads what is there now */
        struct qs_image *after = open_tag(t.path, NULL);

        CU_ASSERT_EQUAL(first_of(before), 7);
        CU_ASSERT_EQUAL(tags_differ(&t, &t.tag[0], before), 0);
        CU_ASSERT(qs_image_same(before, after));
        CU_ASSERT_EQUAL(memcmp(qs_image_info(before)->identity, qs_image_info(after)->identity,
                               16), 0);
        CU_ASSERT_EQUAL(put(t.path, "a", 9), 0);
        CU_ASSERT_EQUAL(first_of(before), 9);
        CU_ASSERT_EQUAL(first_of(after), 9);
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, NULL, NULL, NULL, 0, NULL), 0);
        CU_ASSERT_EQUAL(first_of(before), -ENOENT);
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, NULL, before, NULL, 0, NULL), 0);
        qs_image_close(after);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);

        /* another file of that name */
        unlink(t.path);
        save(&t, "a");
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, NULL, before, NULL, 0, NULL), -ESTALE);
        qs_image_close(before);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

static void it_is_stored_beside_the_snapshot(void)
{
        one_snapshot(12);
        one_snapshot(16);
}

/* Superseded clusters are used again. */
static void the_file_does_not_grow(void)
{
        struct tags t;
        uint64_t bytes = 0;

        tags_init(&t, 12, DISK, 3);
        save(&t, "a");
        for (unsigned i = 0; i < 30; i++) {
                CU_ASSERT_EQUAL(put(t.path, NULL, i), 0);

                struct qs_image *m = open_tag(t.path, NULL);

                if (i == 3)
                        bytes = qs_image_info(m)->file_bytes;
                if (i > 3)
                        CU_ASSERT(qs_image_info(m)->file_bytes <= bytes);
                qs_image_close(m);
        }
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

static void it_goes_where_its_snapshot_goes(void)
{
        struct qs_writer_stats stats;
        struct err e = { 0 };
        struct tags t;

        tags_init(&t, 12, DISK, 5);
        save(&t, "a");
        CU_ASSERT_EQUAL(put(t.path, "a", 1), 0);        /* before there is an index */
        save(&t, "b");
        save(&t, "c");
        CU_ASSERT_EQUAL(put(t.path, "b", 2), 0);
        CU_ASSERT_EQUAL(put(t.path, "c", 3), 0);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        save(&t, "d");
        CU_ASSERT_EQUAL(stored(t.path, "d"), -ENOENT);
        CU_ASSERT_EQUAL(tags_delete(&t, "b", NULL), 0);
        t.options.force = true;
        save(&t, "c");
        CU_ASSERT_EQUAL(stored(t.path, "c"), -ENOENT);
        CU_ASSERT_EQUAL(put(t.path, "d", 4), 0);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        for (int i = 0; i < 3; i++) {
                CU_ASSERT_EQUAL(stored(t.path, "a"), 1);
                CU_ASSERT_EQUAL(stored(t.path, "d"), 4);
                CU_ASSERT_EQUAL(stored(t.path, "c"), -ENOENT);
                t.options.tag[0] = '\0';
                t.options.append = t.options.force = false;
                CU_ASSERT_EQUAL(i ? qs_compact(t.path, NULL, NULL, &stats, &e)
                                  : qs_optimize(t.path, &t.options, NULL, NULL, &stats, &e), 0);
                CU_ASSERT_EQUAL(e.code, 0);
                CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        }
        /* the snapshot has its own now; what is stored later counts */
        CU_ASSERT_EQUAL(put(t.path, "a", 6), 0);
        CU_ASSERT_EQUAL(stored(t.path, "a"), 6);
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, "a", NULL, NULL, 0, NULL), 0);
        CU_ASSERT_EQUAL(stored(t.path, "a"), -ENOENT);
        CU_ASSERT_EQUAL(stored(t.path, "d"), 4);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

/* Where the first section of the pool area lies in the file. */
static uint64_t place_of_index(const char *path)
{
        struct pool *p = NULL;
        uint64_t at;

        CU_ASSERT_EQUAL_FATAL(pool_open(path, &p, NULL), 0);
        CU_ASSERT_STRING_EQUAL(p->area_toc.section[0].name, "INDEX.0");
        at = p->area[p->area_toc.section[0].offset >> p->latest->hdr.cluster_bits];
        pool_close(p);
        return at;
}

/* Content is found again whether the index came before or after; it is not written
 * anew for a working set. */
static void the_index_is_none_of_it(void)
{
        struct tags t;

        tags_init(&t, 12, DISK, 8);
        save(&t, "a");
        CU_ASSERT_EQUAL(put(t.path, "a", 1), 0);
        CU_ASSERT_EQUAL(tags_save(&t, "b", tags_ram(&t, "a"), NULL), 0);
        CU_ASSERT_EQUAL(t.stats.clusters_raw + t.stats.clusters_packed, 0);

        uint64_t at = place_of_index(t.path);

        CU_ASSERT_EQUAL(put(t.path, "b", 1), 0);
        CU_ASSERT_EQUAL(place_of_index(t.path), at);
        CU_ASSERT_EQUAL(tags_save(&t, "c", tags_ram(&t, "a"), NULL), 0);
        CU_ASSERT_EQUAL(t.stats.clusters_raw + t.stats.clusters_packed, 0);
        CU_ASSERT(tags_fini(&t));
}

static void parents_and_deltas_stay_kin(void)
{
        struct box b;

        box_begin(&b);
        b.ram.bytes[5 * PAGE] ^= 1;
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);
        CU_ASSERT(box_is_marked(b.parent));
        CU_ASSERT_EQUAL(put(b.parent, NULL, 1), 0);
        CU_ASSERT_EQUAL(put(b.child, NULL, 2), 0);
        CU_ASSERT(box_is_marked(b.parent));
        box_agrees(b.child, b.ram.bytes, 2);
        b.ram.bytes[5 * PAGE] ^= 1;
        box_agrees(b.parent, b.ram.bytes, 1);
        CU_ASSERT_EQUAL(stored(b.parent, NULL), 1);
        CU_ASSERT_EQUAL(stored(b.child, NULL), 2);
        /* and one more child of it */
        b.child_options.force = true;
        CU_ASSERT_EQUAL(box_make_child(&b, NULL), 0);
        box_agrees(b.child, b.ram.bytes, 2);
        CU_ASSERT_EQUAL(stored(b.child, NULL), -ENOENT);
        box_end(&b);
}

/* Pages that the child changed. */
static void a_delta_tells_what_was_written(void)
{
        AUTO_FREE struct qs_ram_range *set = NULL;
        struct box b;
        size_t n;

        box_begin(&b);
        for (unsigned i = 0; i < 3; i++)
                memset(b.ram.bytes + (40 + i) * PAGE, 0x5a + (int)i, PAGE);
        memset(b.ram.bytes + 9 * PAGE, 7, PAGE);
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);

        struct qs_image *child = open_tag(b.child, NULL);
        struct qs_image *parent = open_tag(b.parent, NULL);

        CU_ASSERT_EQUAL(qs_working_set_learn(parent, &set, &n, NULL), -EINVAL);
        CU_ASSERT_EQUAL_FATAL(qs_working_set_learn(child, &set, &n, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(n, 2);
        CU_ASSERT(set[0].gpa == 9 * PAGE && set[0].bytes == PAGE);
        CU_ASSERT(set[1].gpa == 40 * PAGE && set[1].bytes == 3 * PAGE);
        CU_ASSERT_EQUAL(qs_working_set_put(b.parent, NULL, parent, set, n, NULL), 0);
        qs_image_close(child);
        qs_image_close(parent);
        box_agrees(b.child, b.ram.bytes, 2);
        box_end(&b);
}

/* ---- refusals and damage ------------------------------------------------------- */

static const struct qs_ram_range bad_extent[] = {
        { 1, PAGE }, { 0, 1 }, { 0, 0 }, { DISK, PAGE }, { DISK - PAGE, 2 * PAGE },
        { PAGE, UINT64_MAX - PAGE + 1 },
};

static void refusals_leave_the_file_alone(void)
{
        struct qs_ram_range set = { 0, PAGE };
        struct tags t;
        struct err e;

        tags_init(&t, 12, DISK, 2);
        save(&t, "a");
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, "b", NULL, &set, 1, &e), -ENOENT);
        CU_ASSERT_EQUAL(qs_working_set_put("/nowhere/x", NULL, NULL, &set, 1, &e), -ENOENT);
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, NULL, NULL, &set, QS_WORKING_SET_MAX + 1ull,
                                           &e), -E2BIG);
        for (size_t i = 0; i < ARRAY_SIZE(bad_extent); i++)
                CU_ASSERT_EQUAL(qs_working_set_put(t.path, NULL, NULL, &bad_extent[i], 1, &e),
                                -EINVAL);

        AUTO_FD fd = open(t.path, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL_FATAL(imglock_append(fd, &e), 0);
        CU_ASSERT_EQUAL(qs_working_set_put(t.path, NULL, NULL, &set, 1, &e), -EBUSY);
        fd_close(&fd);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT_EQUAL(stored(t.path, NULL), -ENOENT);
        CU_ASSERT(tags_fini(&t));
}

/* where in the file the bytes are; 0 = nowhere */
static uint64_t find(const char *path, const void *what, size_t n)
{
        size_t bytes;
        AUTO_FREE uint8_t *file = kit_load(path, &bytes);
        uint8_t *at = memmem(file, bytes, what, n);

        return at ? (uint64_t)(at - file) : 0;
}

static void damage_is_found_and_cured(void)
{
        struct tags t;
        uint8_t bytes[16];

        tags_init(&t, 12, DISK, 4);
        save(&t, "a");
        CU_ASSERT_EQUAL(put(t.path, NULL, 150), 0);
        put_le64(bytes, 150 * PAGE);
        put_le64(bytes + 8, PAGE);

        uint64_t at = find(t.path, bytes, sizeof(bytes));
        AUTO_FD fd = open(t.path, O_RDWR | O_CLOEXEC);

        CU_ASSERT_NOT_EQUAL_FATAL(at, 0);
        bytes[1] ^= 16;
        CU_ASSERT_EQUAL_FATAL(io_pwrite_full(fd, bytes, sizeof(bytes), at), 0);
        CU_ASSERT_EQUAL(stored(t.path, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(kit_check(fd, 0), 1);
        CU_ASSERT_EQUAL(put(t.path, NULL, 151), 0);
        CU_ASSERT_EQUAL(stored(t.path, NULL), 151);
        CU_ASSERT_EQUAL(tags_wrong(&t, true), 0);
        CU_ASSERT(tags_fini(&t));
}

static const CU_TestInfo cases[] = {
        { "only extents of the disk pass", only_extents_of_the_disk_pass },
        { "too many extents", too_many_extents },
        { "each snapshot has its own", each_snapshot_has_its_own },
        { "it is stored beside the snapshot", it_is_stored_beside_the_snapshot },
        { "the file does not grow", the_file_does_not_grow },
        { "it goes where its snapshot goes", it_goes_where_its_snapshot_goes },
        { "the index is none of it", the_index_is_none_of_it },
        { "parents and deltas stay kin", parents_and_deltas_stay_kin },
        { "a delta tells what was written", a_delta_tells_what_was_written },
        { "refusals leave the file alone", refusals_leave_the_file_alone },
        { "damage is found and cured", damage_is_found_and_cured },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-workset", cases);
}
