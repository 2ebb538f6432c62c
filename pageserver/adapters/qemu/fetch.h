/* SPDX-License-Identifier: Apache-2.0 */
/* fetch.h - threads that bring memory from the image, and what of it goes to QEMU next.
 *
 * Theory of operation
 *
 * Background: fetchers pick stretches in the order of pageserver/prefetch.h (working set, what
 * lies near the latest requests, everything), read them side by side into a few loads and
 * mark their zero pages. The one pusher gets them in the order in which they were picked.
 * Loads are few, so that they stay in the CPU's cache until they were written.
 *
 * Requests overtake all that. One for a page that a load holds already, or will, marks
 * it there; for others a fetcher reads their unit into a load of its own. The page that is
 * waited for goes first, the rest of its unit when no request is ready. One fetcher never
 * does anything else than requests, so that none waits for reads ahead.
 *
 * All under one lock, but for reading and writing itself. INV-ONCE and INV-COVERED
 * (hostpages.h) hold because bits are set under it: a load ends only when every page of it
 * that is not zero was sent, so a page of a taken unit that no load holds is zero, and a
 * request for it is answered without looking at the image.
 *
 * Ownership: image and pages are the caller's and outlive it.
 * Threads:   fetch_take() the one pusher; fetch_want() the one who reads requests; others any.
 * Errors:    a read that fails ends it: fetch_take() says why.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_FETCH_H
#define PAGESERVER_ADAPTERS_QEMU_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/hostpages.h"
#include "pageserver/prefetch.h"
#include "qcowstore/store.h"

/* What a batch holds at most: a huge page of x86 fits; larger ones take several. */
#define FETCH_BATCH_BYTES (2u << 20)
#define FETCH_PIECES_MAX 512u
#define FETCH_NEVER UINT64_MAX

struct fetch;

struct fetch_options {
        struct qs_image *image;
        struct hostpages *pages;
        const struct prefetch_span *first;      /* units: the working set */
        size_t nfirst;
        uint64_t rate;                  /* of the background: bytes a second, common/rate.h */
        bool zeros;                     /* zero pages are sent unasked too */
        unsigned threads;               /* for the background; 0 = one per CPU */
};

/* Whole pages of the target that follow each other in a block. */
struct fetch_piece {
        unsigned block;
        uint64_t offset;
        uint64_t bytes;
        const uint8_t *data;            /* NULL = zeros */
};

struct fetch_batch {
        struct fetch_piece piece[FETCH_PIECES_MAX];
        unsigned n;
        unsigned requests;              /* that it answers; 0 = background */
        uint64_t bytes;                 /* of data */
        bool goes_on;                   /* the last page is not whole: the next batch has more */
};

struct fetch_stats {
        uint64_t requests;              /* pages asked for and answered */
        uint64_t repeated;              /* asked for when they were sent or asked for already */
        uint64_t zero_answers;          /* of the answers */
};

enum fetch_next {
        FETCH_BATCH,            /* *ret: to be written now, before the next call         */
        FETCH_WAITED,           /* until_ns has come                                     */
        FETCH_DONE,             /* the background may work, has nothing left to do, and no
                                 * request is open                                       */
        FETCH_CLOSED,           /* fetch_close()                                         */
        FETCH_FAILED,           /* *e                                                    */
};

/* Fetchers wait for requests; the background for fetch_go(). */
int fetch_new(const struct fetch_options *o, struct fetch **ret, struct err *e);
/* Waits for the read that each fetcher is in. */
void fetch_free(struct fetch *f);

/* The background works until so many bytes of RAM were looked at, zeros included;
 * FETCH_NEVER: all. With any other number the last unit is left in any case. */
void fetch_go(struct fetch *f, uint64_t until_bytes);
void fetch_pause(struct fetch *f);
void fetch_rate(struct fetch *f, uint64_t rate);
/* It is not done, whatever was sent, until it is not held any more. */
void fetch_hold(struct fetch *f, bool held);

/* QEMU waits for the page at offset, which lies in the block. Waits itself while
 * REQUESTS_MAX are open. */
void fetch_want(struct fetch *f, unsigned block, uint64_t offset);
/* What to write next: requests, else, if it may be any, of the background as much as
 * fits background_bytes, a page at least. The data of the batch before are gone. */
enum fetch_next fetch_take(struct fetch *f, uint64_t background_bytes, uint64_t until_ns,
                           struct fetch_batch *ret, struct err *e);
/* Nobody will take any more: all waits end, requests are dropped. */
void fetch_close(struct fetch *f);

void fetch_stats(struct fetch *f, struct fetch_stats *ret);

#endif
