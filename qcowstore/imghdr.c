/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/imghdr.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "qcowstore/store.h"
#include "qcowstore/sum.h"

#define MAGIC 0x514649fbu
#define HEADER_BYTES 112u
#define HEADER_BYTES_MIN 104u
#define HEADER_BYTES_V2 72u
#define REFCOUNT_ORDER_V2 4u
#define REFCOUNT_ORDER_MAX 6u
#define CLUSTER_BITS_MIN 9u             /* of QCOW2; ours have QS_CLUSTER_BITS_MIN */

#define INCOMPAT_DIRTY (1ull << 0)      /* refcounts may be stale: harmless to readers */
#define INCOMPAT_CORRUPT (1ull << 1)
#define INCOMPAT_DATA_FILE (1ull << 2)
#define INCOMPAT_COMPRESSION (1ull << 3)
#define INCOMPAT_EXTENDED_L2 (1ull << 4)
#define INCOMPAT_KNOWN (INCOMPAT_DIRTY | INCOMPAT_COMPRESSION | INCOMPAT_EXTENDED_L2)
#define EXTENDED_L2_CLUSTER_BITS_MIN 14u

#define CRYPT_AES 1u

#define EXT_BACKING_FORMAT 0xe2792acau

#define EXT_TYPE 0x534e4150u
#define EXT_BYTES 104u
#define EXT_AT (HEADER_BYTES + 8)
#define FLAG_PARENT 1u
#define FLAGS_KNOWN FLAG_PARENT
#define EXT_SUM 64u
/* of a file with a parent: what is behind our extension */
#define FORMAT_AT (EXT_AT + EXT_BYTES)
#define FORMAT_NAME "qcow2"
#define NAME_AT (FORMAT_AT + 24)        /* type, length, padded text; type and length of the end */
#define EXT_KEPT_BYTES 72u              /* up to and with what every version has */

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

void imghdr_mark_parent(uint8_t sector[LAYOUT_SECTOR_BYTES])
{
        put_le32(sector + EXT_AT + 4, get_le32(sector + EXT_AT + 4) | FLAG_PARENT);
        imghdr_seal(sector);
}

static_assert(NAME_AT + IMGHDR_NAME_MAX <= LAYOUT_SECTOR_BYTES, "any name fits into sector 0");

void imghdr_name_parent(uint8_t sector[LAYOUT_SECTOR_BYTES], const char *name)
{
        size_t bytes = strlen(name);

        ASSERT(bytes > 0 && bytes <= IMGHDR_NAME_MAX);
        put_be32(sector + FORMAT_AT, EXT_BACKING_FORMAT);
        put_be32(sector + FORMAT_AT + 4, strlen(FORMAT_NAME));
        memcpy(sector + FORMAT_AT + 8, FORMAT_NAME, strlen(FORMAT_NAME));
        memcpy(sector + NAME_AT, name, bytes);
        put_be64(sector + 8, NAME_AT);
        put_be32(sector + 16, (uint32_t)bytes);
        imghdr_seal(sector);
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
        put_le32(p + 4, h->is_parent ? FLAG_PARENT : 0);
        memcpy(p + 8, h->uuid, sizeof(h->uuid));
        memcpy(p + 24, h->parent_uuid, sizeof(h->parent_uuid));
        put_le64(p + 40, h->hash_seed);
        put_le64(p + 48, h->snaptable_sum);
        put_le32(p + 56, h->default_snapshot);
        put_le64(p + 72, h->meta_sum);
        put_le64(p + 80, h->pool_sum);
        put_le64(p + 88, h->parent_state);
        put_le64(p + 96, h->file_bytes);
        imghdr_seal(sector);
}

static int check_header_length(const uint8_t *bytes, const struct imghdr *h, size_t *ret,
                               struct err *e)
{
        size_t n = h->version == 2 ? HEADER_BYTES_V2 : get_be32(bytes + 100);

        if (h->version > 2 && (n < HEADER_BYTES_MIN || !IS_ALIGNED(n, 8)))
                return err_msg(e, EBADMSG, "the header length %zu is wrong", n);
        *ret = n;
        return 0;
}

/* *ret_ours: 0 = foreign file, else where our extension's data start. The list
 * ends where the parent's name begins. */
