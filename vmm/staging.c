/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * The memory is an array of frames of 2 MiB. A frame is given whole, or in 32 small pieces.
 * Frames stand in lists by how many small pieces of them are out: a small piece comes from
 * the fullest frame that has one left, so that the emptiest ones run empty and can be given
 * whole. Frames without any piece out are a list of their own, the latest one first, whose
 * memory is most likely in the CPU's cache; one that was never used is taken last.
 *
 * INV-TOUCHED: frames from touched on were never written to; all before them are full, in
 *              one of the lists, given whole, or being touched by staging_warm().
 */
#include "vmm/staging.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/check.h"
#include "common/lock.h"
#include "common/size.h"

#define PIECES (STAGING_LARGE_BYTES / STAGING_SMALL_BYTES)
#define ALL_PIECES UINT32_MAX
#define NONE UINT32_MAX
#define TOUCH_BYTES 4096u       /* the smallest page */

static_assert(PIECES == 32, "a bit for each in a frame's word");

struct frame {
        uint32_t used;                  /* a bit for each small piece that is out */
        bool whole;                     /* given as one piece */
        uint32_t next, prev;            /* in its list; NONE at the ends */
};

struct staging {
        /* constant after new */
        uint8_t *memory;                /* nframes frames, aligned */
        void *mapping;
        size_t mapping_bytes;
        uint32_t nframes;

        struct lock lock;
        struct frame *frames            GUARDED_BY(lock);
        /* by number of pieces out; full frames are in none */
        uint32_t lists[PIECES]          GUARDED_BY(lock);
        uint32_t touched                GUARDED_BY(lock);
        uint64_t used_bytes             GUARDED_BY(lock);
        uint64_t used_bytes_max         GUARDED_BY(lock);
};

/* Huge pages, where they can be had: one fault for a frame and not 512 (0.14 against 1 to 4 ms
 * with the copy), and all is given back in a tenth of the time. */
