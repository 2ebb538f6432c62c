/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/qemurp.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define HEAD_BYTES 4u
#define BITMAP_END 0x0123456789abcdefull

enum wire {
        WIRE_SHUT = 1,
        WIRE_PONG,
        WIRE_REQ_PAGES_ID,
        WIRE_REQ_PAGES,
        WIRE_RECV_BITMAP,
        WIRE_RESUME_ACK,
        WIRE_SWITCHOVER_ACK,
        WIRES
};

/* Length of the payload; those with a name are longer by it, and its length. */
static const struct {
        uint16_t bytes;
        bool named;
} payloads[] = {
        [WIRE_SHUT] = { 4, false },
        [WIRE_PONG] = { 4, false },
        [WIRE_REQ_PAGES_ID] = { 12, true },
        [WIRE_REQ_PAGES] = { 12, false },
        [WIRE_RECV_BITMAP] = { 0, true },
        [WIRE_RESUME_ACK] = { 4, false },
        [WIRE_SWITCHOVER_ACK] = { 0, false },
};

static_assert(ARRAY_SIZE(payloads) == WIRES, "one length for each type");
static_assert(HEAD_BYTES + 12 + 1 + QEMU_NAME_MAX <= QEMURP_BYTES_MAX, "a request fits");
static_assert(HEAD_BYTES + 1 + QEMU_NAME_MAX + 8 <= QEMURP_BYTES_MAX, "a bitmap's head fits");

uint64_t qemurp_bitmap_bytes(uint64_t block_bytes, uint32_t page_bytes)
{
        return DIV_ROUND_UP(DIV_ROUND_UP(block_bytes, page_bytes), 64) * 8;
}

/* ---- reading ---------------------------------------------------------------
 * take_*(): 1 when *item is complete and *used set, 0 when bytes are missing. */

static int take_block(const struct qemurp *p, const uint8_t *text, unsigned *ret, struct err *e)
{
        *ret = qemu_ramblock_find(p->blocks, p->nblocks, text + 1, text[0]);
        if (*ret == p->nblocks)
                return err_msg(e, EBADMSG, "QEMU speaks of a RAM block that the image does not "
                               "have");
        return 1;
}

static int check_request(const struct qemurp *p, const struct qemurp_item *item, struct err *e)
{
        const struct qemu_ramblock *block = &p->blocks[item->block];

        if (item->bytes == 0 || item->offset >= block->bytes ||
            item->bytes > block->bytes - item->offset)
                return err_msg(e, EBADMSG, "QEMU asks for %llu bytes at 0x%llx of RAM block "
                               "'%s', which has %llu", (unsigned long long)item->bytes,
                               (unsigned long long)item->offset, block->name,
                               (unsigned long long)block->bytes);
        if (item->offset % block->page_bytes || item->bytes % block->page_bytes)
                return err_msg(e, EBADMSG, "QEMU asks for %llu bytes at 0x%llx of RAM block "
                               "'%s', whose pages are said to be of %u: give its page size",
                               (unsigned long long)item->bytes,
                               (unsigned long long)item->offset, block->name,
                               block->page_bytes);
        return 1;
}

static int take_request(struct qemurp *p, const uint8_t *payload, bool named,
                        struct qemurp_item *item, struct err *e)
{
        unsigned block = p->asked - 1;
        int rc = named ? take_block(p, payload + 12, &block, e) : 1;

        if (rc < 0)
                return rc;
        if (!named && !p->asked)
                return err_msg(e, EBADMSG, "QEMU's first request for pages names no RAM block");
        *item = (struct qemurp_item){
                .type = QEMURP_REQUEST, .block = block,
                .offset = get_be64(payload), .bytes = get_be32(payload + 8),
        };
        rc = check_request(p, item, e);
        if (rc == 1)
                p->asked = block + 1;
        return rc;
}

/* What follows the payload is not counted in it; *used grows by the bitmap's length. */
static int begin_bitmap(struct qemurp *p, const uint8_t *payload, size_t left, size_t *used,
                        struct err *e)
{
        unsigned block;
        int rc = take_block(p, payload, &block, e);

        if (rc < 0)
                return rc;
        if (left < 8)
                return 0;

        uint64_t bytes = get_be64(payload + 1 + payload[0]);
        uint64_t want = qemurp_bitmap_bytes(p->blocks[block].bytes, p->page_bytes);

        if (bytes != want)
                return err_msg(e, EBADMSG, "QEMU's bitmap of RAM block '%s' has %llu bytes, not "
                               "%llu", p->blocks[block].name, (unsigned long long)bytes,
                               (unsigned long long)want);
        p->mapped = block + 1;
        p->map_at = 0;
        p->map_bytes = bytes;
        *used += 8;
        return 1;
}

static int take_bitmap(struct qemurp *p, const uint8_t *data, size_t bytes, size_t *used,
                       struct qemurp_item *item, struct err *e)
{
        uint64_t left = p->map_bytes - p->map_at;

        item->block = p->mapped - 1;
        if (left == 0 && bytes >= 8) {
                if (get_be64(data) != BITMAP_END)
                        return err_msg(e, EBADMSG, "QEMU's bitmap of a RAM block has no end");
                item->type = QEMURP_BITMAP_END;
                p->mapped = 0;
                *used = 8;
                return 1;
        }
        if (left == 0 || bytes == 0)
                return 0;
        item->type = QEMURP_BITMAP;
        item->bitmap_at = p->map_at;
        item->data = data;
        item->bytes = MIN(left, bytes);
        p->map_at += item->bytes;
        *used = (size_t)item->bytes;
        return 1;
}

