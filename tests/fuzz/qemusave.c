/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no bytes that claim to be a stream of QEMU's make the parser misbehave; what it
 *       reports keeps the rules of qemusave.h, is the same wherever windows cut the stream,
 *       and the same again when it is written with qemuload.h and read.
 * Method: one window, then windows of sizes that follow from the input, each a block of
 *       its own; then the stream made anew of what was reported. The seeds' pages are zero,
 *       so that mutants hit what is parsed; but one, "real", is the beginning of a stream of
 *       QEMU 7.2 without a guest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/qemuload.h"
#include "common/wire/qemusave.h"
#include "tests/fuzz/fuzz.h"

struct outcome {
        uint64_t all, ram;              /* sums of all events; of blocks and pages */
        size_t bytes;                   /* taken */
        bool devices;
        int rc;
        struct err e;
};

static uint64_t mix(uint64_t sum, uint64_t v)
{
        sum = (sum ^ v) * 0x9e3779b97f4a7c15;
        return sum ^ sum >> 29;
}

static uint64_t mix_bytes(uint64_t sum, const uint8_t *p, uint64_t n)
{
        for (uint64_t i = 0; i < n; i++)
                sum = mix(sum, p[i]);
        return sum;
}

static void check_page(const struct qemusave *p, const struct qemusave_item *item)
{
        unsigned n;
        const struct qemu_ramblock *blocks = qemusave_blocks(p, &n);
        uint32_t page = qemusave_head(p)->page_bytes;

        /* INV-WITHIN */
        ASSERT(item->block < n && item->bytes > 0);
        ASSERT(IS_ALIGNED(item->offset, page) && IS_ALIGNED(item->bytes, page));
        ASSERT(item->offset < blocks[item->block].bytes);
        ASSERT(item->bytes <= blocks[item->block].bytes - item->offset);
        ASSERT(item->event == QEMUSAVE_ZERO || item->bytes == page);
}

static void check_head(const struct qemusave *p, const struct qemusave_item *item)
{
        struct qemuhead h;
        size_t n;

        ASSERT(qemuhead_parse(item->data, item->bytes, true, &h, &n, NULL) == 0);
        ASSERT(n == item->bytes && h.page_bytes == qemusave_head(p)->page_bytes);
        ASSERT(!strcmp(h.machine, qemusave_head(p)->machine));
}

static uint64_t mix_blocks(const struct qemusave *p, uint64_t sum)
{
        unsigned n;
        const struct qemu_ramblock *blocks = qemusave_blocks(p, &n);

        ASSERT(n >= 1 && n <= QEMU_BLOCKS_MAX);
        for (unsigned i = 0; i < n; i++) {
                sum = mix_bytes(sum, (const uint8_t *)blocks[i].name, strlen(blocks[i].name));
                sum = mix(sum, blocks[i].bytes);
        }
        return sum;
}

/* A run of zeros counts as its pages, however many came at once. */
static void note(const struct qemusave *p, const struct qemusave_item *item, struct outcome *o)
{
        uint32_t page = qemusave_head(p)->page_bytes;

        switch (item->event) {
        case QEMUSAVE_HEAD:
                check_head(p, item);
                o->all = mix_bytes(o->all, item->data, item->bytes);
                break;
        case QEMUSAVE_BLOCKS:
                o->ram = mix_blocks(p, o->ram);
                break;
        case QEMUSAVE_PAGE:
                check_page(p, item);
                o->ram = mix(mix(o->ram, item->block), item->offset);
                o->ram = mix_bytes(o->ram, item->data, item->bytes);
                break;
        case QEMUSAVE_ZERO:
                check_page(p, item);
                for (uint64_t at = 0; at < item->bytes; at += page)
                        o->ram = mix(mix(o->ram, ~(uint64_t)item->block), item->offset + at);
                break;
        default:
                o->all = mix(mix(o->all, item->event), item->token);
                break;
        }
}

/* The remade stream, if wanted: its blocks must stay where they are. */
struct remake {
        struct qemuload load;
        struct qemu_ramblock blocks[QEMU_BLOCKS_MAX];
        struct qemubuf b;
};

