/* SPDX-License-Identifier: Apache-2.0 */
/* requests.h - the pages that QEMU waits for and nobody fetches yet, in their order.
 *
 * INV-ASKED: a page is in the queue at most once in a lifetime, however often QEMU asks for
 *            it: who sends it once has answered all. So a flood of equal requests costs
 *            nothing, one of different requests ends when every page was asked for.
 *
 * Threads: one at a time; the fetch's lock guards it.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_REQUESTS_H
#define PAGESERVER_ADAPTERS_QEMU_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "pageserver/bits.h"

/* A vCPU or device thread of QEMU's waits for one page at a time; more than so many at once
 * are no QEMU's, and its messages are left unread until there is room. */
#define REQUESTS_MAX 4096u

struct requests {
        struct bits asked;
        uint64_t page[REQUESTS_MAX];
        unsigned first, n;
};

/* 0 or -ENOMEM */
int requests_init(struct requests *r, uint64_t pages);
void requests_fini(struct requests *r);

/* true: the page is asked for for the first time */
bool requests_new(struct requests *r, uint64_t page);
bool requests_full(const struct requests *r);
/* not when it is full */
void requests_push(struct requests *r, uint64_t page);
/* false: there is none */
bool requests_pop(struct requests *r, uint64_t *ret_page);

#endif
