/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no guest memory, and no saved state of a queue, makes the device's side misbehave: what
 *       it takes is what descriptors say and lies inside RAM, each head once at a time
 *       (INV-TAKEN), what it pushes is in the ring, and a queue that broke stays broken.
 * Method: the input is a queue's state and RAM, ring and all, cut in two slots that are blocks
 *         of their own. A device reads, writes, holds, puts back and pushes until the ring is
 *         quiet; each chain is compared with a walk of its own. What the device writes may hit
 *         the ring: so a number of steps is the end in any case. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/store-ram.h"
#include "vmm/virtio/queue.h"

#define STEPS_MAX 600
#define HEAD_BYTES 40
#define OUT_READ_MAX 8192

enum { EVENT_IDX = 1, INDIRECT = 2, SIGNALLED = 4, NOT_READY = 8 };

struct world {
        struct ram ram;
        struct virtqueue q;
        uint64_t random;
        uint16_t held[VQ_SIZE_MAX];
        unsigned nheld;
        bool held_last;                 /* the last of held[] is what was taken last */
};

static struct vq_state decode_state(const uint8_t *p)
{
        return (struct vq_state){
                .size = get_le16(p), .next_avail = get_le16(p + 2), .next_used = get_le16(p + 4),
                .signalled_used = get_le16(p + 6), .signalled_valid = p[8] & SIGNALLED,
                .ready = !(p[8] & NOT_READY), .desc_gpa = get_le64(p + 16),
                .avail_gpa = get_le64(p + 24), .used_gpa = get_le64(p + 32),
        };
}

/* Most of it from 0 on, the rest from 4 GiB on. */
static void map_ram(struct ram *ram, const uint8_t *p, size_t bytes)
{
        size_t low_bytes = ALIGN_DOWN(bytes - bytes / 8, 16);

        *ram = (struct ram){ .bytes = bytes, .nslots = 2,
                             .slots = { { .gpa = 0, .bytes = low_bytes },
                                        { .gpa = RAM_HIGH_GPA, .bytes = bytes - low_bytes } } };
        for (unsigned i = 0; i < 2; i++) {
                struct ram_slot *s = &ram->slots[i];

                s->hva = malloc(s->bytes ? s->bytes : 1);
                ASSERT(s->hva);
                memcpy(s->hva, p + (i ? low_bytes : 0), s->bytes);
        }
}

static struct vring_desc desc_at(const void *table, unsigned i)
{
        struct vring_desc d;

        memcpy(&d, (const uint8_t *)table + i * sizeof(d), sizeof(d));
        return d;
}

/* The same chain, by a walk that trusts what was accepted. */
static void check_walk(const struct world *w, const struct vq_chain *c)
{
        const void *table = w->q.desc;
        struct vring_desc d = desc_at(table, c->head);
        unsigned n = c->nout + c->nin;
        size_t bytes = 0;

        for (unsigned i = 0; i < n; i++) {
                if (d.flags & VRING_DESC_F_INDIRECT) {
                        ASSERT(w->q.indirect && table == w->q.desc && d.len % 16 == 0);
                        ASSERT(!(d.flags & VRING_DESC_F_NEXT));
                        table = ram_at(&w->ram, d.addr, d.len);
                        ASSERT(table && d.len > 0);
                        d = desc_at(table, 0);
                }
                ASSERT(d.len > 0 && c->iov[i].iov_len == d.len);
                ASSERT(c->iov[i].iov_base == ram_at(&w->ram, d.addr, d.len));
                ASSERT(c->iov[i].iov_base != NULL);
                ASSERT(!!(d.flags & VRING_DESC_F_WRITE) == (i >= c->nout));
                ASSERT(!!(d.flags & VRING_DESC_F_NEXT) == (i + 1 < n));
                bytes += d.len;
                if (i + 1 < n)
                        d = desc_at(table, d.next);
        }
        ASSERT(bytes == c->out_bytes + c->in_bytes && bytes <= UINT32_MAX);
}

