/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vqguest.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define PAGE_BYTES 4096u

void vqguest_ram_init(struct ram *ram, uint64_t bytes)
{
        ASSERT(bytes % PAGE_BYTES == 0);
        *ram = (struct ram){ .bytes = 2 * bytes, .nslots = 2,
                             .slots = { { .gpa = 0, .bytes = bytes },
                                        { .gpa = RAM_HIGH_GPA, .bytes = bytes } } };
        for (unsigned i = 0; i < ram->nslots; i++) {
                ram->slots[i].hva = aligned_alloc(PAGE_BYTES, bytes);
                ASSERT(ram->slots[i].hva);
                memset(ram->slots[i].hva, 0, bytes);
        }
}

void vqguest_ram_fini(struct ram *ram)
{
        for (unsigned i = 0; i < ram->nslots; i++)
                free(ram->slots[i].hva);
        *ram = (struct ram){ .nslots = 0 };
}

uint64_t vqguest_ring_bytes(uint16_t size)
{
        return vring_size(size, VRING_USED_ALIGN_SIZE);
}

static void init(struct vqguest *g, const struct ram *ram, uint64_t ring_gpa, uint16_t size,
                 bool event_idx, struct virtqueue *q)
{
        uint8_t *hva = ram_at(ram, ring_gpa, vqguest_ring_bytes(size));

        ASSERT(hva && IS_ALIGNED(ring_gpa, VRING_DESC_ALIGN_SIZE) && size <= VQ_SIZE_MAX);
        memset(hva, 0, vqguest_ring_bytes(size));
        *g = (struct vqguest){ .ram = ram, .event_idx = event_idx };
        vring_init(&g->ring, size, hva, VRING_USED_ALIGN_SIZE);
        while (g->nfree < size) {
                g->free[g->nfree] = (uint16_t)(size - 1 - g->nfree);
                g->nfree++;
        }

        *q = (struct virtqueue){ .indirect = true, .event_idx = event_idx };
        q->s = (struct vq_state){
                .size = size, .ready = true, .desc_gpa = ring_gpa,
                .avail_gpa = ring_gpa + (uint64_t)((uint8_t *)g->ring.avail - hva),
                .used_gpa = ring_gpa + (uint64_t)((uint8_t *)g->ring.used - hva),
        };

        int rc = vq_attach(q, ram, VQ_SIZE_MAX, NULL);

        ASSERT(rc == 0);
}

void vqguest_init(struct vqguest *g, const struct ram *ram, uint64_t ring_gpa, uint16_t size,
                  struct virtqueue *q)
{
        init(g, ram, ring_gpa, size, false, q);
}

void vqguest_init_event_idx(struct vqguest *g, const struct ram *ram, uint64_t ring_gpa,
                            uint16_t size, struct virtqueue *q)
{
        init(g, ram, ring_gpa, size, true, q);
}

static uint16_t desc_flags(const struct vqguest_buf *buf, bool last)
{
        return (uint16_t)((buf->device_writes ? VRING_DESC_F_WRITE : 0) |
                          (last ? 0 : VRING_DESC_F_NEXT));
}

static uint16_t make_available(struct vqguest *g, uint16_t head, uint16_t ndescs)
{
        ASSERT(g->ndescs[head] == 0);
        g->ndescs[head] = ndescs;
        __atomic_store_n(&g->ring.avail->ring[g->avail_idx % g->ring.num], head,
                         __ATOMIC_RELAXED);
        g->avail_idx++;
        __atomic_store_n(&g->ring.avail->idx, g->avail_idx, __ATOMIC_SEQ_CST);
        return head;
}

uint16_t vqguest_add(struct vqguest *g, const struct vqguest_buf *bufs, unsigned n)
{
        ASSERT(n > 0 && n <= g->nfree);

        uint16_t head = g->free[g->nfree - 1];

        for (unsigned i = 0; i < n; i++) {
                uint16_t at = g->free[--g->nfree];
                bool last = i + 1 == n;

                g->ring.desc[at] = (struct vring_desc){
                        .addr = bufs[i].gpa, .len = bufs[i].bytes,
                        .flags = desc_flags(&bufs[i], last),
                        .next = last ? 0 : g->free[g->nfree - 1],
                };
        }
        return make_available(g, head, (uint16_t)n);
}

uint16_t vqguest_add_indirect(struct vqguest *g, const struct vqguest_buf *bufs, unsigned n,
                              uint64_t table_gpa)
{
        uint32_t table_bytes = n * (uint32_t)sizeof(struct vring_desc);
        uint8_t *table = ram_at(g->ram, table_gpa, table_bytes);

        ASSERT(n > 0 && table && g->nfree > 0);
        for (unsigned i = 0; i < n; i++) {
                struct vring_desc d = { .addr = bufs[i].gpa, .len = bufs[i].bytes,
                                        .flags = desc_flags(&bufs[i], i + 1 == n),
                                        .next = (uint16_t)(i + 1) };

                memcpy(table + i * sizeof(d), &d, sizeof(d));
        }

        uint16_t head = g->free[--g->nfree];

        g->ring.desc[head] = (struct vring_desc){ .addr = table_gpa, .len = table_bytes,
                                                  .flags = VRING_DESC_F_INDIRECT };
        return make_available(g, head, 1);
}

bool vqguest_wants_kick(struct vqguest *g)
{
        uint16_t before = g->kicked_idx;

        g->kicked_idx = g->avail_idx;
        if (!g->event_idx)
                return !(__atomic_load_n(&g->ring.used->flags, __ATOMIC_SEQ_CST) &
                         VRING_USED_F_NO_NOTIFY);
        return vring_need_event(__atomic_load_n(&vring_avail_event(&g->ring), __ATOMIC_SEQ_CST),
                                g->avail_idx, before);
}

bool vqguest_used(struct vqguest *g, uint16_t *ret_head, uint32_t *ret_written)
{
        if (__atomic_load_n(&g->ring.used->idx, __ATOMIC_ACQUIRE) == g->used_idx)
                return false;

        struct vring_used_elem *elem = &g->ring.used->ring[g->used_idx % g->ring.num];
        uint32_t head = __atomic_load_n(&elem->id, __ATOMIC_RELAXED);

        ASSERT(head < g->ring.num && g->ndescs[head] > 0);
        for (uint16_t at = (uint16_t)head; g->ndescs[head] > 0; at = g->ring.desc[at].next) {
                g->free[g->nfree++] = at;
                g->ndescs[head]--;
        }
        *ret_written = __atomic_load_n(&elem->len, __ATOMIC_RELAXED);
        *ret_head = (uint16_t)head;
        g->used_idx++;
        return true;
}

void vqguest_interrupts_off(struct vqguest *g)
{
        if (!g->event_idx)
                __atomic_store_n(&g->ring.avail->flags, VRING_AVAIL_F_NO_INTERRUPT,
                                 __ATOMIC_RELAXED);
}

bool vqguest_interrupts_on(struct vqguest *g)
{
        if (g->event_idx)
                __atomic_store_n(&vring_used_event(&g->ring), g->used_idx, __ATOMIC_SEQ_CST);
        else
                __atomic_store_n(&g->ring.avail->flags, 0, __ATOMIC_SEQ_CST);
        return __atomic_load_n(&g->ring.used->idx, __ATOMIC_SEQ_CST) != g->used_idx;
}
