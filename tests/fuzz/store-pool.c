/* SPDX-License-Identifier: Apache-2.0 */
/* A pool that is changed: what belongs to the file is read, and all that is done
 * with it is done, though others may have made it. Without the modes that change
 * it, its tags are read and all is checked.
 *
 * Input: u8 mode, then changes of a good pool, each u8 place, u16 offset in it
 * (little-endian, modulo a cluster), u8 length, bytes. With MODE_SEAL all sums that
 * guard those places are made right again, so that what lies behind them is
 * reached. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/metasum.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define MODE_SEAL 1
#define MODE_ADD 2
#define MODE_DELETE 4
#define MODE_REPLACE (MODE_ADD | MODE_DELETE)

#define BITS 12
#define CLUSTER (1u << BITS)
#define PAGES 16u
#define TAGS 3
/* header fields that are sealed */
#define SNAPTABLE_SUM_AT 168
#define META_SUM_AT 192
#define POOL_SUM_AT 200

enum place { HEADER, SNAPTABLE, REFTABLE, REFBLOCK, ACTIVE_L1, AREA_L2, AREA_TOC, INDEX, PLACES };

static struct {
        uint8_t *bytes;                 /* made once per process */
        size_t n;
        struct imghdr h;
        uint64_t at[PLACES];
} base;

static struct kit_ram make_ram(unsigned tag)
{
        struct kit_ram ram = { .bytes = calloc(PAGES, CLUSTER), .ranges = 1,
                               .range = { { 0, PAGES * CLUSTER } } };
        uint64_t state = 5;

        ASSERT(ram.bytes);
        for (unsigned i = 0; i < PAGES; i++)
                store_ram_page(ram.bytes + i * CLUSTER, CLUSTER, i % 3, &state);
        state += tag;
        if (tag)
                store_ram_page(ram.bytes + tag * CLUSTER, CLUSTER, 2, &state);
        return ram;
}

static int save(const char *path, unsigned tag, bool force)
{
        struct qs_writer_options o = {
                .cluster_bits = BITS, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 1,
                .disk_bytes = PAGES * CLUSTER, .append = true, .force = force,
        };
        struct kit_ram ram = make_ram(tag);

        snprintf(o.tag, sizeof(o.tag), "t%u", tag % 9);

        int rc = kit_save(path, &o, &ram, NULL);

        free(ram.bytes);
        return rc;
}

/* the whole cluster that an entry leads to; 0 = none, or not in the file */
static uint64_t follow(const uint8_t *file, size_t size, uint64_t entry_at)
{
        uint64_t offset = entry_at + 8 <= size
                          ? get_be64(file + entry_at) & 0x00fffffffffff000ull : 0;

        return offset < size && size - offset >= CLUSTER ? offset : 0;
}

static void make_base(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "pool", path);
        for (unsigned i = 0; i < TAGS; i++) {
                int rc = save(path, i, false);

                ASSERT(rc == 0);
        }
        base.bytes = kit_load(path, &base.n);
        unlink(path);
        kit_gone(folder);

        int rc = imghdr_parse(base.bytes, base.n, &base.h, NULL);

        ASSERT(rc == 0);
        base.at[SNAPTABLE] = base.h.snaptable_offset;
        base.at[REFTABLE] = base.h.reftable_offset;
        base.at[REFBLOCK] = follow(base.bytes, base.n, base.h.reftable_offset);
        base.at[ACTIVE_L1] = base.h.l1_offset;
        base.at[AREA_L2] = follow(base.bytes, base.n, base.h.l1_offset + 8);
        base.at[AREA_TOC] = follow(base.bytes, base.n, base.at[AREA_L2]);
        base.at[INDEX] = follow(base.bytes, base.n, base.at[AREA_L2] + 8);
        for (enum place i = HEADER + 1; i < PLACES; i++)
                ASSERT(base.at[i]);
}

static void change(uint8_t *file, const uint8_t *data, size_t n)
{
        while (n >= 4) {
                size_t at = (data[1] | data[2] << 8) % CLUSTER;
                size_t len = MIN(MIN(data[3], n - 4), CLUSTER - at);

                memcpy(file + base.at[data[0] % PLACES] + at, data + 4, len);
                data += 4 + len;
                n -= 4 + len;
        }
}

/* of the section's clusters that are there */
static uint64_t sum_section(const uint8_t *file, size_t size, uint64_t offset, uint64_t bytes)
{
        uint64_t n = MIN(bytes, 16 * CLUSTER);
        AUTO_FREE uint8_t *data = calloc(1, n + CLUSTER);

        ASSERT(data);
        for (uint64_t done = 0; done < n; done += CLUSTER) {
                uint64_t i = (offset + done) >> BITS;
                uint64_t at = i < CLUSTER / 8 ? follow(file, size, base.at[AREA_L2] + i * 8) : 0;

                memcpy(data + done, file + at, at ? CLUSTER : 0);
        }
        return sum_bytes(data, n, base.h.hash_seed);
}

static void seal_area(uint8_t *file, size_t size)
{
        uint8_t *toc = file + base.at[AREA_TOC];

        for (unsigned i = 0; i < MIN(get_le32(toc + 12), QS_SECTIONS_MAX); i++) {
                uint8_t *entry = toc + 64 + i * 64;

                put_le64(entry + 32, sum_section(file, size, get_le64(entry + 16),
                                                 get_le64(entry + 24)));
        }
        put_le64(file + POOL_SUM_AT, sum_bytes(toc, SECTOC_BYTES, base.h.hash_seed));
}

