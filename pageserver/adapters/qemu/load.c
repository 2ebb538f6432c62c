/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/check.h"

static size_t words(uint64_t bits)
{
        return DIV_ROUND_UP(bits, 64);
}

static bool test(const uint64_t *map, uint64_t i)
{
        return map[i / 64] >> (i % 64) & 1;
}

static void set(uint64_t *map, uint64_t i)
{
        map[i / 64] |= 1ull << (i % 64);
}

int load_init(struct load *l, size_t room, uint32_t target_bytes)
{
        void *data = mmap(NULL, room, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        *l = (struct load){ .room = room };
        if (data == MAP_FAILED)
                return -ENOMEM;
        l->data = data;
        l->zero = calloc(words(room / target_bytes), sizeof(*l->zero));
        l->wanted = calloc(words(room / target_bytes), sizeof(*l->wanted));
        return l->zero && l->wanted ? 0 : -ENOMEM;
}

void load_fini(struct load *l)
{
        if (l->data)
                munmap(l->data, l->room);
        free(l->zero);
        free(l->wanted);
        *l = (struct load){ 0 };
}

static uint64_t page_bytes(const struct load *l, const struct hostpages *h)
{
        return h->of[l->span.block].page_bytes;
}

void load_begin(struct load *l, const struct hostpages_span *span, bool whole, uint64_t ticket,
                const struct hostpages *h)
{
        ASSERT(l->state == LOAD_FREE && span->bytes > 0 && span->bytes <= l->room);
        l->state = LOAD_FETCHING;
        l->span = *span;
        l->whole = whole;
        l->ticket = ticket;
        l->cursor = 0;
        l->lent = false;
        l->nwanted = 0;
        memset(l->wanted, 0, words(span->bytes / page_bytes(l, h)) * sizeof(*l->wanted));
}

static bool all_zero(const uint8_t *p, size_t bytes)
{
        uint64_t first;

        memcpy(&first, p, sizeof(first));
        return first == 0 && memcmp(p, p + sizeof(first), bytes - sizeof(first)) == 0;
}

/* marks what is zero in [from, to) of the span, which is in data */
static void look(struct load *l, uint32_t target, uint64_t from, uint64_t to)
{
        for (uint64_t at = from; at < to; at += target) {
                if (all_zero(l->data + at, target))
                        set(l->zero, at / target);
        }
}

static void mark(struct load *l, uint32_t target, uint64_t from, uint64_t to)
{
        for (uint64_t at = from; at < to; at += target)
                set(l->zero, at / target);
}

static void clear(struct load *l, uint32_t target)
{
        memset(l->zero, 0, words(l->span.bytes / target) * sizeof(*l->zero));
}

int load_read(struct load *l, const struct hostpages *h, struct qs_reader *reader,
              uint64_t *ret_bytes, struct err *e)
{
        uint64_t read = 0;

        ASSERT(l->state == LOAD_FETCHING);
        clear(l, h->target_bytes);
        for (uint64_t at = 0, run, gpa; at < l->span.bytes; at += run) {
                bool zero;
                bool there = qemu_blocks_gpa(h->blocks, l->span.block, l->span.offset + at, &gpa,
                                             &run);

                ASSERT(there);
                run = MIN(run, l->span.bytes - at);

                int rc = qs_span_read(reader, gpa, run, l->data + at, &zero, e);

                if (rc < 0)
                        return rc;
                if (zero) {
                        mark(l, h->target_bytes, at, at + run);
                } else {
                        look(l, h->target_bytes, at, at + run);
                        read += run;
                }
        }
        *ret_bytes = read;
        return 0;
}

void load_zeros(struct load *l, const struct hostpages *h)
{
        mark(l, h->target_bytes, 0, l->span.bytes);
}

bool load_covers(const struct load *l, unsigned block, uint64_t offset)
{
        return l->state != LOAD_FREE && l->span.block == block && offset >= l->span.offset &&
               offset - l->span.offset < l->span.bytes;
}

void load_want(struct load *l, const struct hostpages *h, uint64_t offset)
{
        uint64_t i = (offset - l->span.offset) / page_bytes(l, h);

        ASSERT(load_covers(l, l->span.block, offset) && !test(l->wanted, i));
        set(l->wanted, i);
        l->nwanted++;
}

uint64_t load_unwant(struct load *l, const struct hostpages *h)
{
        size_t w = 0;

        ASSERT(l->nwanted > 0);
        while (l->wanted[w] == 0)
                w++;

        uint64_t i = w * 64 + (uint64_t)__builtin_ctzll(l->wanted[w]);

        l->wanted[w] &= l->wanted[w] - 1;
        l->nwanted--;
        return l->span.offset + i * page_bytes(l, h);
}

bool load_is_zero(const struct load *l, const struct hostpages *h, uint64_t from, uint64_t to)
{
        bool zero;

        return load_run(l, h, from, to, &zero) == to && zero;
}

uint64_t load_run(const struct load *l, const struct hostpages *h, uint64_t from, uint64_t to,
                  bool *ret_zero)
{
        uint32_t target = h->target_bytes;
        bool zero = test(l->zero, from / target);
        uint64_t at = from + target;

        ASSERT(from < to && to <= l->span.bytes);
        while (at < to && test(l->zero, at / target) == zero)
                at += target;
        *ret_zero = zero;
        return at;
}
