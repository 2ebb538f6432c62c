/* SPDX-License-Identifier: Apache-2.0 */
/* fillmap.h - which clusters of an image are in place, and who is fetching one.
 *
 * ABSENT   its bytes are not in place
 *          -> CLAIMED  fillmap_claim(), any worker
 * CLAIMED  one worker fetches and installs it, without a lock; others that need
 *          it leave their name and are told. A claim AHEAD of any fault nobody waits
 *          for: its thread may have to wait for a CPU. A fault fetches for itself
 *          then, installs the same bytes and leaves the state alone
 *          -> FILLED   fillmap_finish(filled), the claimant
 *          -> ABSENT   fillmap_finish(!filled), the claimant, on failure
 * FILLED   its bytes are in place; for ever
 * Clusters of zeros are never claimed nor filled: zero pages belong to one
 * client and cost nothing to give again.
 *
 * INV-ONE:      a cluster is CLAIMED by at most one worker, and no fault waits for one that
 *               works ahead.
 * INV-FILLED:   FILLED is set after the bytes are in place, never before. It
 *               lives in a memfd where it must survive this process
 *               (INV-REATTACH); claims do not.
 * INV-LOSTWAKE: a loser looks at FILLED again under the lock before he leaves
 *               his name; a winner sets FILLED before he takes the lock to
 *               collect names. So one of them sees the other.
 *
 * Threads: any. fillmap->lock is held for a few loads and for waking waiters,
 *          never while anything is fetched.
 */
#ifndef PAGESERVER_FILLMAP_H
#define PAGESERVER_FILLMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/bits.h"

/* One waiter per session and claimed cluster: more than this many sessions that
 * wait for one worker's cluster at the same time do not exist in practice; the
 * next one gets CLAIM_FULL and asks again, a claim lasts no longer than a read. */
#define FILLMAP_WAITERS_MAX 256

#define FILLMAP_TAG_BYTES 64

/* what a filled map belongs to; one of another image is refused */
struct fillmap_ident {
        uint64_t clusters;
        uint32_t cluster_bits;
        uint8_t image[16];              /* qs_image_info.identity */
        char tag[FILLMAP_TAG_BYTES];
};

struct fillmap;

/* A memfd for fillmap_open(), empty and sealed to its size. */
int fillmap_file_new(const struct fillmap_ident *ident, int *ret_fd, struct err *e);
/* filled_fd: of fillmap_file_new(), now or in an earlier process; borrowed, may
 * be closed afterwards; -1 = plain memory. -EBADMSG when it is another image's. */
int fillmap_open(const struct fillmap_ident *ident, int filled_fd, struct fillmap **ret,
                 struct err *e);
void fillmap_free(struct fillmap *map);

bool fillmap_filled(const struct fillmap *map, uint64_t cluster);
/* the FILLED bits, for looking at many at once */
const struct bits *fillmap_bits(const struct fillmap *map);

enum claim {
        CLAIM_WON,              /* the caller fetches, then calls fillmap_finish() */
        CLAIM_FILLED,           /* nothing to do                                   */
        CLAIM_QUEUED,           /* another does; the waiter will be called         */
        CLAIM_BUSY,             /* another does; no waiter, or he is queued already */
        CLAIM_FULL,             /* another does; ask again                         */
        CLAIM_AHEAD,            /* another does, without haste: fetch, but do not finish */
};

/* waiter: handed to the claimant's wake function; NULL = do not wait */
enum claim fillmap_claim(struct fillmap *map, uint64_t cluster, void *waiter);
/* For who works ahead: won or not. */
bool fillmap_claim_ahead(struct fillmap *map, uint64_t cluster);

/* Called under fillmap->lock: it must be short and take no lock. */
typedef void fillmap_wake_fn(void *waiter, uint64_t cluster);

/* By the claimant: filled or given back. Waiters are called in either case. */
void fillmap_finish(struct fillmap *map, uint64_t cluster, bool filled, fillmap_wake_fn *wake);

/* The waiter's owner ends: it will not be called any more. */
void fillmap_forget(struct fillmap *map, const void *waiter);

#endif
