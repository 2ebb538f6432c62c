/* SPDX-License-Identifier: Apache-2.0 */
/* load.h - a stretch of one block that is fetched from the image and goes to QEMU.
 *
 * Life: FREE -> FETCHING (a fetcher owns data and zero) -> READY (the pusher does) -> FREE.
 * The rest belongs to the fetch's lock.
 *
 * Threads: see above.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_LOAD_H
#define PAGESERVER_ADAPTERS_QEMU_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pageserver/adapters/qemu/hostpages.h"
#include "qcowstore/store.h"

enum load_state { LOAD_FREE, LOAD_FETCHING, LOAD_READY };

struct load {
        enum load_state state;
        struct hostpages_span span;     /* whole pages */
        uint64_t ticket;                /* loads with whole go in this order */
        bool whole;                     /* all of it is to be sent, not only what is wanted */
        uint64_t cursor;                /* bytes of it that need no look any more; with whole */
        bool lent;                      /* the batch that is being written has data of it */
        uint64_t nwanted;
        uint64_t *wanted;               /* bit per page: QEMU waits for it */
        uint8_t *data;
        uint64_t *zero;                 /* bit per page of the target; data is not valid there */
        size_t room;                    /* bytes of data */
};

/* room: the longest span; memory is used where it is read into. 0 or -ENOMEM. */
int load_init(struct load *l, size_t room, uint32_t target_bytes);
void load_fini(struct load *l);

/* span fits the room; nothing is wanted */
void load_begin(struct load *l, const struct hostpages_span *span, bool whole, uint64_t ticket,
                const struct hostpages *h);
/* The content from the image; *ret_bytes of it were read and are no zeros of the file's. */
int load_read(struct load *l, const struct hostpages *h, struct qs_reader *reader,
              uint64_t *ret_bytes, struct err *e);
/* In place of reading: all zeros, as INV-COVERED says. */
void load_zeros(struct load *l, const struct hostpages *h);

bool load_covers(const struct load *l, unsigned block, uint64_t offset);
/* of the page at offset of the block */
void load_want(struct load *l, const struct hostpages *h, uint64_t offset);
/* The first page that is wanted, which is not so any more; its offset in the block.
 * Only with nwanted > 0. */
uint64_t load_unwant(struct load *l, const struct hostpages *h);

/* All of the span's bytes from `from` to `to`, offsets in it, are zero. */
bool load_is_zero(const struct load *l, const struct hostpages *h, uint64_t from, uint64_t to);
/* The end of the run of pages of the target from `from` on that are all zero, or all not. */
uint64_t load_run(const struct load *l, const struct hostpages *h, uint64_t from, uint64_t to,
                  bool *ret_zero);

#endif
