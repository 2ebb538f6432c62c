/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ownmap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/ownmap-priv.h"

static_assert(OWNMAP_BLOCK_PAGES % OWNMAP_WORD_PAGES == 0, "no two blocks share a word");

struct ownmap {
        const struct ownmap_way *way;
        int pagemap_fd;
        unsigned nslots;
        struct ownmap_slot slots[RAM_SLOTS_MAX];
        void *memory;                   /* of all slots' maps */
        size_t memory_bytes;
};

/* the better one first */
static const struct ownmap_way *const ways[] = { &ownmap_by_scan, &ownmap_by_pagemap };

static uint64_t own_bytes(const struct ownmap_slot *s)
{
        return s->pages / OWNMAP_WORD_PAGES * sizeof(uint64_t);
}

static uint64_t huge_bytes(const struct ownmap_slot *s)
{
        return s->pages / OWNMAP_BLOCK_PAGES;
}

/* Populated: the pause is no time for page faults. */
static int get_memory(struct ownmap *m, struct err *e)
{
        uint8_t *at;

        for (unsigned i = 0; i < m->nslots; i++)
                m->memory_bytes += 2 * own_bytes(&m->slots[i]) + huge_bytes(&m->slots[i]);
        m->memory = mmap(NULL, m->memory_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (m->memory == MAP_FAILED) {
                m->memory = NULL;
                return err_set(e, errno, "memory for a map of guest RAM");
        }
        at = m->memory;
        for (unsigned i = 0; i < m->nslots; i++) {
                m->slots[i].own = (uint64_t *)(void *)at;
                at += own_bytes(&m->slots[i]);
                m->slots[i].fresh = (uint64_t *)(void *)at;
                at += own_bytes(&m->slots[i]);
        }
        for (unsigned i = 0; i < m->nslots; i++) {
                m->slots[i].huge = at;
                at += huge_bytes(&m->slots[i]);
        }
        return 0;
}

static void set_slots(struct ownmap *m, const struct ram *ram)
{
        m->nslots = ram->nslots;
        for (unsigned i = 0; i < ram->nslots; i++) {
                const struct ram_slot *s = &ram->slots[i];

                ASSERT(s->hva && IS_ALIGNED((uintptr_t)s->hva | s->gpa | s->bytes,
                                            RAM_HUGE_BYTES));
                m->slots[i] = (struct ownmap_slot){
                        .hva = s->hva, .gpa = s->gpa, .pages = s->bytes / OWNMAP_PAGE_BYTES,
                        .hugetlb = ram->hugetlb, .of_file = ram->of_file,
                };
        }
}

static int choose_way(struct ownmap *m, const struct ownmap_way *wanted, struct err *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(ways) && !m->way; i++) {
                if ((!wanted || wanted == ways[i]) && ways[i]->works(m->pagemap_fd))
                        m->way = ways[i];
        }
        if (!m->way)
                return err_msg(e, ENOTSUP, "this kernel does not tell which pages of guest RAM "
                               "are its own by %s", wanted ? wanted->name : "/proc/self/pagemap");
        return 0;
}

int ownmap_new_by(const struct ownmap_way *way, const struct ram *ram, struct ownmap **ret,
                  struct err *e)
{
        struct ownmap *m = calloc(1, sizeof(*m));
        int rc = 0;

        if (!m)
                return err_msg(e, ENOMEM, "no memory for a map of guest RAM");
        set_slots(m, ram);
        m->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (m->pagemap_fd < 0)
                rc = err_set(e, errno, "open /proc/self/pagemap (the kernel needs "
                             "CONFIG_PROC_PAGE_MONITOR)");
        if (rc == 0)
                rc = choose_way(m, way, e);
        if (rc == 0)
                rc = get_memory(m, e);
        if (rc < 0)
                ownmap_free(m);
        else
                *ret = m;
        return rc;
}

