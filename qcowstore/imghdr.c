/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/imghdr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "qcowstore/store.h"
#include "qcowstore/sum.h"

#define MAGIC 0x514649fbu
#define HEADER_BYTES 112u
#define HEADER_BYTES_MIN 104u
#define REFCOUNT_ORDER_MAX 6u

#define INCOMPAT_DIRTY (1ull << 0)      /* refcounts may be stale: harmless to readers */
#define INCOMPAT_CORRUPT (1ull << 1)
#define INCOMPAT_DATA_FILE (1ull << 2)
#define INCOMPAT_COMPRESSION (1ull << 3)
#define INCOMPAT_EXTENDED_L2 (1ull << 4)
#define INCOMPAT_TOLERATED (INCOMPAT_DIRTY | INCOMPAT_COMPRESSION)

#define EXT_TYPE 0x534e4150u
#define EXT_BYTES 80u
#define EXT_AT (HEADER_BYTES + 8)
#define EXT_SUM 64u

/* sector_sum of a sector whose extension data start at `ext` */
static uint64_t sector_sum(const uint8_t *sector, size_t ext)
{
        uint8_t copy[LAYOUT_SECTOR_BYTES];

        memcpy(copy, sector, sizeof(copy));
        put_le64(copy + ext + EXT_SUM, 0);
        return sum_bytes(copy, sizeof(copy), get_le64(copy + ext + 40));
}

void imghdr_seal(uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        put_le64(sector + EXT_AT + EXT_SUM, sector_sum(sector, EXT_AT));
}

void imghdr_encode(const struct imghdr *h, uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        uint8_t *p = sector;

        memset(p, 0, LAYOUT_SECTOR_BYTES);
        put_be32(p, MAGIC);
        put_be32(p + 4, 3);
        put_be32(p + 20, h->cluster_bits);
        put_be64(p + 24, h->disk_bytes);
        put_be32(p + 36, h->l1_entries);
        put_be64(p + 40, h->l1_offset);
        put_be64(p + 48, h->reftable_offset);
        put_be32(p + 56, h->reftable_clusters);
        put_be32(p + 60, h->snapshots);
        put_be64(p + 64, h->snaptable_offset);
        put_be64(p + 72, h->zstd ? INCOMPAT_COMPRESSION : 0);
        put_be32(p + 96, h->refcount_order);
        put_be32(p + 100, HEADER_BYTES);
        p[104] = h->zstd ? 1 : 0;
        put_be32(p + HEADER_BYTES, EXT_TYPE);
        put_be32(p + HEADER_BYTES + 4, EXT_BYTES);
        p += EXT_AT;
        put_le32(p, h->format_version);
        memcpy(p + 8, h->uuid, sizeof(h->uuid));
        memcpy(p + 24, h->parent_uuid, sizeof(h->parent_uuid));
        put_le64(p + 40, h->hash_seed);
        put_le64(p + 48, h->snaptable_sum);
        put_le32(p + 56, h->default_snapshot);
        imghdr_seal(sector);
}

/* 0 = foreign file, else where the extension's data start */
static int find_extension(const uint8_t *bytes, size_t len, size_t *ret, struct err *e)
{
        size_t at = get_be32(bytes + 100);

        *ret = 0;
        if (at < HEADER_BYTES_MIN || !IS_ALIGNED(at, 8))
                return err_msg(e, EBADMSG, "the header length %zu is wrong", at);
        while (at + 8 <= len) {
                uint32_t type = get_be32(bytes + at);
                uint32_t n = get_be32(bytes + at + 4);

                at += 8;
                if (type == 0)
                        return 0;
                if (type == EXT_TYPE) {
                        if (n != EXT_BYTES || at + n > LAYOUT_SECTOR_BYTES)
                                return err_msg(e, EBADMSG, "the snapback header extension was "
                                               "damaged or moved by another program");
                        *ret = at;
                        return 0;
                }
                at += ALIGN_UP((uint64_t)n, 8);
        }
        return 0;
}

/* After the sum: what is wrong here was written so, by another version. */
static int parse_extension(const uint8_t *bytes, size_t ext, struct imghdr *h, struct err *e)
{
        const uint8_t *p = bytes + ext;

        if (get_le64(p + EXT_SUM) != sector_sum(bytes, ext))
                return err_msg(e, EBADMSG, "the header does not match its checksum: the file is "
                               "damaged or was changed by another program");
        h->format_version = get_le32(p);
        if (h->format_version > LAYOUT_FORMAT_VERSION)
                return err_msg(e, ENOTSUP, "the file has format version %u and this program "
                               "reads up to %u: use a newer snapback",
                               h->format_version, LAYOUT_FORMAT_VERSION);
        if (h->format_version == 0 || get_le32(p + 4) || get_le32(p + 60) || get_le64(p + 72))
                return err_msg(e, EBADMSG, "the snapback header extension has reserved values");
        memcpy(h->uuid, p + 8, sizeof(h->uuid));
        memcpy(h->parent_uuid, p + 24, sizeof(h->parent_uuid));
        h->hash_seed = get_le64(p + 40);
        h->snaptable_sum = get_le64(p + 48);
        h->default_snapshot = get_le32(p + 56);
        return 0;
}