static void check_chain(const struct world *w, const struct vq_chain *c)
{
        ASSERT(c->nout + c->nin >= 1 && c->nout + c->nin <= VQ_IOV_MAX);
        ASSERT(c->head < w->q.s.size && w->nheld < w->q.s.size);
        for (unsigned i = 0; i < w->nheld; i++)
                ASSERT(w->held[i] != c->head);          /* INV-TAKEN */
}

static void touch(struct world *w, const struct vq_chain *c)
{
        uint8_t buf[OUT_READ_MAX];
        size_t at = store_random(&w->random) % (c->out_bytes + 1);
        uint64_t noise = store_random(&w->random) % 0x10001;

        ASSERT(vq_read(c, at, buf, sizeof(buf)) == MIN(sizeof(buf), c->out_bytes - at));
        if (c->in_bytes == 0 || noise % 2)
                return;
        at = store_random(&w->random) % c->in_bytes;
        ASSERT(vq_write(c, at, &noise, sizeof(noise)) == MIN(sizeof(noise), c->in_bytes - at));
}

static void push(struct world *w, unsigned i)
{
        uint16_t head = w->held[i], at = w->q.s.next_used & (w->q.s.size - 1);

        vq_push(&w->q, head, 5);
        ASSERT(w->q.used->ring[at].id == head && w->q.used->ring[at].len == 5);
        ASSERT(w->q.used->idx == w->q.s.next_used);
        w->held_last &= i + 1 < w->nheld;
        memmove(&w->held[i], &w->held[i + 1], (--w->nheld - i) * sizeof(w->held[0]));
}

static void put_back(struct world *w)
{
        uint16_t before = w->q.s.next_avail;

        vq_unpop(&w->q);
        ASSERT(w->q.s.next_avail == (uint16_t)(before - 1));
        w->nheld--;
        w->held_last = false;
}

/* false: quiet */
static bool step(struct world *w)
{
        struct vq_chain c;
        struct err e = { 0 };
        int rc = vq_pop(&w->q, &c, &e);
        uint64_t r = store_random(&w->random);

        if (rc < 0) {
                ASSERT(rc == -EBADMSG && e.code == rc && e.text[0] && w->q.broken);
                ASSERT(vq_pop(&w->q, &c, NULL) == -EBADMSG && !vq_kicks_on(&w->q));
        }
        if (rc == 1) {
                check_chain(w, &c);
                check_walk(w, &c);
                w->held[w->nheld++] = c.head;
                w->held_last = true;
                touch(w, &c);
        }
        if (r % 8 == 0 && w->held_last)
                put_back(w);
        else if (w->nheld && (rc <= 0 || r % 4))
                push(w, (unsigned)((r >> 32) % w->nheld));
        if (r % 16 == 3)
                vq_kicks_off(&w->q);
        if (r % 16 == 5)
                vq_kicks_on(&w->q);
        if (r % 2)
                vq_wants_interrupt(&w->q);
        return rc == 1 || w->nheld > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct world w = { .nheld = 0 };
        struct err e = { 0 };

        if (n < HEAD_BYTES)
                return 0;
        map_ram(&w.ram, data + HEAD_BYTES, n - HEAD_BYTES);
        w.q = (struct virtqueue){ .s = decode_state(data), .event_idx = data[8] & EVENT_IDX,
                                  .indirect = data[8] & INDIRECT };
        w.random = data[9] + 1u;

        int rc = vq_attach(&w.q, &w.ram, VQ_SIZE_MAX, &e);

        ASSERT(rc == 0 || (rc == -EBADMSG && e.code == rc && e.text[0]));
        for (unsigned i = 0; i < STEPS_MAX && step(&w); i++)
                ;
        for (unsigned i = 0; i < 2; i++)
                free(w.ram.slots[i].hva);
        return 0;
}
