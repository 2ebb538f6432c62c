/* SPDX-License-Identifier: Apache-2.0 */
/* protection.h - guest RAM as userfaultfds watch it for writes, during one save.
 *
 * RAM that a page server fills is registered with the descriptors that it serves from:
 * they are borrowed, with the right to be their only reader (pager_lease()). All other
 * RAM gets one of its own. Write protection is the kernel's, page by page; a thread that
 * writes into a protected page waits until somebody who read its message lifts it.
 *
 * What stays behind: RAM of a page server remains registered for writes, which cannot be
 * taken back without a moment in which nobody watches it (INV-HOLE). All that this costs
 * is that clean pages of the image cache are mapped one by one from then on.
 *
 * Threads: one begins and ends; between, all other functions from any.
 */
#ifndef VMM_PROTECTION_H
#define VMM_PROTECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/client.h"
#include "vmm/ram.h"

struct pager;
struct protection;

struct protection_options {
        const struct ram *ram;          /* mapped */
        struct pager *pager;            /* NULL = nobody serves it */
        /* asked now and then while the page server is waited for; true = give up. NULL = never */
        bool (*cancelled)(void *ctx);
        void *ctx;
};

/* The guest may run. -ENOTSUP, -EPERM and the like: this kernel or user cannot, the sentence
 * says what is missing. */
int protection_begin(const struct protection_options *o, struct protection **ret, struct err *e);
/* Nothing is protected any more, whoever waited for it goes on. NULL is allowed. */
void protection_end(struct protection *p);

/* the pieces of RAM, ascending, each of one descriptor; 2 MiB aligned */
const struct ps_region *protection_regions(const struct protection *p, size_t *ret_n);
/* where messages are read: at least one, non-blocking */
const int *protection_fds(const struct protection *p, size_t *ret_n);
/* Pages of one region, on or off; off also wakes who waits for them. */
int protection_set(struct protection *p, uint64_t gpa, uint64_t bytes, bool on, struct err *e);
/* Where the address of a message is; false: not in RAM. */
bool protection_gpa(const struct protection *p, uint64_t hva, uint64_t *ret_gpa);

#endif
