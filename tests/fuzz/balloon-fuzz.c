/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever a guest puts into a request of its balloon, exactly the pages of its RAM that
 *   it names go back, and the monitor goes on.
 * Method: libFuzzer, or mutations of good requests (mutate.h). The first byte is the queue, the
 *   others are the list of pages or, where pages are reported, the descriptors. A model says
 *   which of the watched pages must have become zeros. */
#include <endian.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/fuzz/mutate.h"
#include "tests/unit/virtio-rig.h"
#include "vmm/memmap.h"
#include "vmm/virtio/balloon.h"

#define PAGE 4096u
#define LIST_GPA RIG_FREE_GPA
#define LIST_BYTES_MAX (64u << 10)
#define LIST_PFNS_MAX 1024u             /* as many as the device takes */
#define DESCS_MAX 8u
#define WATCHED 32u

enum { INFLATE, DEFLATE, REPORTING, QUEUES };

/* A descriptor as the input has it. */
struct piece {
        uint32_t gpa_low;
        uint16_t gpa_high;
        uint16_t flags;                 /* bit 0: the device writes */
        uint32_t bytes;
};

struct request {
        unsigned queue;
        const uint8_t *data;
        size_t bytes;
        struct vqguest_buf buf[DESCS_MAX];
        unsigned n;
};

/* What lies at the borders, and pages in the middle. */
static uint64_t watched_gpa(unsigned i)
{
        static const uint64_t border[] = {
                0, 0x9e000, BOOT_EBDA_GPA, 0xa0000, BOOT_BIOS_GPA, 0xff000, 0x100000, 0x101000,
                RAM_BYTES_MIN - PAGE,
        };

        return i < ARRAY_SIZE(border) ? border[i] : 0x1000000ull + i * PAGE;
}

static bool is_ram(uint64_t gpa)
{
        return gpa < BOOT_EBDA_GPA || (gpa >= BOOT_BIOS_END_GPA && gpa < RAM_BYTES_MIN);
}

/* ---- the model ------------------------------------------------------------------- */

static bool listed(const struct request *r, uint64_t gpa)
{
        size_t n = MIN(r->bytes / sizeof(uint32_t), LIST_PFNS_MAX);

        for (size_t i = 0; i < n; i++) {
                uint32_t pfn;

                memcpy(&pfn, r->data + i * sizeof(pfn), sizeof(pfn));
                if (le32toh(pfn) == gpa / PAGE)
                        return true;
        }
        return false;
}

static bool reported(const struct request *r, uint64_t gpa)
{
        for (unsigned i = 0; i < r->n; i++) {
                const struct vqguest_buf *b = &r->buf[i];

                if (b->device_writes && gpa >= b->gpa && gpa + PAGE <= b->gpa + b->bytes)
                        return true;
        }
        return false;
}

static bool goes_back(const struct request *r, uint64_t gpa)
{
        if (!is_ram(gpa) || r->queue == DEFLATE)
                return false;
        return r->queue == INFLATE ? listed(r, gpa) : reported(r, gpa);
}

/* ---- the request ------------------------------------------------------------------- */

static void make_list(struct virtio_rig *rig, struct request *r)
{
        r->bytes = MIN(r->bytes, LIST_BYTES_MAX);
        virtio_rig_put(rig, LIST_GPA, r->data, r->bytes);
        r->buf[0] = (struct vqguest_buf){ LIST_GPA, (uint32_t)r->bytes, false };
        r->n = 1;
}

static void make_pieces(struct request *r)
{
        size_t n = MIN(r->bytes / sizeof(struct piece), DESCS_MAX);

        for (; r->n < n; r->n++) {
                struct piece p;

                memcpy(&p, r->data + r->n * sizeof(p), sizeof(p));
                r->buf[r->n] = (struct vqguest_buf){
                        .gpa = (uint64_t)p.gpa_high << 32 | p.gpa_low, .bytes = p.bytes,
                        .device_writes = p.flags & 1,
                };
        }
}

static void check(struct virtio_rig *rig, const struct request *r)
{
        for (unsigned i = 0; i < WATCHED; i++) {
                uint64_t gpa = watched_gpa(i);
                const uint8_t *page = ram_at(&rig->ram, gpa, PAGE);
                uint8_t want = goes_back(r, gpa) ? 0 : 0x5a;

                ASSERT(page[0] == want && page[PAGE - 1] == want);
        }
}

static struct virtio_rig *new_rig(void)
{
        struct virtio_rig *rig = calloc(1, sizeof(*rig));
        struct virtio_balloon_options o = { .name = "balloon0" };
        struct virtio_device *dev;
        struct err e;

        ASSERT(rig && ram_init(&rig->ram, RAM_BYTES_MIN, &e) == 0);
        ASSERT(ram_map_anonymous(&rig->ram, false, RAM_SMALL, &e) == 0);
        ASSERT(giveback_new(&rig->ram, &o.giveback, &e) == 0);
        ASSERT(virtio_balloon_new(&o, &dev, &e) == 0);
        virtio_rig_start(rig, dev);
        return rig;
}

/* As it was before the first input; only what an input has changed costs anything. */
static void renew(struct virtio_rig *rig)
{
        for (unsigned i = 0; i < WATCHED; i++) {
                uint8_t *page = ram_at(&rig->ram, watched_gpa(i), PAGE);

                if (page[0] != 0x5a)
                        memset(page, 0x5a, PAGE);
        }
        virtio_rig_renew(rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        static struct virtio_rig *rig;

        if (!rig)
                rig = new_rig();
        if (bytes < 2)
                return 0;

        struct request r = { .queue = data[0] % QUEUES, .data = data + 1, .bytes = bytes - 1 };

        renew(rig);
        if (r.queue == REPORTING)
                make_pieces(&r);
        else
                make_list(rig, &r);
        if (r.n == 0)
                return 0;

        bool answered = virtio_rig_ask(rig, r.queue, r.buf, r.n) == 0;

        /* answered and broken: its ring was among the pages */
        ASSERT(answered || rig->broken[0]);
        if (!answered)
                r.n = r.bytes = 0;      /* nothing of it may have been done */
        check(rig, &r);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        /* pages on both sides of what is reserved, in the middle, and behind RAM */
        static const uint8_t list[] = {
                INFLATE, 0x9e, 0, 0, 0, 0x9f, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, 0, 0,
                0x0b, 0x10, 0, 0, 0x0a, 0x10, 0, 0, 0xff, 0x3f, 0, 0, 0, 0x40, 0, 0,
        };
        static const uint8_t pieces[] = {
                REPORTING,
                0, 0xa0, 0, 1, 0, 0, 1, 0, 0, 0x30, 0, 0,       /* 0x100a000, 3 pages */
                0, 0xd0, 9, 0, 0, 0, 1, 0, 0, 0x40, 6, 0,       /* 0x9d000 .. 0x101000 */
                0, 0xf0, 0xff, 3, 0, 0, 1, 0, 0, 0x10, 0, 0,    /* the last page */
        };
        int rc = mutate_main(argc, argv, list, sizeof(list));

        return rc || argc > 1 ? rc : mutate_main(argc, argv, pieces, sizeof(pieces));
}

#endif
