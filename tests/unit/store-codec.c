/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what the codecs write they read back, at the bytes that QCOW2 says,
 *       and nothing malformed passes.
 * Method: tables of values and of single changes to a good encoding. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "qcowstore/sumtree.h"
#include "tests/unit/suite.h"

static struct imghdr good_header(void)
{
        return (struct imghdr){
                .cluster_bits = 14, .refcount_order = 5, .zstd = true,
                .disk_bytes = 1ull << 30, .l1_offset = 5 << 14, .l1_entries = 32,
                .reftable_offset = 6 << 14, .reftable_clusters = 1,
                .snaptable_offset = 7 << 14, .snapshots = 1,
                .format_version = LAYOUT_FORMAT_VERSION, .meta_sum = 5, .pool_sum = 6,
                .parent_state = 8, .is_parent = true, .uuid = { 1, 2, 3 },
                .hash_seed = 0x1234, .snaptable_sum = 77,
        };
}

static void header_round_trip(void)
{
        struct imghdr h = good_header();
        struct imghdr back;
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        uint8_t again[LAYOUT_SECTOR_BYTES];

        imghdr_encode(&h, sector);
        CU_ASSERT_EQUAL(imghdr_parse(sector, sizeof(sector), &back, NULL), 0);
        imghdr_encode(&back, again);
        CU_ASSERT_EQUAL(memcmp(sector, again, sizeof(sector)), 0);
        CU_ASSERT_EQUAL(get_be32(sector), 0x514649fbu);
        CU_ASSERT_EQUAL(get_be32(sector + 20), 14);
        CU_ASSERT_EQUAL(get_be64(sector + 72), 8);      /* compression type */
        CU_ASSERT_EQUAL(get_be32(sector + 100), 112);
        CU_ASSERT_EQUAL(sector[104], 1);
        CU_ASSERT_EQUAL(get_be32(sector + 112), 0x534e4150u);
}

/* A sealed header with one field changed. */
static const struct {
        const char *name;
        unsigned at;
        unsigned bits;
        uint64_t value;
        int rc;
} changed[] = {
        { "magic",                   0,   32, 1,              -EBADMSG },
        { "version 1",               4,   32, 1,              -ENOTSUP },
        { "version 4",               4,   32, 4,              -ENOTSUP },
        { "backing file, no name",   8,   64, 200,            0 },
        { "cluster_bits 8",          20,  32, 8,              -EBADMSG },
        { "cluster_bits 9",          20,  32, 9,              -EBADMSG },
        { "cluster_bits 22",         20,  32, 22,             -EBADMSG },
        { "disk beyond 64 TiB",      24,  64, UINT64_MAX,     -ENOTSUP },
        { "disk beyond its L1",      24,  64, 2ull << 30,     -EBADMSG },
        { "AES",                     32,  32, 1,              -EBADMSG },
        { "LUKS",                    32,  32, 2,              -ENOTSUP },
        { "huge L1",                 36,  32, UINT32_MAX,     -EBADMSG },
        { "L1 not aligned",          40,  64, 512,            -EBADMSG },
        { "no refcount table",       56,  32, 0,              -EBADMSG },
        { "huge refcount table",     56,  32, 513,            -EBADMSG },
        { "too many snapshots",      60,  32, 65537,          -EBADMSG },
        { "no snapshot",             60,  32, 0,              -EBADMSG },
        { "dirty is tolerated",      72,  64, 8 | 1,          0 },
        { "corrupt",                 72,  64, 8 | 2,          -EBADMSG },
        { "data file",               72,  64, 8 | 4,          -ENOTSUP },
        { "extended L2",             72,  64, 8 | 16,         -EBADMSG },
        { "unknown feature",         72,  64, 8 | 1ull << 40, -ENOTSUP },
        { "type without feature",    72,  64, 0,              -EBADMSG },
        { "unknown autoclear",       88,  64, 3ull << 62,     0 },
        { "refcount width",          96,  32, 4,              -EBADMSG },
        { "refcount width 128",      96,  32, 7,              -EBADMSG },
        { "header length 96",        100, 32, 96,             -EBADMSG },
        { "extension cut",           116, 32, 72,             -EBADMSG },
};

