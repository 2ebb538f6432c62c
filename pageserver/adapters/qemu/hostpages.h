/* SPDX-License-Identifier: Apache-2.0 */
/* hostpages.h - all memory of a QEMU machine as numbered pages, and which of them were sent.
 *
 * A *page* is one of the host's memory below a block, 4096 bytes or huge: what QEMU asks for
 * and puts in place at a time. A *unit* is what is read from the image at a time: a page or
 * a cluster, whichever is larger. Both are counted through all blocks, in their order.
 *
 * INV-ONCE: a page's sent bit is set by whoever writes to QEMU, before he writes it, and never
 *           cleared: a page that QEMU gets twice stops the guest (UFFDIO_COPY: EEXIST).
 * INV-COVERED: who sets a unit's taken bit sends all of its pages that are not zero, or clears
 *           it again. So a page not sent, of a unit that is taken and not at hand any more,
 *           is zero.
 *
 * Ownership: the blocks are the caller's and outlive it.
 * Threads:   constant but for the bits, which any thread may read.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_HOSTPAGES_H
#define PAGESERVER_ADAPTERS_QEMU_HOSTPAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/blocks.h"
#include "pageserver/bits.h"

struct hostpages_block {
        uint64_t first_page;
        uint64_t first_unit;
        uint64_t page_bytes;
        uint64_t unit_bytes;            /* a multiple of page_bytes; the last may be cut short */
};

struct hostpages {
        const struct qemu_blocks *blocks;
        struct hostpages_block *of;     /* a block each */
        uint32_t target_bytes;          /* of a page of the target: what a word speaks of */
        uint64_t pages;
        uint64_t units;
        uint64_t largest_unit_bytes;
        struct bits sent;               /* of pages */
        struct bits taken;              /* of units */
};

/* a stretch of a block */
struct hostpages_span {
        unsigned block;
        uint64_t offset;
        uint64_t bytes;
};

int hostpages_init(struct hostpages *h, const struct qemu_blocks *blocks, uint32_t target_bytes,
                   uint32_t cluster_bytes, struct err *e);
/* also of one that is all zeros */
void hostpages_fini(struct hostpages *h);

/* offset lies in the block */
uint64_t hostpages_page(const struct hostpages *h, unsigned block, uint64_t offset);
uint64_t hostpages_unit(const struct hostpages *h, unsigned block, uint64_t offset);
struct hostpages_span hostpages_page_span(const struct hostpages *h, uint64_t page);
/* units [first, first + n) of one block */
struct hostpages_span hostpages_unit_span(const struct hostpages *h, uint64_t first, uint64_t n);
/* one behind the last unit of the block */
uint64_t hostpages_units_end(const struct hostpages *h, unsigned block);

/* The first stretch of the block from offset on that was not sent; false: there is none. */
bool hostpages_unsent(const struct hostpages *h, unsigned block, uint64_t offset,
                      struct hostpages_span *ret);

#endif