int ownmap_new(const struct ram *ram, struct ownmap **ret, struct err *e)
{
        return ownmap_new_by(NULL, ram, ret, e);
}

void ownmap_free(struct ownmap *m)
{
        if (!m)
                return;
        fd_close(&m->pagemap_fd);
        if (m->memory)
                munmap(m->memory, m->memory_bytes);
        free(m);
}

const char *ownmap_way_name(const struct ownmap *m)
{
        return m->way->name;
}

static struct ownmap_slot *blocks_of(struct ownmap *m, unsigned slot, uint64_t offset,
                                     uint64_t bytes)
{
        ASSERT(slot < m->nslots && IS_ALIGNED(offset | bytes, RAM_HUGE_BYTES));

        uint64_t first = offset / OWNMAP_PAGE_BYTES;
        uint64_t pages = bytes / OWNMAP_PAGE_BYTES;

        ASSERT(first <= m->slots[slot].pages && pages <= m->slots[slot].pages - first);
        return &m->slots[slot];
}

int ownmap_scan(struct ownmap *m, unsigned slot, uint64_t offset, uint64_t bytes,
                struct err *e)
{
        struct ownmap_slot *s = blocks_of(m, slot, offset, bytes);
        uint64_t first = offset / OWNMAP_PAGE_BYTES;
        uint64_t pages = bytes / OWNMAP_PAGE_BYTES;

        memset(&s->own[first / OWNMAP_WORD_PAGES], 0, pages / 8);
        memset(&s->huge[first / OWNMAP_BLOCK_PAGES], 0, pages / OWNMAP_BLOCK_PAGES);

        int rc = m->way->scan(m->pagemap_fd, s, first, pages, e);

        return rc < 0 ? err_in(e, rc, "%s of guest RAM", m->way->name) : 0;
}

bool ownmap_can_rescan(const struct ownmap *m)
{
        return m->way->scan_fresh;
}

int ownmap_rescan(struct ownmap *m, unsigned slot, uint64_t offset, uint64_t bytes,
                  struct err *e)
{
        struct ownmap_slot *s = blocks_of(m, slot, offset, bytes);
        uint64_t first = offset / OWNMAP_PAGE_BYTES;
        uint64_t pages = bytes / OWNMAP_PAGE_BYTES;

        memset(&s->fresh[first / OWNMAP_WORD_PAGES], 0, pages / 8);

        int rc = m->way->scan_fresh(m->pagemap_fd, s, first, pages, e);

        if (rc < 0)
                return err_in(e, rc, "%s of guest RAM", m->way->name);
        for (uint64_t w = first / OWNMAP_WORD_PAGES; w < (first + pages) / OWNMAP_WORD_PAGES; w++)
                s->own[w] |= s->fresh[w];
        return 0;
}

/* bits [from, to) of the word that holds from */
static uint64_t mask(uint64_t from, uint64_t to)
{
        uint64_t low = from % OWNMAP_WORD_PAGES;
        uint64_t n = MIN(to - from, OWNMAP_WORD_PAGES - low);

        return (n == OWNMAP_WORD_PAGES ? ~0ull : (1ull << n) - 1) << low;
}

/* the first bit of the next word */
static uint64_t next_word(uint64_t page)
{
        return ALIGN_DOWN(page, OWNMAP_WORD_PAGES) + OWNMAP_WORD_PAGES;
}

void ownmap_mark(uint64_t *bits, uint64_t pages, uint64_t first_page, uint64_t end_page)
{
        ASSERT(end_page <= pages);
        for (uint64_t at = first_page; at < end_page; at = next_word(at))
                bits[at / OWNMAP_WORD_PAGES] |= mask(at, end_page);
}

/* The first bit in [from, to) that is set (or not), else to. */
static uint64_t find(const uint64_t *bits, uint64_t from, uint64_t to, bool set)
{
        for (uint64_t at = from; at < to; at = next_word(at)) {
                uint64_t word = bits[at / OWNMAP_WORD_PAGES];
                uint64_t hits = (set ? word : ~word) & mask(at, to);

                if (hits)
                        return ALIGN_DOWN(at, OWNMAP_WORD_PAGES) +
                               (unsigned)__builtin_ctzll(hits);
        }
        return to;
}