static void header_changed(void)
{
        struct imghdr h = good_header();
        struct imghdr back;

        for (size_t i = 0; i < ARRAY_SIZE(changed); i++) {
                uint8_t sector[LAYOUT_SECTOR_BYTES];
                struct err e = { 0 };

                imghdr_encode(&h, sector);
                if (changed[i].bits == 32)
                        put_be32(sector + changed[i].at, (uint32_t)changed[i].value);
                else
                        put_be64(sector + changed[i].at, changed[i].value);
                imghdr_seal(sector);
                int rc = imghdr_parse(sector, sizeof(sector), &back, &e);

                if (rc != changed[i].rc)
                        fprintf(stderr, "%s: %d %s\n", changed[i].name, rc, e.text);
                CU_ASSERT_EQUAL(rc, changed[i].rc);
                CU_ASSERT((rc == 0) == (e.text[0] == '\0'));
        }
}

/* The same without our extension: what other programs may write, and not. */
static const struct {
        const char *name;
        unsigned at;
        unsigned bits;
        uint64_t value;
        int rc;
} foreign[] = {
        { "nothing",                 112, 32, 0,              0 },
        { "cluster_bits 9",          20,  32, 9,              -EBADMSG },       /* L1 too short */
        { "extended L2",             72,  64, 8 | 16,         -EBADMSG },       /* the same */
        { "AES",                     32,  32, 1,              0 },
        { "refcount width 16",       96,  32, 4,              0 },
        { "backing name too long",   16,  32, 1024,           -EBADMSG },
        { "backing name",            16,  32, 1023,           0 },
        { "backing name behind",     8,   64, (1 << 14) - 9,  -EBADMSG },
        { "backing name at the end", 8,   64, (1 << 14) - 10, 0 },
        { "backing offset huge",     8,   64, UINT64_MAX,     -EBADMSG },
};

static void header_foreign(void)
{
        struct imghdr h = good_header();
        struct imghdr back;

        for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
                uint8_t sector[LAYOUT_SECTOR_BYTES];
                struct err e = { 0 };

                imghdr_encode(&h, sector);
                memset(sector + 112, 0, sizeof(sector) - 112);
                put_be64(sector + 8, 300);
                put_be32(sector + 16, 10);
                if (foreign[i].bits == 32)
                        put_be32(sector + foreign[i].at, (uint32_t)foreign[i].value);
                else
                        put_be64(sector + foreign[i].at, foreign[i].value);

                int rc = imghdr_parse(sector, sizeof(sector), &back, &e);

                if (rc != foreign[i].rc)
                        fprintf(stderr, "%s: %d %s\n", foreign[i].name, rc, e.text);
                CU_ASSERT_EQUAL(rc, foreign[i].rc);
                CU_ASSERT(rc < 0 || back.format_version == 0);
        }
}

/* Only "qcow2" is; the list ends at the parent's name. */
static void header_backing_format(void)
{
        static const struct { const char *format; uint64_t name_at; bool qcow2; } formats[] = {
                { "qcow2", 300, true }, { "raw", 300, false }, { "qcow2x", 300, false },
                { "qcow", 300, false }, { "qcow2", 112, false },
        };
        struct imghdr h = good_header();
        struct imghdr back;

        for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
                uint8_t sector[LAYOUT_SECTOR_BYTES];

                imghdr_encode(&h, sector);
                memset(sector + 112, 0, sizeof(sector) - 112);
                put_be64(sector + 8, formats[i].name_at);
                put_be32(sector + 16, 3);
                put_be32(sector + 112, 0xe2792aca);
                put_be32(sector + 116, (uint32_t)strlen(formats[i].format));
                memcpy(sector + 120, formats[i].format, strlen(formats[i].format));
                CU_ASSERT_EQUAL(imghdr_parse(sector, sizeof(sector), &back, NULL), 0);
                CU_ASSERT_EQUAL(back.backing_qcow2, formats[i].qcow2);
        }
}

/* The sum comes before the version: a flip is damage, a sealed one is newer. */
static void header_newer(void)
{
        struct imghdr h = good_header();
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct err e = { 0 };

        imghdr_encode(&h, sector);
        put_le32(sector + 120, 3);
        CU_ASSERT_EQUAL(imghdr_parse(sector, sizeof(sector), &h, &e), -EBADMSG);
        imghdr_seal(sector);
        CU_ASSERT_EQUAL(imghdr_parse(sector, sizeof(sector), &h, &e), -ENOTSUP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "format version 3"));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "reads up to 2"));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "newer snapback"));
}