static int walk_extensions(const uint8_t *bytes, size_t len, struct imghdr *h, size_t *ret_ours,
                           size_t *ret_ours_bytes, struct err *e)
{
        size_t at = 0;
        int rc = check_header_length(bytes, h, &at, e);
        uint64_t backing = get_be64(bytes + 8);
        size_t end = backing ? MIN(backing, len) : len;

        *ret_ours = *ret_ours_bytes = 0;
        while (rc == 0 && at + 8 <= end) {
                uint32_t type = get_be32(bytes + at);
                uint32_t n = get_be32(bytes + at + 4);

                at += 8;
                if (type == 0)
                        break;
                if (type == EXT_TYPE && h->version > 2) {
                        if (n < EXT_KEPT_BYTES || at + n > len)
                                return err_msg(e, EBADMSG, "the snapback header extension was "
                                               "damaged or moved by another program");
                        *ret_ours = at;
                        *ret_ours_bytes = n;
                }
                if (type == EXT_BACKING_FORMAT)
                        h->backing_qcow2 = n == strlen(FORMAT_NAME) && at + n <= len &&
                                           memcmp(bytes + at, FORMAT_NAME, n) == 0;
                at += ALIGN_UP((uint64_t)n, 8);
        }
        return rc;
}

static int check_version(const uint8_t *p, size_t ext_bytes, struct err *e)
{
        unsigned version = get_le32(p);

        if (version > LAYOUT_FORMAT_VERSION)
                return err_msg(e, ENOTSUP, "the file has format version %u and this program "
                               "reads up to %u: use a newer snapback", version,
                               LAYOUT_FORMAT_VERSION);
        if (version == 1)
                return err_msg(e, ENOTSUP, "the file was made by a development version, before "
                               "the first release: save it again");
        if (version == 0 || ext_bytes != EXT_BYTES || get_le32(p + 4) & ~FLAGS_KNOWN ||
            get_le32(p + 60))
                return err_msg(e, EBADMSG, "the snapback header extension has reserved values");
        return 0;
}

/* What is wrong behind the right sum was written so, by another version. */
static int parse_extension(const uint8_t *bytes, size_t ext, size_t ext_bytes, struct imghdr *h,
                           struct err *e)
{
        const uint8_t *p = bytes + ext;

        h->changed = ext + ext_bytes > LAYOUT_SECTOR_BYTES ||
                     get_le64(p + EXT_SUM) != sector_sum(bytes, ext);
        if (h->changed && (get_le32(p) != LAYOUT_FORMAT_VERSION || ext_bytes != EXT_BYTES))
                return err_msg(e, EBADMSG, "the header does not match its checksum: the file is "
                               "damaged");

        int rc = check_version(p, ext_bytes, e);

        if (rc < 0)
                return rc;
        h->format_version = get_le32(p);
        h->is_parent = get_le32(p + 4) & FLAG_PARENT;
        memcpy(h->uuid, p + 8, sizeof(h->uuid));
        memcpy(h->parent_uuid, p + 24, sizeof(h->parent_uuid));
        h->hash_seed = get_le64(p + 40);
        h->snaptable_sum = get_le64(p + 48);
        h->default_snapshot = get_le32(p + 56);
        h->meta_sum = get_le64(p + 72);
        h->pool_sum = get_le64(p + 80);
        h->parent_state = get_le64(p + 88);
        h->file_bytes = get_le64(p + 96);
        return 0;
}

static int check_incompatible(uint64_t bits, struct err *e)
{
        if (bits & INCOMPAT_CORRUPT)
                return err_msg(e, EBADMSG, "the file is marked corrupt: try "
                               "'qemu-img check -r all' on a copy");
        if (bits & INCOMPAT_DATA_FILE)
                return err_msg(e, ENOTSUP, "an external data file is not supported");
        bits &= ~INCOMPAT_KNOWN;
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
        uint64_t incompatible = h->version == 2 ? 0 : get_be64(p + 72);
        uint32_t crypt = get_be32(p + 32);
        unsigned type = h->version > 2 && get_be32(p + 100) > 104 ? p[104] : 0;
        int rc = check_incompatible(incompatible, e);

        if (rc < 0)
                return rc;
        if (crypt > CRYPT_AES)
                return err_msg(e, ENOTSUP, "encryption of type %u (LUKS?) is not supported", crypt);
        if (type > 1)
                return err_msg(e, ENOTSUP, "compression type %u is not supported", type);
        h->aes = crypt == CRYPT_AES;
        h->zstd = type == 1;
        h->extended_l2 = incompatible & INCOMPAT_EXTENDED_L2;
        if (h->zstd != !!(incompatible & INCOMPAT_COMPRESSION))
                return err_msg(e, EBADMSG, "compression type and feature bit disagree");
        return 0;
}