/* of a range that lies in one slot; *ret_page: its first page there */
static const struct ownmap_slot *slot_of(const struct ownmap *m, uint64_t gpa, uint64_t bytes,
                                         uint64_t *ret_page)
{
        const struct ownmap_slot *found = NULL;

        for (unsigned i = 0; i < m->nslots && !found; i++) {
                const struct ownmap_slot *s = &m->slots[i];
                uint64_t slot_bytes = s->pages * OWNMAP_PAGE_BYTES;

                if (gpa >= s->gpa && bytes <= slot_bytes && gpa - s->gpa <= slot_bytes - bytes)
                        found = s;
        }
        ASSERT(found);                  /* the caller asks about guest RAM */
        *ret_page = (gpa - found->gpa) / OWNMAP_PAGE_BYTES;
        return found;
}

bool ownmap_page(const struct ownmap *m, uint64_t gpa)
{
        uint64_t page;
        const struct ownmap_slot *s = slot_of(m, gpa, 1, &page);

        return s->own[page / OWNMAP_WORD_PAGES] >> page % OWNMAP_WORD_PAGES & 1;
}

bool ownmap_huge(const struct ownmap *m, uint64_t gpa)
{
        uint64_t page;
        const struct ownmap_slot *s = slot_of(m, gpa, 1, &page);

        return s->huge[page / OWNMAP_BLOCK_PAGES];
}

bool ownmap_any(const struct ownmap *m, uint64_t gpa, uint64_t bytes)
{
        struct ownmap_run run;

        return ownmap_run(m, gpa, gpa + bytes, 0, &run);
}

bool ownmap_run(const struct ownmap *m, uint64_t gpa, uint64_t end_gpa, uint64_t gap_pages,
                struct ownmap_run *ret)
{
        ASSERT(gpa <= end_gpa && IS_ALIGNED(gpa | end_gpa, OWNMAP_PAGE_BYTES));

        uint64_t page;
        const struct ownmap_slot *s = slot_of(m, gpa, end_gpa - gpa, &page);
        uint64_t to = page + (end_gpa - gpa) / OWNMAP_PAGE_BYTES;
        uint64_t first = find(s->own, page, to, true);
        uint64_t end = find(s->own, first, to, false);

        if (first == to)
                return false;
        for (;;) {
                uint64_t next = find(s->own, end, to, true);

                if (next == to || next - end > gap_pages)
                        break;
                end = find(s->own, next, to, false);
        }
        *ret = (struct ownmap_run){
                .gpa = s->gpa + first * OWNMAP_PAGE_BYTES,
                .bytes = (end - first) * OWNMAP_PAGE_BYTES,
        };
        return true;
}

bool ownmap_fresh(const struct ownmap *m, uint64_t gpa, uint64_t bytes)
{
        uint64_t page;
        const struct ownmap_slot *s = slot_of(m, gpa, bytes, &page);
        uint64_t to = page + bytes / OWNMAP_PAGE_BYTES;

        return find(s->fresh, page, to, true) < to;
}

struct ownmap_counts ownmap_count(const struct ownmap *m)
{
        struct ownmap_counts c = { .own_pages = 0 };

        for (unsigned i = 0; i < m->nslots; i++) {
                const struct ownmap_slot *s = &m->slots[i];

                for (uint64_t w = 0; w < s->pages / OWNMAP_WORD_PAGES; w++)
                        c.own_pages += (unsigned)__builtin_popcountll(s->own[w]);
                for (uint64_t b = 0; b < s->pages / OWNMAP_BLOCK_PAGES; b++)
                        c.huge_blocks += s->huge[b];
        }
        return c;
}