/* As QEMU leaves it: the sum is wrong, the extension may lie behind its own. */
static void header_changed_by_others(void)
{
        struct imghdr h = good_header();
        struct imghdr back;
        uint8_t bytes[IMGHDR_PARSE_BYTES] = { 0 };

        imghdr_encode(&h, bytes);
        bytes[87] |= 1;
        CU_ASSERT_EQUAL(imghdr_parse(bytes, sizeof(bytes), &back, NULL), 0);
        CU_ASSERT(back.changed && back.snaptable_sum == h.snaptable_sum);
        memmove(bytes + 112 + 8 + 384, bytes + 112, 112);
        put_be32(bytes + 112, 0x6803f857);
        put_be32(bytes + 116, 384);
        put_be32(bytes + 60, 3);
        h.default_snapshot = 7;
        CU_ASSERT_EQUAL(imghdr_parse(bytes, sizeof(bytes), &back, NULL), 0);
        CU_ASSERT_EQUAL(back.format_version, LAYOUT_FORMAT_VERSION);
        CU_ASSERT(back.changed);
        CU_ASSERT_EQUAL(back.hash_seed, h.hash_seed);
        CU_ASSERT_EQUAL(back.default_snapshot, 2);      /* the last one */
        put_be32(bytes + 60, 0);
        put_be64(bytes + 64, 0);
        CU_ASSERT_EQUAL(imghdr_parse(bytes, sizeof(bytes), &back, NULL), -EBADMSG);
}

static void header_flips(void)
{
        struct imghdr h = good_header();
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        unsigned silent = 0;

        imghdr_encode(&h, sector);
        for (unsigned bit = 0; bit < sizeof(sector) * 8; bit++) {
                struct imghdr back;

                sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
                /* foreign: image.c finds our VM state and refuses */
                if (imghdr_parse(sector, sizeof(sector), &back, NULL) == 0 &&
                    back.format_version && !back.changed)
                        silent++;
                sector[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        CU_ASSERT_EQUAL(silent, 0);
}

static void packed_descriptors(void)
{
        for (unsigned bits = 12; bits <= 21; bits++) {
                uint64_t cluster = 1ull << bits;
                uint64_t file = 64 * cluster;
                const uint64_t offsets[] = {
                        cluster, cluster + 1, 3 * cluster - 1, 5 * cluster + 511,
                };
                const uint64_t sizes[] = { 1, 511, 512, 513, cluster - 1 };

                for (size_t i = 0; i < ARRAY_SIZE(offsets) * ARRAY_SIZE(sizes); i++) {
                        uint64_t at = offsets[i % ARRAY_SIZE(offsets)];
                        uint64_t n = sizes[i / ARRAY_SIZE(offsets)];
                        uint64_t v = l2entry_packed(at, n, bits);
                        struct l2entry entry;

                        /* the sector count as the specification has it */
                        CU_ASSERT_EQUAL((v >> (62 - (bits - 8))) & ((1ull << (bits - 8)) - 1),
                                        (at + n - 1) / 512 - at / 512);
                        CU_ASSERT_PTR_NULL(l2entry_decode(v, bits, file, &entry));
                        CU_ASSERT_EQUAL(entry.kind, L2_PACKED);
                        CU_ASSERT_EQUAL(entry.offset, at);
                        CU_ASSERT_EQUAL((at + entry.bytes) % 512, 0);
                        CU_ASSERT(entry.bytes >= n && entry.bytes < n + 512);
                        CU_ASSERT(entry.bytes <= 2 * cluster);
                        CU_ASSERT_PTR_NOT_NULL(l2entry_decode(v | L2ENTRY_COPIED, bits, file,
                                                              &entry));
                        CU_ASSERT_PTR_NOT_NULL(l2entry_decode(v, bits, at, &entry));
                }
        }
}

static const struct {
        const char *name;
        uint64_t v;
        bool ok;
        enum l2_kind kind;
        uint64_t offset;
} entries[] = {
        { "unallocated",     0,                       true,  L2_NONE, 0 },
        { "raw",             0x30000,                 true,  L2_RAW,  0x30000 },
        { "raw, copied",     0x30000 | 1ull << 63,    true,  L2_RAW,  0x30000 },
        { "zero",            1,                       true,  L2_ZERO, 0 },
        { "zero allocated",  0x30001,                 true,  L2_ZERO, 0x30000 },
        { "last cluster",    0xf0000,                 true,  L2_RAW,  0xf0000 },
        { "beyond the end",  0x100000,                false, 0, 0 },
        { "not aligned",     0x31000,                 false, 0, 0 },
        { "reserved low",    0x30002,                 false, 0, 0 },
        { "reserved high",   0x30000 | 1ull << 61,    false, 0, 0 },
        { "copied nothing",  1ull << 63,              false, 0, 0 },
        { "packed beyond",   1ull << 62 | 0x100000,   false, 0, 0 },
        { "packed header",   1ull << 62 | 0x100,      false, 0, 0 },
        { "packed too long", 0x7full << 55 | 0xffe00, false, 0, 0 },
};

static void l2_entries(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
                struct l2entry entry = { 0 };
                const char *wrong = l2entry_decode(entries[i].v, 16, 0x100000, &entry);

                if (!wrong != entries[i].ok)
                        fprintf(stderr, "%s: %s\n", entries[i].name, wrong);
                CU_ASSERT_EQUAL(!wrong, entries[i].ok);
                CU_ASSERT(wrong || (entry.kind == entries[i].kind &&
                                    entry.offset == entries[i].offset));
        }
}

static const struct {
        const char *name;
        uint64_t v;
        uint64_t bitmap;
        bool ok;
        enum l2_kind first, last;       /* subclusters 0 and 31 */
} extended[] = {
        { "nothing",          0,               0,                      true,  L2_NONE, L2_NONE },
        { "data",             0x30000,         0xffffffff,             true,  L2_RAW,  L2_RAW },
        { "first",            0x30000,         1,                      true,  L2_RAW,  L2_NONE },
        { "last zero",        0x30000,         1ull << 63 | 1,         true,  L2_RAW,  L2_ZERO },
        { "zero, no cluster", 0,               1ull << 32,             true,  L2_ZERO, L2_NONE },
        { "packed",           1ull << 62 | 0x20000, 0,                 true,
          L2_PACKED, L2_PACKED },
        { "both",             0x30000,         1ull << 32 | 1,         false, 0, 0 },
        { "no cluster",       0,               2,                      false, 0, 0 },
        { "packed, bitmap",   1ull << 62 | 0x20000, 1,                 false, 0, 0 },
        { "zero bit",         0x30001,         0,                      false, 0, 0 },
        { "beyond",           0x100000,        1,                      false, 0, 0 },
};

static void extended_entries(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(extended); i++) {
                struct l2entry entry = { 0 };
                const char *wrong = l2entry_decode_extended(extended[i].v, extended[i].bitmap, 16,
                                                            0x100000, &entry);

                if (!wrong != extended[i].ok)
                        fprintf(stderr, "%s: %s\n", extended[i].name, wrong);
                CU_ASSERT_EQUAL(!wrong, extended[i].ok);
                if (wrong)
                        continue;
                CU_ASSERT_EQUAL(l2entry_sub_kind(&entry, extended[i].bitmap, 0),
                                extended[i].first);
                CU_ASSERT_EQUAL(l2entry_sub_kind(&entry, extended[i].bitmap, 31),
                                extended[i].last);
        }
}

