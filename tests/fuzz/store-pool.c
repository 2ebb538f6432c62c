/* SPDX-License-Identifier: Apache-2.0 */
/* A pool that is changed: opened, its index and counts read, a tag added or deleted;
 * without the two modes its tags are read and checked.
 *
 * Input: u8 mode, then patches for a good pool of three tags, each u8 place, u16
 * offset (modulo the place's size), u8 length, bytes. With MODE_SEAL the sums of
 * index, pool area, tables, snapshot table and header are made right again, so
 * that what lies behind them is reached. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/metasum.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define MODE_ADD 1                      /* a tag */
#define MODE_DELETE 2                   /* one */
#define MODE_SEAL 4
#define CLUSTER 4096u
#define RAM_BYTES (24u * CLUSTER)

enum place { HEADER, REFTABLE, REFBLOCK, ACTIVE_L1, AREA_L2, AREA_TOC, INDEX, SNAPTABLE, PLACES };

struct pool_bytes {
        uint8_t *file;
        size_t size;
        struct imghdr h;
        uint8_t *at[PLACES];            /* one cluster each */
};

static int save(const char *path, const char *tag, uint64_t seed, struct err *e)
{
        struct qs_writer_options o = {
                .cluster_bits = 12, .compress = seed % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                .zstd_level = 1, .threads = 1, .disk_bytes = RAM_BYTES, .append = true,
        };
        struct kit_ram ram = { .bytes = calloc(1, RAM_BYTES), .ranges = 1,
                               .range = { { 0, RAM_BYTES } } };
        uint64_t state = 5;

        ASSERT(ram.bytes);
        for (unsigned i = 0; i < RAM_BYTES; i += CLUSTER) {
                if (i / CLUSTER == 12)
                        state = seed;
                store_ram_page(ram.bytes + i, CLUSTER, i / CLUSTER % 3, &state);
        }
        snprintf(o.tag, sizeof(o.tag), "%s", tag);

        int rc = kit_save(path, &o, &ram, e);

        free(ram.bytes);
        return rc;
}

static uint8_t *make_base(size_t *ret_n)
{
        static const char *const tags[] = { "one", "two", "three" };
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "pool", path);
        for (unsigned i = 0; i < 3; i++) {
                int rc = save(path, tags[i], 20 + i, NULL);

                ASSERT(rc == 0);
        }

        uint8_t *bytes = kit_load(path, ret_n);

        unlink(path);
        kit_gone(folder);
        return bytes;
}

/* NULL when it is not a whole cluster within the file */
static uint8_t *cluster_at(const struct pool_bytes *p, uint64_t offset)
{
        bool ok = offset && IS_ALIGNED(offset, CLUSTER) && offset <= p->size - CLUSTER;

        return ok ? p->file + offset : NULL;
}

static uint8_t *follow(const struct pool_bytes *p, const uint8_t *entry)
{
        return cluster_at(p, get_be64(entry) & 0x00fffffffffffe00ull);
}

/* All tables of so small a pool are one cluster long. */
static bool find_places(struct pool_bytes *p)
{
        if (imghdr_parse(p->file, CLUSTER, &p->h, NULL) < 0 || !p->h.format_version ||
            p->h.cluster_bits != 12)
                return false;

        uint64_t disk_l1 = layout_l1_entries(p->h.disk_bytes, 12);

        p->at[HEADER] = p->file;
        p->at[REFTABLE] = cluster_at(p, p->h.reftable_offset);
        p->at[ACTIVE_L1] = cluster_at(p, p->h.l1_offset);
        p->at[SNAPTABLE] = cluster_at(p, p->h.snaptable_offset);
        if (!p->at[REFTABLE] || !p->at[ACTIVE_L1] || !p->at[SNAPTABLE] || disk_l1 > 8)
                return false;
        p->at[REFBLOCK] = follow(p, p->at[REFTABLE]);
        p->at[AREA_L2] = follow(p, p->at[ACTIVE_L1] + disk_l1 * 8);
        if (!p->at[REFBLOCK] || !p->at[AREA_L2])
                return false;
        p->at[AREA_TOC] = follow(p, p->at[AREA_L2]);
        p->at[INDEX] = follow(p, p->at[AREA_L2] + 8);
        return p->at[AREA_TOC] && p->at[INDEX];
}

