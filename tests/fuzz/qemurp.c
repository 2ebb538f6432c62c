/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: nothing that QEMU or someone in its place writes makes the reader of the return path
 *       misbehave; what is taken keeps the rules of qemurp.h, is the same wherever windows
 *       cut it, and is the same bytes when it is written again.
 * Method: blocks of all kinds of pages; one window, then windows of sizes that follow from
 *       the input. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/qemuload.h"
#include "common/wire/qemurp.h"
#include "tests/fuzz/fuzz.h"

static const struct qemu_ramblock blocks[] = {
        { "pc.ram", 65 * 4096, 4096 },
        { "/rom", 4096, 4096 },
        { "m0", 16u << 20, 2u << 20 },
};

static void check_item(const struct qemurp_item *item)
{
        const struct qemu_ramblock *block = &blocks[item->block];

        ASSERT(item->block < ARRAY_SIZE(blocks));
        if (item->type == QEMURP_REQUEST) {
                ASSERT(item->bytes > 0 && item->offset < block->bytes);
                ASSERT(item->bytes <= block->bytes - item->offset);
                ASSERT(IS_ALIGNED(item->offset | item->bytes, block->page_bytes));
        }
        if (item->type == QEMURP_BITMAP) {
                ASSERT(item->bytes > 0);
                ASSERT(item->bitmap_at + item->bytes <= qemurp_bitmap_bytes(block->bytes, 4096));
        }
}

static size_t write_item(uint8_t *buf, const struct qemurp_item *item, bool named)
{
        const char *name = blocks[item->block].name;

        switch (item->type) {
        case QEMURP_SHUT:
                return qemurp_shut(buf, item->value);
        case QEMURP_PONG:
                return qemurp_pong(buf, item->value);
        case QEMURP_REQUEST:
                return qemurp_request(buf, named ? name : NULL, item->offset,
                                      (uint32_t)item->bytes);
        case QEMURP_BITMAP:
                return item->bitmap_at ? 0 : qemurp_bitmap(buf, name, qemurp_bitmap_bytes(
                        blocks[item->block].bytes, 4096));
        case QEMURP_BITMAP_END:
                return qemurp_bitmap_end(buf);
        case QEMURP_RESUME_ACK:
                return qemurp_resume_ack(buf);
        case QEMURP_SWITCHOVER_ACK:
                return qemurp_switchover_ack(buf);
        default:
                return 0;
        }
}

/* Writes what is taken to b; returns 0 or the reader's errno. step 0: one window. */
static int run(const uint8_t *data, size_t n, uint64_t step, struct qemubuf *b, struct err *e)
{
        struct qemurp p = { .blocks = blocks, .nblocks = ARRAY_SIZE(blocks), .page_bytes = 4096 };
        uint8_t buf[QEMURP_BYTES_MAX];
        size_t at = 0;
        size_t end = step ? 0 : n;

        for (;;) {
                AUTO_FREE uint8_t *window = malloc(MAX(end - at, 1u));
                struct qemurp_item item;
                bool named = n - at >= 2 && data[at + 1] == 3;
                size_t used;

                ASSERT(window);
                memcpy(window, data + at, end - at);

                int rc = qemurp_next(&p, window, end - at, &used, &item, e);

                if (rc < 0)
                        return rc;
                at += used;
                if (item.type == QEMURP_MORE && end == n)
                        return 0;
                if (item.type == QEMURP_MORE) {
                        step = step * 0x9e3779b97f4a7c15 + 1;
                        end += MIN(n - end, 1 + (step >> 32) % 40);
                        continue;
                }
                check_item(&item);
                qemubuf_put(b, buf, write_item(buf, &item, named));
                if (item.type == QEMURP_BITMAP)
                        qemubuf_put(b, item.data, item.bytes);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct qemubuf whole = { 0 }, pieces = { 0 };
        struct err e1 = { 0 }, e2 = { 0 };
        int rc = run(data, n, 0, &whole, &e1);

        ASSERT(rc == 0 || (rc == -EBADMSG && e1.code == rc && e1.text[0]));
        ASSERT(run(data, n, n | 1, &pieces, &e2) == rc);
        ASSERT(!strcmp(e1.text, e2.text));
        ASSERT(whole.bytes <= n && !memcmp(whole.data ? whole.data : data, data, whole.bytes));
        ASSERT(pieces.bytes == whole.bytes);
        ASSERT(!whole.bytes || !memcmp(whole.data, pieces.data, whole.bytes));
        qemubuf_fini(&whole);
        qemubuf_fini(&pieces);
        return 0;
}