/* what metasum.h says, as far as it lies in the file */
static void seal_tables(uint8_t *file, size_t size, const struct imghdr *h)
{
        struct metasum *m = metasum_new(h->hash_seed);
        uint64_t table = MIN((uint64_t)h->reftable_clusters << BITS, size);
        uint64_t l1 = layout_clusters(h->l1_entries * 8ull, BITS) << BITS;
        uint64_t at;

        ASSERT(m);
        if (h->reftable_offset <= size - table && h->l1_offset <= size - MIN(l1, size)) {
                metasum_add(m, file + h->reftable_offset, table);
                for (uint64_t i = 0; i < table / 8; i++) {
                        at = follow(file, size, h->reftable_offset + i * 8);
                        if (at == 0)
                                break;
                        metasum_add(m, file + at, CLUSTER);
                }
                metasum_add(m, file + h->l1_offset, MIN(l1, size));
                for (uint64_t i = 1; i < h->l1_entries; i++) {
                        at = follow(file, size, h->l1_offset + i * 8);
                        metasum_add(m, file + at, at ? CLUSTER : 0);
                }
        }
        put_le64(file + META_SUM_AT, metasum_get(m));
        metasum_free(m);
}

static void seal_snapshots(uint8_t *file, size_t size, const struct imghdr *h)
{
        uint64_t at = h->snaptable_offset;
        uint64_t end = at;

        for (uint32_t i = 0; i < h->snapshots && end < size; i++) {
                struct snapshot s;
                size_t n;

                if (snaptable_parse(file + end, size - end, BITS, &s, &n, NULL) < 0)
                        return;
                end += n;
        }
        if (at < size && end <= size)
                put_le64(file + SNAPTABLE_SUM_AT, sum_bytes(file + at, end - at, h->hash_seed));
}

static void seal(uint8_t *file, size_t size)
{
        struct imghdr h;

        seal_area(file, size);
        imghdr_seal(file);
        if (imghdr_parse(file, size, &h, NULL) < 0 || !h.format_version || h.cluster_bits != BITS)
                return;
        seal_tables(file, size, &h);
        seal_snapshots(file, size, &h);
        imghdr_seal(file);
}

/* what a change does with the index, and what compact does */
static void use_index(const struct pool *p, const struct space *s)
{
        struct dedup *d = dedup_new(p->latest->hdr.hash_seed, 1000, 1000);
        struct dedupindex x;

        ASSERT(d);
        if (dedupindex_load(p, s, d, NULL) == 0) {
                dedupindex_moved(p, d, &x, NULL);
                dedupindex_fini(&x);
        }
        dedupindex_next(p, d, NULL, &x, NULL);
        dedupindex_fini(&x);
        dedupindex_next(p, NULL, s, &x, NULL);
        dedupindex_fini(&x);
        dedup_free(d);
}

static void look(const char *path)
{
        struct pool *p = NULL;
        struct space s = { 0 };
        struct err e = { 0 };

        if (pool_open(path, &p, &e) < 0) {
                ASSERT(e.text[0]);
                return;
        }
        if (pool_space(p, &s, NULL) == 0) {
                use_index(p, &s);
                pool_release_file(p, &s, NULL);
        }
        space_fini(&s);
        pool_close(p);
}

/* sets, and then reads that of the default tag */
static int use_working_set(int fd, const char *path)
{
        const struct qs_ram_range one = { 0, 4096 };
        struct qs_ram_range *set = NULL;
        struct qs_image *image;
        struct err e = { 0 };
        size_t n = 0;
        int rc = qs_working_set_put(path, NULL, NULL, &one, 1, &e);

        ASSERT(rc == 0 || e.text[0]);
        if (qs_image_open(fd, "fuzz", NULL, &image, NULL) < 0)
                return rc;
        if (qs_working_set_read(image, &set, &n, NULL) == 0)
                ASSERT(n == 1 && set[0].gpa == 0 && set[0].bytes == 4096);
        else
                ASSERT(rc < 0);
        free(set);
        qs_image_close(image);
        return rc;
}

static void read_tags(int fd)
{
        static const char *const tags[] = { NULL, "t0", "t1" };

        for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
                struct qs_image *image;
                struct err e = { 0 };

                if (qs_image_open(fd, "fuzz", tags[i], &image, &e) == 0) {
                        kit_touch(image);
                        qs_image_close(image);
                } else {
                        ASSERT(e.text[0]);
                }
        }
        kit_check(fd, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        if (!base.bytes)
                make_base();
        if (n < 1)
                return 0;

        AUTO_FREE uint8_t *file = malloc(base.n);
        char path[32];
        int rc = 0;

        ASSERT(file);
        memcpy(file, base.bytes, base.n);
        change(file, data + 1, n - 1);
        if (data[0] & MODE_SEAL)
                seal(file, base.n);

        AUTO_FD fd = kit_file(file, base.n);

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        look(path);
        if ((data[0] & MODE_REPLACE) == MODE_DELETE)
                rc = qs_snapshot_delete(path, "t1", NULL);
        else if (data[0] & MODE_REPLACE)
                rc = save(path, data[0] & MODE_DELETE ? 9 + 1 : 5, true);
        else
                read_tags(fd);
        if (rc == 0)
                rc = use_working_set(fd, path);
        if (n == 1)
                ASSERT(rc == 0 && kit_check(fd, 1) == 0);
        return 0;
}