static void l1_entries(void)
{
        uint64_t at = 1;

        CU_ASSERT_PTR_NULL(l1entry_decode(0, 16, 0x100000, &at));
        CU_ASSERT_EQUAL(at, 0);
        CU_ASSERT_PTR_NULL(l1entry_decode(0x20000 | L2ENTRY_COPIED, 16, 0x100000, &at));
        CU_ASSERT_EQUAL(at, 0x20000);
        CU_ASSERT_PTR_NOT_NULL(l1entry_decode(0x20001, 16, 0x100000, &at));
        CU_ASSERT_PTR_NOT_NULL(l1entry_decode(0x100000, 16, 0x100000, &at));
        CU_ASSERT_PTR_NOT_NULL(l1entry_decode(0x21000, 16, 0x100000, &at));
        CU_ASSERT_PTR_NOT_NULL(l1entry_decode(L2ENTRY_COPIED, 16, 0x100000, &at));
}

static void snapshot_entry(void)
{
        struct snapshot s = {
                .l1_offset = 9 << 14, .l1_entries = 3, .date_ns = 1700000000000000123ull,
                .vm_clock_ns = 5, .state_bytes = 6ull << 32, .disk_bytes = 1 << 30,
                .ours = true, .toc_sum = 99, .id = "1", .tag = "before upgrade",
        };
        struct snapshot back = { 0 };
        uint8_t buf[LAYOUT_SNAPSHOT_BYTES_MAX];
        uint8_t again[LAYOUT_SNAPSHOT_BYTES_MAX];
        size_t n = snaptable_encode(&s, buf);
        size_t used = 0;

        CU_ASSERT_EQUAL(n % 8, 0);
        CU_ASSERT_EQUAL(snaptable_parse(buf, n, 14, &back, &used, NULL), 0);
        CU_ASSERT_EQUAL(used, n);
        CU_ASSERT(back.ours && back.toc_sum == 99);
        CU_ASSERT_STRING_EQUAL(back.tag, "before upgrade");
        CU_ASSERT_EQUAL(snaptable_encode(&back, again), n);
        CU_ASSERT_EQUAL(memcmp(buf, again, n), 0);
        CU_ASSERT_EQUAL(get_be32(buf + 32), 0);         /* 4 GiB and more: only in the extra */
        for (size_t len = 0; len < 40 + 40 + 1 + 14; len++)
                CU_ASSERT_EQUAL(snaptable_parse(buf, len, 14, &back, &used, NULL), -EBADMSG);
        put_be32(buf + 32, 77);
        put_be32(buf + 36, 8);                          /* as version 2 may have it */
        CU_ASSERT_EQUAL(snaptable_parse(buf, n, 14, &back, &used, NULL), 0);
        CU_ASSERT(!back.complete && !back.ours && back.state_bytes == 77 && back.disk_bytes == 0);
        put_be32(buf + 36, 2000);
        CU_ASSERT_EQUAL(snaptable_parse(buf, n, 14, &back, &used, NULL), -EBADMSG);
}