static void remake_blocks(const struct qemusave *p, struct remake *r)
{
        struct qemusave_ram ram = qemusave_ram(p);
        const struct qemu_ramblock *blocks = qemusave_blocks(p, &r->load.nblocks);

        r->load.page_bytes = r->load.host_page_bytes = qemusave_head(p)->page_bytes;
        r->load.ram_id = ram.id;
        r->load.ram_instance = ram.instance;
        r->load.ram_version = ram.version;
        r->load.footers = true;
        r->load.blocks = r->blocks;
        for (unsigned i = 0; i < r->load.nblocks; i++) {
                r->blocks[i] = blocks[i];
                r->blocks[i].page_bytes = r->load.page_bytes;
        }
        ASSERT(qemuload_check(&r->load, NULL) == 0);
        qemuload_start(&r->load, &r->b, false);
        qemuload_section(&r->load, &r->b, QEMU_PART);
}

static void remake_item(const struct qemusave *p, const struct qemusave_item *item,
                        struct remake *r)
{
        if (item->event == QEMUSAVE_HEAD)
                qemubuf_put(&r->b, item->data, item->bytes);
        if (item->event == QEMUSAVE_BLOCKS)
                remake_blocks(p, r);
        if (item->event == QEMUSAVE_PAGE) {
                qemuload_page(&r->load, &r->b, item->block, item->offset);
                qemubuf_put(&r->b, item->data, item->bytes);
        }
        if (item->event == QEMUSAVE_ZERO)
                qemuload_zero(&r->load, &r->b, item->block, item->offset, item->bytes);
        if (item->event == QEMUSAVE_DEVICES) {
                qemuload_section_end(&r->load, &r->b);
                qemubuf_put(&r->b, "\4", 1);
        }
}

/* step 0: one window. */
static void run(const uint8_t *data, size_t n, uint64_t step, struct remake *r,
                struct outcome *o)
{
        struct qemusave *p = qemusave_new();
        size_t end = step ? 0 : n;

        ASSERT(p);
        *o = (struct outcome){ .all = 1, .ram = 1 };
        for (;;) {
                AUTO_FREE uint8_t *window = malloc(MAX(end - o->bytes, 1u));
                struct qemusave_item item;
                size_t used;

                ASSERT(window);
                memcpy(window, data + o->bytes, end - o->bytes);
                o->rc = qemusave_next(p, window, end - o->bytes, &used, &item, &o->e);
                if (o->rc < 0)
                        break;
                o->bytes += used;
                if (r)
                        remake_item(p, &item, r);
                o->devices = item.event == QEMUSAVE_DEVICES;
                if (o->devices || (item.event == QEMUSAVE_MORE && end == n))
                        break;
                if (item.event != QEMUSAVE_MORE) {
                        note(p, &item, o);
                        continue;
                }
                step = mix(step, 1);
                end += MIN(n - end, 1 + step % 5000 % (1u << step % 13));
        }
        qemusave_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct outcome whole, pieces, again;
        struct remake r = { .load = { .nblocks = 0 } };

        run(data, n, 0, &r, &whole);
        ASSERT(whole.rc == 0 || whole.rc == -EBADMSG || whole.rc == -ENOTSUP);
        ASSERT(whole.rc == 0 || (whole.e.code == whole.rc && whole.e.text[0]));
        run(data, n, mix_bytes(1, data, MIN(n, 256u)) | 1, NULL, &pieces);
        ASSERT(pieces.rc == whole.rc && pieces.devices == whole.devices);
        ASSERT(pieces.all == whole.all && pieces.ram == whole.ram);
        ASSERT(whole.rc == 0 || !strcmp(whole.e.text, pieces.e.text));
        ASSERT(whole.rc < 0 || whole.bytes == pieces.bytes);
        if (whole.devices) {
                run(r.b.data, r.b.bytes, 0, NULL, &again);
                ASSERT(again.rc == 0 && again.devices && again.ram == whole.ram);
        }
        qemubuf_fini(&r.b);
        return 0;
}