static int parse_backing(const uint8_t *p, struct imghdr *h, struct err *e)
{
        uint64_t cluster = layout_cluster_bytes(h->cluster_bits);

        h->backing_offset = get_be64(p + 8);
        h->backing_bytes = h->backing_offset ? get_be32(p + 16) : 0;
        if (h->backing_offset && h->backing_bytes == 0)
                h->backing_offset = 0;          /* so has QEMU it: no parent */
        if (h->backing_bytes > IMGHDR_BACKING_MAX || h->backing_offset > cluster ||
            h->backing_bytes > cluster - h->backing_offset)
                return err_msg(e, EBADMSG, "the name of the backing file is too long or lies "
                               "outside the header");
        return 0;
}

static int check_fields(const struct imghdr *h, struct err *e)
{
        uint64_t cluster = layout_cluster_bytes(h->cluster_bits);

        if (h->disk_bytes > QS_DISK_BYTES_MAX)
                return err_msg(e, ENOTSUP, "a disk of more than 64 TiB is not supported");
        if (h->refcount_order > REFCOUNT_ORDER_MAX)
                return err_msg(e, EBADMSG, "the refcount width is out of range");
        if (h->l1_entries > LAYOUT_L1_ENTRIES_MAX ||
            h->l1_entries < imghdr_l1_entries(h, h->disk_bytes))
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
        h->refcount_order = h->version == 2 ? REFCOUNT_ORDER_V2 : get_be32(p + 96);
        if (h->cluster_bits < CLUSTER_BITS_MIN || h->cluster_bits > QS_CLUSTER_BITS_MAX ||
            (h->extended_l2 && h->cluster_bits < EXTENDED_L2_CLUSTER_BITS_MIN))
                return err_msg(e, EBADMSG, "the cluster size is out of range");
        h->l2_bits = h->cluster_bits - (h->extended_l2 ? 4 : 3);

        int rc = check_fields(h, e);

        return rc < 0 ? rc : parse_backing(p, h, e);
}

uint64_t imghdr_l1_entries(const struct imghdr *h, uint64_t bytes)
{
        return DIV_ROUND_UP(layout_clusters(bytes, h->cluster_bits), 1ull << h->l2_bits);
}

/* What a file of ours cannot have. */
static int check_ours(struct imghdr *h, struct err *e)
{
        if (h->changed && h->snapshots == 0)
                return err_msg(e, EBADMSG, "another program deleted its last snapshot");
        if (h->changed)
                h->default_snapshot = h->snapshots - 1;
        if (h->default_snapshot >= h->snapshots || h->refcount_order != LAYOUT_REFCOUNT_ORDER ||
            h->cluster_bits < QS_CLUSTER_BITS_MIN || h->extended_l2 || h->aes ||
            (!h->changed && h->backing_offset + h->backing_bytes > LAYOUT_SECTOR_BYTES))
                return err_msg(e, EBADMSG, "the header contradicts its snapback extension");
        return 0;
}

int imghdr_parse(const uint8_t *bytes, size_t len, struct imghdr *ret, struct err *e)
{
        struct imghdr h = { 0 };
        size_t ext = 0;
        size_t ext_bytes = 0;
        int rc;

        if (len < LAYOUT_SECTOR_BYTES || get_be32(bytes) != MAGIC)
                return err_msg(e, EBADMSG, "not a QCOW2 file");
        h.version = get_be32(bytes + 4);
        if (h.version != 2 && h.version != 3)
                return err_msg(e, ENOTSUP, "QCOW version %u is not supported", h.version);
        rc = walk_extensions(bytes, len, &h, &ext, &ext_bytes, e);
        if (rc == 0 && ext)
                rc = parse_extension(bytes, ext, ext_bytes, &h, e);
        if (rc == 0)
                rc = check_features(bytes, &h, e);
        if (rc == 0)
                rc = parse_fields(bytes, &h, e);
        if (rc == 0 && h.format_version)
                rc = check_ours(&h, e);
        if (rc == 0)
                *ret = h;
        return rc;
}
