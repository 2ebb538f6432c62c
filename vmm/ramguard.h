/* SPDX-License-Identifier: Apache-2.0 */
/* ramguard.h - guest RAM held as it was at one moment, while the guest runs on.
 *
 * Theory of operation is in ramguard.c.
 * Threads: one makes, freezes and frees it; the source is called by the writer's.
 *          It has threads of its own, which answer the faults.
 */
#ifndef VMM_RAMGUARD_H
#define VMM_RAMGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/ram.h"

struct pager;
struct ramguard;
struct starter;

struct ramguard_options {
        const struct ram *ram;
        struct pager *pager;            /* NULL = nobody serves RAM */
        struct qs_image *parent;        /* where pages that RAM has not got are; NULL = zeros */
        struct starter *starter;        /* of its threads; may be NULL */
        unsigned cpus;                  /* of the guest: so many faults at a time */
        uint64_t staging_bytes;         /* for pages that are copied aside; 0 = an eighth of
                                           RAM, within RAMGUARD_STAGING_MIN and _MAX, but at
                                           most half of the memory that is left */
        /* asked now and then while the page server is waited for; true = give up. NULL = never */
        bool (*cancelled)(void *ctx);
        void *ctx;
};

#define RAMGUARD_STAGING_MIN (64ull << 20)
#define RAMGUARD_STAGING_MAX (1ull << 30)

struct ramguard_stats {
        uint64_t own_bytes;             /* of RAM, at the moment; the rest is the parent's */
        uint64_t faults;                /* writes of the guest that had to wait */
        uint64_t aside_bytes;           /* copied aside for them, in all */
        uint64_t staging_bytes;         /* at most, at one time */
        uint64_t waited;                /* faults that found no room there */
};

/* All that can be done before the moment: the guest runs, and gives no memory back from before
 * here until after the end (giveback_hold()). -ENOTSUP, -EPERM: it cannot be done here, the
 * sentence says what is missing. */
int ramguard_new(const struct ramguard_options *o, struct ramguard **ret, struct err *e);
/* The moment. The guest stands still until this returns; on failure it may go on too. */
int ramguard_freeze(struct ramguard *g, struct err *e);
/* RAM as it was, each byte at most once; the guard's as long as it lives. */
struct qs_ram_source ramguard_source(struct ramguard *g);
void ramguard_stats(const struct ramguard *g, struct ramguard_stats *ret);
/* The guest writes where it likes again, memory is given back. NULL is allowed. */
void ramguard_free(struct ramguard *g);

#endif
