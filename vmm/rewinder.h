/* SPDX-License-Identifier: Apache-2.0 */
/* rewinder.h - guest RAM back to what an image holds, by touching only what differs.
 *
 * Three steps, of which only the last changes anything:
 *   prepare  the guest runs: what will be read of the image is read, and checked
 *   look     the guest stands still from here on: which pages are its own now; what
 *            prepare could not foresee is read
 *   apply    RAM becomes what the image holds. What fails here leaves RAM half done;
 *            it may be tried again from the start.
 *
 * Ownership: the images, RAM and pager outlive it.
 * Threads:   one at a time; it has some of its own.
 */
#ifndef VMM_REWINDER_H
#define VMM_REWINDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/ram.h"

struct pager;
struct rewinder;
struct starter;

struct rewinder_options {
        const struct ram *ram;
        struct qs_image *parent;        /* of pages that are not RAM's own; NULL = zeros, */
        int flat_fd;                    /* or what this memfd has, as vm.h says; -1 = none */
        struct qs_image *target;        /* covers RAM */
        struct pager *pager;            /* serves what is missing; NULL = nothing ever is */
        struct starter *starter;        /* of the threads that compare; may be NULL */
        bool shared;                    /* RAM is a private mapping of the parent's cache */
        const _Atomic bool *cancelled;  /* by others, before apply; NULL = never */
};

struct rewinder_stats {
        uint64_t pages_written;
        uint64_t pages_given_back;
};

int rewinder_new(const struct rewinder_options *options, struct rewinder **ret, struct err *e);
void rewinder_free(struct rewinder *r);
int rewinder_prepare(struct rewinder *r, struct err *e);
int rewinder_look(struct rewinder *r, struct err *e);
int rewinder_apply(struct rewinder *r, struct rewinder_stats *ret, struct err *e);

#endif