static int take_payload(struct qemurp *p, unsigned wire, const uint8_t *payload, size_t behind,
                        size_t *used, struct qemurp_item *item, struct err *e)
{
        switch (wire) {
        case WIRE_SHUT:
                *item = (struct qemurp_item){ .type = QEMURP_SHUT, .value = get_be32(payload) };
                return 1;
        case WIRE_PONG:
                *item = (struct qemurp_item){ .type = QEMURP_PONG, .value = get_be32(payload) };
                return 1;
        case WIRE_REQ_PAGES_ID:
        case WIRE_REQ_PAGES:
                return take_request(p, payload, wire == WIRE_REQ_PAGES_ID, item, e);
        case WIRE_RECV_BITMAP:
                return begin_bitmap(p, payload, behind, used, e);
        case WIRE_RESUME_ACK:
                if (get_be32(payload) != 1)
                        return err_msg(e, EBADMSG, "QEMU refuses to go on: %u",
                                       get_be32(payload));
                item->type = QEMURP_RESUME_ACK;
                return 1;
        default:
                item->type = QEMURP_SWITCHOVER_ACK;
                return 1;
        }
}

static int take_message(struct qemurp *p, const uint8_t *data, size_t bytes, size_t *used,
                        struct qemurp_item *item, struct err *e)
{
        if (bytes < HEAD_BYTES)
                return 0;

        unsigned wire = get_be16(data);
        size_t length = get_be16(data + 2);

        if (wire == 0 || wire >= WIRES)
                return err_msg(e, EBADMSG, "QEMU's message of type %u is not known", wire);

        size_t fixed = payloads[wire].bytes;
        bool named = payloads[wire].named;

        if (length < fixed + named || length > fixed + (named ? 1 + QEMU_NAME_MAX : 0))
                return err_msg(e, EBADMSG, "QEMU's message of type %u has %zu bytes", wire,
                               length);
        if (bytes - HEAD_BYTES < length)
                return 0;

        const uint8_t *payload = data + HEAD_BYTES;

        if (named && length != fixed + 1u + payload[fixed])
                return err_msg(e, EBADMSG, "QEMU's message of type %u has a name of the wrong "
                               "length", wire);
        *used = HEAD_BYTES + length;
        return take_payload(p, wire, payload, bytes - *used, used, item, e);
}

int qemurp_next(struct qemurp *p, const uint8_t *data, size_t bytes, size_t *ret_used,
                struct qemurp_item *ret, struct err *e)
{
        struct qemurp_item item = { .type = QEMURP_MORE };
        size_t taken = 0;
        int rc = 1;

        /* the head of a bitmap is no item of its own */
        while (rc == 1 && item.type == QEMURP_MORE) {
                size_t used = 0;

                rc = p->mapped ? take_bitmap(p, data + taken, bytes - taken, &used, &item, e) :
                                 take_message(p, data + taken, bytes - taken, &used, &item, e);
                if (rc == 1)
                        taken += used;
        }
        if (rc < 0)
                return err_in(e, rc, "the return path");
        ASSERT(rc == 1 || bytes - taken < QEMURP_BYTES_MAX);
        *ret_used = taken;
        *ret = item;
        return 0;
}

/* ---- writing -------------------------------------------------------------- */

static size_t put_head(uint8_t *buf, enum wire wire, size_t payload_bytes)
{
        put_be16(buf, (uint16_t)wire);
        put_be16(buf + 2, (uint16_t)payload_bytes);
        return HEAD_BYTES;
}

static size_t put_name(uint8_t *to, const char *name)
{
        size_t n = strlen(name);

        ASSERT(n <= QEMU_NAME_MAX);
        to[0] = (uint8_t)n;
        memcpy(to + 1, name, n);
        return 1 + n;
}

static size_t put_number(uint8_t *buf, enum wire wire, uint32_t value)
{
        put_head(buf, wire, 4);
        put_be32(buf + HEAD_BYTES, value);
        return HEAD_BYTES + 4;
}

size_t qemurp_shut(uint8_t buf[QEMURP_BYTES_MAX], uint32_t status)
{
        return put_number(buf, WIRE_SHUT, status);
}

size_t qemurp_pong(uint8_t buf[QEMURP_BYTES_MAX], uint32_t token)
{
        return put_number(buf, WIRE_PONG, token);
}

size_t qemurp_resume_ack(uint8_t buf[QEMURP_BYTES_MAX])
{
        return put_number(buf, WIRE_RESUME_ACK, 1);
}

size_t qemurp_switchover_ack(uint8_t buf[QEMURP_BYTES_MAX])
{
        return put_head(buf, WIRE_SWITCHOVER_ACK, 0);
}

size_t qemurp_request(uint8_t buf[QEMURP_BYTES_MAX], const char *name, uint64_t offset,
                      uint32_t bytes)
{
        size_t n = HEAD_BYTES + 12;

        put_be64(buf + HEAD_BYTES, offset);
        put_be32(buf + HEAD_BYTES + 8, bytes);
        if (name)
                n += put_name(buf + n, name);
        put_head(buf, name ? WIRE_REQ_PAGES_ID : WIRE_REQ_PAGES, n - HEAD_BYTES);
        return n;
}

size_t qemurp_bitmap(uint8_t buf[QEMURP_BYTES_MAX], const char *name, uint64_t bitmap_bytes)
{
        size_t n = put_name(buf + HEAD_BYTES, name);

        put_head(buf, WIRE_RECV_BITMAP, n);
        put_be64(buf + HEAD_BYTES + n, bitmap_bytes);
        return HEAD_BYTES + n + 8;
}

size_t qemurp_bitmap_end(uint8_t buf[QEMURP_BYTES_MAX])
{
        put_be64(buf, BITMAP_END);
        return 8;
}