static int map_memory(struct staging *s, struct err *e)
{
        char size[SIZE_TEXT_MAX];
        void *p;

        s->mapping_bytes = ((size_t)s->nframes + 1) * STAGING_LARGE_BYTES;
        p = mmap(NULL, s->mapping_bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
                return err_set(e, errno, "reserve %s of address space for staging",
                               size_text(s->mapping_bytes, size));
        s->mapping = p;
        s->memory = (uint8_t *)p + (-(uintptr_t)p & (STAGING_LARGE_BYTES - 1));
        /* it holds a guest's memory: not for core dumps or children */
        if (madvise(p, s->mapping_bytes, MADV_DONTDUMP) < 0 ||
            madvise(p, s->mapping_bytes, MADV_DONTFORK) < 0)
                return err_set(e, errno, "madvise staging memory");
        (void)madvise(p, s->mapping_bytes, MADV_HUGEPAGE);
        return 0;
}

int staging_new(uint64_t limit_bytes, struct staging **ret, struct err *e) NO_TSA
{
        uint64_t nframes = MIN(limit_bytes / STAGING_LARGE_BYTES, NONE - 1);
        char is[SIZE_TEXT_MAX], min[SIZE_TEXT_MAX];
        struct staging *s;
        int rc;

        if (nframes == 0)
                return err_msg(e, ERANGE, "staging memory of %s is too little: give it at least "
                               "%s", size_text(limit_bytes, is),
                               size_text(STAGING_LARGE_BYTES, min));
        s = calloc(1, sizeof(*s));
        if (!s)
                return err_msg(e, ENOMEM, "no memory for staging");
        lock_init(&s->lock);
        s->nframes = (uint32_t)nframes;
        for (unsigned i = 0; i < PIECES; i++)
                s->lists[i] = NONE;
        rc = map_memory(s, e);
        if (rc == 0)
                s->frames = calloc(s->nframes, sizeof(*s->frames));
        if (rc == 0 && !s->frames)
                rc = err_msg(e, ENOMEM, "no memory for staging");
        if (rc < 0)
                staging_free(s);
        else
                *ret = s;
        return rc;
}

void staging_free(struct staging *s) NO_TSA
{
        if (!s)
                return;
        if (s->mapping)
                munmap(s->mapping, s->mapping_bytes);
        free(s->frames);
        lock_fini(&s->lock);
        free(s);
}

static uint8_t *frame_at(const struct staging *s, uint32_t index)
{
        return s->memory + (size_t)index * STAGING_LARGE_BYTES;
}

static unsigned pieces_out(const struct frame *f)
{
        return (unsigned)__builtin_popcount(f->used);
}

static void unlist_locked(struct staging *s, uint32_t index) REQUIRES(s->lock)
{
        struct frame *f = &s->frames[index];

        if (f->next != NONE)
                s->frames[f->next].prev = f->prev;
        if (f->prev != NONE)
                s->frames[f->prev].next = f->next;
        else
                s->lists[pieces_out(f)] = f->next;
}

static void list_locked(struct staging *s, uint32_t index) REQUIRES(s->lock)
{
        struct frame *f = &s->frames[index];
        uint32_t *list = &s->lists[pieces_out(f)];

        f->prev = NONE;
        f->next = *list;
        if (*list != NONE)
                s->frames[*list].prev = index;
        *list = index;
}

/* The next frame that was never used, for its toucher alone; NONE when so many are. */
static uint32_t take_fresh_locked(struct staging *s, uint64_t nframes) REQUIRES(s->lock)
{
        return s->touched < MIN(nframes, s->nframes) ? s->touched++ : NONE;
}

/* A frame without pieces out, in no list; NONE when the limit is reached. */
static uint32_t take_empty_locked(struct staging *s) REQUIRES(s->lock)
{
        uint32_t index = s->lists[0];

        if (index == NONE)
                return take_fresh_locked(s, s->nframes);
        unlist_locked(s, index);
        return index;
}

static uint32_t take_fullest_locked(struct staging *s) REQUIRES(s->lock)
{
        for (unsigned n = PIECES - 1; n > 0; n--) {
                uint32_t index = s->lists[n];

                if (index != NONE) {
                        unlist_locked(s, index);
                        return index;
                }
        }
        return take_empty_locked(s);
}

/* No lock is held while the kernel clears memory. */
void staging_warm(struct staging *s, uint64_t bytes)
{
        for (;;) {
                uint32_t index;

                lock_acquire(&s->lock);
                index = take_fresh_locked(s, DIV_ROUND_UP(bytes, STAGING_LARGE_BYTES));
                lock_release(&s->lock);
                if (index == NONE)
                        return;
                for (size_t at = 0; at < STAGING_LARGE_BYTES; at += TOUCH_BYTES)
                        *(volatile uint8_t *)(frame_at(s, index) + at) = 0;
                lock_acquire(&s->lock);
                list_locked(s, index);
                lock_release(&s->lock);
        }
}

static uint8_t *get_small_locked(struct staging *s) REQUIRES(s->lock)
{
        uint32_t index = take_fullest_locked(s);
        struct frame *f;
        unsigned piece;

        if (index == NONE)
                return NULL;
        f = &s->frames[index];
        ASSERT(!f->whole && f->used != ALL_PIECES);
        piece = (unsigned)__builtin_ctz(~f->used);
        f->used |= 1u << piece;
        if (f->used != ALL_PIECES)
                list_locked(s, index);
        return frame_at(s, index) + (size_t)piece * STAGING_SMALL_BYTES;
}

static uint8_t *get_large_locked(struct staging *s) REQUIRES(s->lock)
{
        uint32_t index = take_empty_locked(s);

        if (index == NONE)
                return NULL;
        ASSERT(!s->frames[index].whole && !s->frames[index].used);
        s->frames[index].whole = true;
        return frame_at(s, index);
}

void *staging_get(struct staging *s, size_t bytes)
{
        uint8_t *piece;

        ASSERT(bytes == STAGING_SMALL_BYTES || bytes == STAGING_LARGE_BYTES);
        lock_acquire(&s->lock);
        piece = bytes == STAGING_SMALL_BYTES ? get_small_locked(s) : get_large_locked(s);
        if (piece) {
                s->used_bytes += bytes;
                s->used_bytes_max = MAX(s->used_bytes_max, s->used_bytes);
        }
        lock_release(&s->lock);
        return piece;
}

static void put_small_locked(struct staging *s, uint32_t index, size_t piece)
        REQUIRES(s->lock)
{
        struct frame *f = &s->frames[index];

        ASSERT(!f->whole && (f->used & 1u << piece));
        if (f->used != ALL_PIECES)
                unlist_locked(s, index);
        f->used &= ~(1u << piece);
        list_locked(s, index);
}

static void put_large_locked(struct staging *s, uint32_t index) REQUIRES(s->lock)
{
        ASSERT(s->frames[index].whole);
        s->frames[index].whole = false;
        list_locked(s, index);
}

void staging_put(struct staging *s, void *piece, size_t bytes)
{
        size_t offset = (size_t)((uint8_t *)piece - s->memory);
        uint32_t index = (uint32_t)(offset / STAGING_LARGE_BYTES);

        ASSERT(bytes == STAGING_SMALL_BYTES || bytes == STAGING_LARGE_BYTES);
        ASSERT(offset / STAGING_LARGE_BYTES < s->nframes && IS_ALIGNED(offset, bytes));
        lock_acquire(&s->lock);
        if (bytes == STAGING_SMALL_BYTES)
                put_small_locked(s, index, offset % STAGING_LARGE_BYTES / STAGING_SMALL_BYTES);
        else
                put_large_locked(s, index);
        s->used_bytes -= bytes;
        lock_release(&s->lock);
}

struct staging_stats staging_stats(struct staging *s)
{
        struct staging_stats st;

        lock_acquire(&s->lock);
        st = (struct staging_stats){
                .used_bytes = s->used_bytes,
                .used_bytes_max = s->used_bytes_max,
                .touched_bytes = (uint64_t)s->touched * STAGING_LARGE_BYTES,
                .limit_bytes = (uint64_t)s->nframes * STAGING_LARGE_BYTES,
        };
        lock_release(&s->lock);
        return st;
}
