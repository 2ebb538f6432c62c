/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk-serve.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define HEADER_BYTES 16u                /* le32 type, le32 reserved, le64 sector */
#define RANGE_BYTES 16u                 /* le64 sector, le32 sectors, le32 flags */
#define STATUS_BYTES 1u

/* A request without its header and status. */
struct request {
        const struct vq_chain *chain;
        uint64_t sector;
        size_t out_bytes, in_bytes;
        size_t filled_bytes;            /* of the in part, from its begin */
};

struct range {
        uint64_t offset, bytes;
        bool unmap;
};

/* Each returns a status, VIRTIO_BLK_S_. */
typedef uint8_t serve_fn(struct blk_target *t, struct request *r);

struct command {
        uint32_t type;
        uint64_t needs;                 /* features, as a mask */
        bool changes;                   /* the disk */
        serve_fn *serve;
};

static bool has(const struct blk_target *t, unsigned feature_bit)
{
        return t->features >> feature_bit & 1;
}

static bool is_inside(const struct blk_target *t, uint64_t sector, uint64_t sectors)
{
        uint64_t capacity = disk_bytes(t->disk) / DISK_SECTOR_BYTES;

        return sector <= capacity && sectors <= capacity - sector;
}

/* What the disk says. A guest hears of an error, but not which it is. */
static uint8_t status_of(struct blk_target *t, int rc)
{
        if (rc < 0)
                t->counters.last_error = -rc;
        return rc < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/* A guest that did not ask for flushes takes what is answered for durable. */
static int settle(struct blk_target *t, int rc)
{
        return rc < 0 || has(t, VIRTIO_BLK_F_FLUSH) ? rc : disk_flush(t->disk);
}

static bool may_transfer(const struct blk_target *t, const struct request *r, size_t bytes)
{
        return bytes % DISK_SECTOR_BYTES == 0 &&
               is_inside(t, r->sector, bytes / DISK_SECTOR_BYTES);
}

static uint8_t serve_in(struct blk_target *t, struct request *r)
{
        struct iovec iov[VQ_IOV_MAX];

        if (!may_transfer(t, r, r->in_bytes))
                return VIRTIO_BLK_S_IOERR;

        unsigned n = vq_in_pieces(r->chain, 0, r->in_bytes, iov, VQ_IOV_MAX);
        int rc = disk_read(t->disk, iov, n, r->sector * DISK_SECTOR_BYTES);

        if (rc == 0) {
                r->filled_bytes = r->in_bytes;
                t->counters.reads++;
                t->counters.read_bytes += r->in_bytes;
        }
        return status_of(t, rc);
}

static uint8_t serve_out(struct blk_target *t, struct request *r)
{
        struct iovec iov[VQ_IOV_MAX];

        if (!may_transfer(t, r, r->out_bytes))
                return VIRTIO_BLK_S_IOERR;

        unsigned n = vq_out_pieces(r->chain, HEADER_BYTES, r->out_bytes, iov, VQ_IOV_MAX);
        int rc = settle(t, disk_write(t->disk, iov, n, r->sector * DISK_SECTOR_BYTES));

        if (rc == 0) {
                t->counters.writes++;
                t->counters.written_bytes += r->out_bytes;
        }
        return status_of(t, rc);
}

static uint8_t serve_flush(struct blk_target *t, struct request *r)
{
        (void)r;
        t->counters.flushes++;
        return status_of(t, disk_flush(t->disk));
}

static uint8_t serve_get_id(struct blk_target *t, struct request *r)
{
        char id[VIRTIO_BLK_ID_BYTES] = { 0 };

        memcpy(id, t->serial, strnlen(t->serial, sizeof(id)));
        r->filled_bytes = vq_write(r->chain, 0, id, MIN(sizeof(id), r->in_bytes));
        return VIRTIO_BLK_S_OK;
}

/* The table of ranges; a status. flags: those that are known. */
static uint8_t take_ranges(const struct blk_target *t, const struct request *r, uint32_t flags,
                           struct range *ret, unsigned room, unsigned *ret_n)
{
        unsigned n = (unsigned)(r->out_bytes / RANGE_BYTES);

        if (n == 0 || n > room || r->out_bytes % RANGE_BYTES)
                return VIRTIO_BLK_S_IOERR;
        for (unsigned i = 0; i < n; i++) {
                uint8_t raw[RANGE_BYTES];

                vq_read(r->chain, HEADER_BYTES + i * RANGE_BYTES, raw, sizeof(raw));

                uint64_t sector = get_le64(raw);
                uint32_t sectors = get_le32(raw + 8), said = get_le32(raw + 12);

                if (said & ~flags)
                        return VIRTIO_BLK_S_UNSUPP;
                if (sectors > BLK_RANGE_SECTORS_MAX || !is_inside(t, sector, sectors))
                        return VIRTIO_BLK_S_IOERR;
                ret[i] = (struct range){ sector * DISK_SECTOR_BYTES,
                                         (uint64_t)sectors * DISK_SECTOR_BYTES,
                                         said & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP };
        }
        *ret_n = n;
        return VIRTIO_BLK_S_OK;
}

static uint8_t serve_discard(struct blk_target *t, struct request *r)
{
        struct range ranges[BLK_DISCARD_RANGES_MAX];
        unsigned n;
        uint8_t status = take_ranges(t, r, 0, ranges, BLK_DISCARD_RANGES_MAX, &n);
        int rc = 0;

        if (status != VIRTIO_BLK_S_OK)
                return status;
        for (unsigned i = 0; i < n && rc == 0; i++) {
                rc = disk_discard(t->disk, ranges[i].offset, ranges[i].bytes);
                if (rc == -EOPNOTSUPP)
                        rc = 0;         /* a hint: see blk.h */
        }
        t->counters.discards++;
        return status_of(t, settle(t, rc));
}

static uint8_t serve_zeroes(struct blk_target *t, struct request *r)
{
        struct range ranges[BLK_ZEROES_RANGES_MAX];
        unsigned n;
        uint8_t status = take_ranges(t, r, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, ranges,
                                     BLK_ZEROES_RANGES_MAX, &n);
        int rc = 0;

        if (status != VIRTIO_BLK_S_OK)
                return status;
        for (unsigned i = 0; i < n && rc == 0; i++)
                rc = disk_write_zeroes(t->disk, ranges[i].offset, ranges[i].bytes,
                                       ranges[i].unmap);
        t->counters.zeroes++;
        return status_of(t, settle(t, rc));
}

static const struct command commands[] = {
        { VIRTIO_BLK_T_IN, 0, false, serve_in },
        { VIRTIO_BLK_T_OUT, 0, true, serve_out },
        { VIRTIO_BLK_T_FLUSH, 1ull << VIRTIO_BLK_F_FLUSH, false, serve_flush },
        { VIRTIO_BLK_T_GET_ID, 0, false, serve_get_id },
        { VIRTIO_BLK_T_DISCARD, 1ull << VIRTIO_BLK_F_DISCARD, true, serve_discard },
        { VIRTIO_BLK_T_WRITE_ZEROES, 1ull << VIRTIO_BLK_F_WRITE_ZEROES, true, serve_zeroes },
};

static uint8_t serve(struct blk_target *t, uint32_t type, struct request *r)
{
        for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
                const struct command *c = &commands[i];

                if (c->type != type)
                        continue;
                if (c->changes && disk_read_only(t->disk))
                        return VIRTIO_BLK_S_IOERR;
                if (c->needs & ~t->features)
                        return VIRTIO_BLK_S_UNSUPP;
                return c->serve(t, r);
        }
        return VIRTIO_BLK_S_UNSUPP;
}

int blk_serve(struct blk_target *t, const struct vq_chain *c, uint32_t *ret_written,
              struct err *e)
{
        uint8_t header[HEADER_BYTES];

        if (c->out_bytes < HEADER_BYTES)
                return err_msg(e, EBADMSG, "a request has %zu bytes to read, less than a header",
                               c->out_bytes);
        if (c->in_bytes < STATUS_BYTES)
                return err_msg(e, EBADMSG, "a request has no room for its status");
        vq_read(c, 0, header, sizeof(header));

        struct request r = {
                .chain = c, .sector = get_le64(header + 8),
                .out_bytes = c->out_bytes - HEADER_BYTES,
                .in_bytes = c->in_bytes - STATUS_BYTES,
        };
        uint8_t status = serve(t, get_le32(header), &r);

        if (status != VIRTIO_BLK_S_OK)
                t->counters.errors++;
        vq_write(c, r.in_bytes, &status, sizeof(status));
        /* a driver may take only what is filled from the begin on for written */
        *ret_written = (uint32_t)(r.filled_bytes == r.in_bytes ? c->in_bytes : r.filled_bytes);
        return 0;
}
