/* SPDX-License-Identifier: Apache-2.0 */
/* busy.h - what a thread is doing, as the main thread sees it.
 *
 * A thread that does something for a client can hang there: in a read of an image whose
 * file system does not answer, or in the client's memory while the kernel holds that for
 * something else. Nobody can get it out. But what it had to do for others can be taken
 * from it meanwhile: it is *relieved*, finishes what it is in when it comes back, and
 * touches nothing of its worker's any more.
 *
 * INV-RELIEVED: of busy_end() and busy_relieve() of one piece of work the earlier wins:
 *               a thread is relieved in the middle of its work or not at all.
 *
 * Cost: two atomic operations for a batch of faults and one for each, on a cache line
 * that others look at a few times a second. No clock is asked.
 *
 * Threads: begin, next and end by the thread itself; look and relieve by the main thread.
 */
#ifndef PAGESERVER_BUSY_H
#define PAGESERVER_BUSY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct session;

enum { BUSY_AT_WORK = 1, BUSY_RELIEVED = 2, BUSY_STEP = 4 };

struct busy {
        _Atomic uint64_t word;          /* the bits above, and how many steps were made */
        _Atomic(struct session *) session;
        _Atomic bool in_image;
};

struct busy_look {
        uint64_t word;                  /* equal to an earlier one: in the same step still */
        struct session *session;        /* whose work; valid while it is at work */
        bool at_work;
        bool in_image;                  /* not only this client's: what reads that image */
};

static inline void busy_begin(struct busy *b, struct session *s)
{
        atomic_store_explicit(&b->session, s, memory_order_release);
        atomic_fetch_add_explicit(&b->word, BUSY_STEP | BUSY_AT_WORK, memory_order_acq_rel);
}

/* the same work goes on: it does not hang */
static inline void busy_next(struct busy *b)
{
        atomic_fetch_add_explicit(&b->word, BUSY_STEP, memory_order_acq_rel);
}

/* false: it was relieved meanwhile */
static inline bool busy_end(struct busy *b)
{
        uint64_t before = atomic_fetch_sub_explicit(&b->word, BUSY_AT_WORK, memory_order_acq_rel);

        return !(before & BUSY_RELIEVED);
}

static inline void busy_image(struct busy *b, bool in_image)
{
        atomic_store_explicit(&b->in_image, in_image, memory_order_relaxed);
}

static inline struct busy_look busy_look(const struct busy *b)
{
        struct busy_look l = { .word = atomic_load_explicit(&b->word, memory_order_acquire) };

        l.session = atomic_load_explicit(&b->session, memory_order_acquire);
        l.in_image = atomic_load_explicit(&b->in_image, memory_order_relaxed);
        l.at_work = (l.word & BUSY_AT_WORK) &&
                    atomic_load_explicit(&b->word, memory_order_acquire) == l.word;
        return l;
}

/* false: it has come out of that step */
static inline bool busy_relieve(struct busy *b, const struct busy_look *l)
{
        uint64_t expected = l->word;

        return atomic_compare_exchange_strong(&b->word, &expected, l->word | BUSY_RELIEVED);
}

#endif