static void section_table(void)
{
        struct sectoc toc = { .count = 2, .section = {
                { "META", 4096, 100, 7, 0 }, { "CHECKSUMS", 8192, 8 * 600, 8, SECTION_TREE },
        } };
        struct sectoc back;
        uint8_t buf[SECTOC_BYTES];
        uint64_t state = 8192 + 3 * 4096;

        sectoc_encode(&toc, buf);
        CU_ASSERT_EQUAL(sectoc_parse(buf, 12, state, &back, NULL), 0);
        CU_ASSERT_EQUAL(back.count, 2);
        CU_ASSERT_PTR_NOT_NULL(sectoc_find(&back, "META"));
        CU_ASSERT_PTR_NULL(sectoc_find(&back, "DEVICES"));
        CU_ASSERT_EQUAL(sectoc_find(&back, "CHECKSUMS")->bytes, 4800);
        CU_ASSERT_EQUAL(sectoc_parse(buf, 12, state - 4096, &back, NULL), -EBADMSG);

        static const struct { unsigned at; uint64_t value; int rc; } wrong[] = {
                { 0, 0, -EBADMSG },                     /* magic */
                { 8, 2 | 2ull << 32, -ENOTSUP },        /* version */
                { 8, 1 | 33ull << 32, -EBADMSG },       /* count */
                { 8, 1 | 3ull << 32, -EBADMSG },        /* an empty entry */
                { 64, 0, -EBADMSG },                    /* no name */
                { 80, 0, -EBADMSG },                    /* over the table itself */
                { 80, 8192, -EBADMSG },                 /* over the next one */
                { 80, 4097, -EBADMSG },
                { 88, UINT64_MAX, -EBADMSG },           /* size */
                { 88, 4097, -EBADMSG },
                { 104, 2, -ENOTSUP },                   /* flags */
                { 112, 1, -EBADMSG },                   /* padding */
        };

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                sectoc_encode(&toc, buf);
                put_le64(buf + wrong[i].at, wrong[i].value);
                CU_ASSERT_EQUAL(sectoc_parse(buf, 12, state, &back, NULL), wrong[i].rc);
        }
}

static void sums(void)
{
        uint8_t buf[4096 + 8] = { 0 };

        CU_ASSERT(sum_all_zero(buf, sizeof(buf)));
        for (size_t i = 0; i < sizeof(buf); i++) {
                buf[i] = 1;
                if (sum_all_zero(buf, sizeof(buf)))
                        CU_FAIL("a byte was overlooked");
                buf[i] = 0;
        }
        CU_ASSERT_NOT_EQUAL(sum_bytes(buf, 4096, 1), sum_bytes(buf, 4096, 2));
        CU_ASSERT_NOT_EQUAL(sum_bytes(buf, 4096, 1), 0);
        CU_ASSERT_EQUAL(sumtree_blocks(513, 12), 2);
        CU_ASSERT_EQUAL(sumtree_extent(513, 12), 3 * 4096);
}

static const CU_TestInfo cases[] = {
        { "a header comes back", header_round_trip },
        { "a header with one wrong field is refused", header_changed },
        { "headers of other programs", header_foreign },
        { "the parent's format", header_backing_format },
        { "newer is not damaged", header_newer },
        { "what QEMU leaves of a header", header_changed_by_others },
        { "no flipped bit of sector 0 passes", header_flips },
        { "compressed descriptors of all cluster sizes", packed_descriptors },
        { "L2 entries", l2_entries },
        { "extended L2 entries", extended_entries },
        { "L1 entries", l1_entries },
        { "a snapshot entry comes back", snapshot_entry },
        { "section tables", section_table },
        { "sums and zeros", sums },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-codec", cases);
}