/* bytes of a section, which is in clusters that the pool area's L2 table leads to */
static bool sum_section(const struct pool_bytes *p, struct section *s)
{
        AUTO_FREE uint8_t *data = s->bytes <= p->size ? malloc(s->bytes + CLUSTER) : NULL;

        for (uint64_t done = 0; data && done < s->bytes; done += CLUSTER) {
                uint64_t at = (s->offset + done) / CLUSTER;
                const uint8_t *from = at < 512 ? follow(p, p->at[AREA_L2] + at * 8) : NULL;

                if (!from)
                        return false;
                memcpy(data + done, from, CLUSTER);
        }
        if (data)
                s->sum = sum_bytes(data, s->bytes, p->h.hash_seed);
        return data;
}

static void seal_area(struct pool_bytes *p)
{
        struct sectoc toc;

        if (sectoc_parse(p->at[AREA_TOC], 12, 512 * CLUSTER, &toc, NULL) == 0) {
                for (unsigned i = 0; i < toc.count; i++)
                        sum_section(p, &toc.section[i]);
                sectoc_encode(&toc, p->at[AREA_TOC]);
        }
        p->h.pool_sum = sum_bytes(p->at[AREA_TOC], SECTOC_BYTES, p->h.hash_seed);
}

static void seal_tables(struct pool_bytes *p)
{
        static const enum place order[] = { REFTABLE, REFBLOCK, ACTIVE_L1, AREA_L2 };
        struct metasum *sum = metasum_new(p->h.hash_seed);

        ASSERT(sum);
        for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
                metasum_add(sum, p->at[order[i]], CLUSTER);
        p->h.meta_sum = metasum_get(sum);
        metasum_free(sum);
}

static uint64_t sum_snapshots(const struct pool_bytes *p)
{
        size_t done = 0;

        for (uint32_t i = 0; i < p->h.snapshots; i++) {
                struct snapshot s;
                size_t n;

                if (snaptable_parse(p->at[SNAPTABLE] + done, CLUSTER - done, 12, &s, &n, NULL) < 0)
                        break;
                done += n;
        }
        return sum_bytes(p->at[SNAPTABLE], done, p->h.hash_seed);
}

static void seal(struct pool_bytes *p)
{
        imghdr_seal(p->file);
        if (!find_places(p))
                return;
        seal_area(p);
        seal_tables(p);
        p->h.snaptable_sum = sum_snapshots(p);
        put_le64(p->file + 168, p->h.snaptable_sum);
        put_le64(p->file + 192, p->h.meta_sum);
        put_le64(p->file + 200, p->h.pool_sum);
        imghdr_seal(p->file);
}

static void patch(struct pool_bytes *p, const uint8_t *data, size_t n)
{
        while (n >= 4) {
                size_t len = MIN(data[3], n - 4);
                size_t at = get_le16(data + 1) % CLUSTER;

                len = MIN(len, CLUSTER - at);
                memcpy(p->at[data[0] % PLACES] + at, data + 4, len);
                data += 4 + len;
                n -= 4 + len;
        }
}

static void look(int fd)
{
        static const char *const tags[] = { NULL, "one", "two" };

        for (unsigned i = 0; i < ARRAY_SIZE(tags); i++) {
                struct qs_image *m;
                struct err e = { 0 };

                if (qs_image_open(fd, "fuzz", tags[i], &m, &e) == 0) {
                        kit_touch(m);
                        qs_image_close(m);
                } else {
                        ASSERT(e.text[0]);
                }
        }
        kit_check(fd, 1);
}

/* could it be done? */
static bool change(int fd, uint8_t mode)
{
        struct err e = { 0 };
        char path[32];
        bool ok = true;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (mode & MODE_ADD)
                ok = save(path, "four", 30, &e) == 0;
        ASSERT(ok || e.text[0]);
        if (ok && mode & MODE_DELETE)
                ok = qs_snapshot_delete(path, "two", &e) == 0;
        ASSERT(ok || e.text[0]);
        return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static uint8_t *base;           /* made once per process */
        static size_t base_bytes;

        if (!base)
                base = make_base(&base_bytes);
        if (n < 1)
                return 0;

        struct pool_bytes p = { .file = malloc(base_bytes), .size = base_bytes };

        ASSERT(p.file);
        memcpy(p.file, base, base_bytes);

        bool found = find_places(&p);

        ASSERT(found);
        patch(&p, data + 1, n - 1);
        if (data[0] & MODE_SEAL)
                seal(&p);

        AUTO_FD fd = kit_file(p.file, p.size);

        bool ok = change(fd, data[0]);

        if (!(data[0] & (MODE_ADD | MODE_DELETE)))
                look(fd);
        if (n == 1) {                   /* nothing was patched: seals are right */
                long findings = kit_check(fd, 1);

                ASSERT(ok && findings == 0);
        }
        free(p.file);
        return 0;
}