static int check_incompatible(uint64_t bits, struct err *e)
{
        if (bits & INCOMPAT_CORRUPT)
                return err_msg(e, EBADMSG, "the file is marked corrupt: try "
                               "'qemu-img check -r all' on a copy");
        if (bits & INCOMPAT_DATA_FILE)
                return err_msg(e, ENOTSUP, "an external data file is not supported");
        if (bits & INCOMPAT_EXTENDED_L2)
                return err_msg(e, ENOTSUP, "extended L2 entries are not supported");
        bits &= ~INCOMPAT_TOLERATED;
        if (!bits)
                return 0;

        char names[128] = "";
        size_t at = 0;

        for (unsigned i = 0; i < 64 && at + 8 < sizeof(names); i++) {
                if (bits >> i & 1)
                        at += (size_t)snprintf(names + at, sizeof(names) - at, " %u", i);
        }
        return err_msg(e, ENOTSUP, "unknown incompatible feature bits%s: use a newer program",
                       names);
}

static int check_features(const uint8_t *p, struct imghdr *h, struct err *e)
{
        uint64_t incompatible = get_be64(p + 72);
        int rc = check_incompatible(incompatible, e);

        if (rc < 0)
                return rc;
        if (get_be64(p + 8))
                return err_msg(e, ENOTSUP, "backing files are not supported: flatten the file "
                               "with 'qemu-img convert'");
        if (get_be32(p + 32))
                return err_msg(e, ENOTSUP, "encryption is not supported");

        unsigned type = get_be32(p + 100) > 104 ? p[104] : 0;

        if (type > 1)
                return err_msg(e, ENOTSUP, "compression type %u is not supported", type);
        h->zstd = type == 1;
        if (h->zstd != !!(incompatible & INCOMPAT_COMPRESSION))
                return err_msg(e, EBADMSG, "compression type and feature bit disagree");
        return 0;
}

static int parse_fields(const uint8_t *p, struct imghdr *h, struct err *e)
{
        h->cluster_bits = get_be32(p + 20);
        h->disk_bytes = get_be64(p + 24);
        h->l1_entries = get_be32(p + 36);
        h->l1_offset = get_be64(p + 40);
        h->reftable_offset = get_be64(p + 48);
        h->reftable_clusters = get_be32(p + 56);
        h->snapshots = get_be32(p + 60);
        h->snaptable_offset = get_be64(p + 64);
        h->refcount_order = get_be32(p + 96);

        if (h->cluster_bits < 9 || h->cluster_bits > QS_CLUSTER_BITS_MAX)
                return err_msg(e, EBADMSG, "the cluster size is out of range");
        if (h->cluster_bits < QS_CLUSTER_BITS_MIN)
                return err_msg(e, ENOTSUP, "clusters of less than 4 KiB are not supported");
        if (h->disk_bytes > QS_DISK_BYTES_MAX)
                return err_msg(e, ENOTSUP, "a disk of more than 64 TiB is not supported");
        if (h->refcount_order > REFCOUNT_ORDER_MAX)
                return err_msg(e, EBADMSG, "the refcount width is out of range");

        uint64_t cluster = layout_cluster_bytes(h->cluster_bits);

        if (h->l1_entries > LAYOUT_L1_ENTRIES_MAX ||
            h->l1_entries < layout_l1_entries(h->disk_bytes, h->cluster_bits))
                return err_msg(e, EBADMSG, "the L1 table has a wrong size");
        if (h->reftable_clusters == 0 ||
            h->reftable_clusters > MAX(LAYOUT_REFTABLE_BYTES_MAX / cluster, 1))
                return err_msg(e, EBADMSG, "the refcount table has a wrong size");
        if (h->snapshots > LAYOUT_SNAPSHOTS_MAX)
                return err_msg(e, EBADMSG, "there are too many snapshots");
        if (!IS_ALIGNED(h->l1_offset | h->reftable_offset | h->snaptable_offset, cluster))
                return err_msg(e, EBADMSG, "a table is not aligned to a cluster");
        return 0;
}

int imghdr_parse(const uint8_t *bytes, size_t len, struct imghdr *ret, struct err *e)
{
        struct imghdr h = { 0 };
        size_t ext;

        if (len < LAYOUT_SECTOR_BYTES || get_be32(bytes) != MAGIC)
                return err_msg(e, EBADMSG, "not a QCOW2 file");
        if (get_be32(bytes + 4) != 3)
                return err_msg(e, ENOTSUP, "QCOW2 version %u is not supported: convert the file "
                               "with 'qemu-img amend -o compat=1.1'", get_be32(bytes + 4));

        int rc = find_extension(bytes, len, &ext, e);

        if (rc == 0 && ext)
                rc = parse_extension(bytes, ext, &h, e);
        if (rc == 0)
                rc = check_features(bytes, &h, e);
        if (rc == 0)
                rc = parse_fields(bytes, &h, e);
        if (rc < 0)
                return rc;
        if (h.format_version && (h.default_snapshot >= h.snapshots ||
                                 h.refcount_order != LAYOUT_REFCOUNT_ORDER))
                return err_msg(e, EBADMSG, "the header contradicts its snapback extension");
        *ret = h;
        return 0;
}
