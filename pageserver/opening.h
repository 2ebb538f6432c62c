/* SPDX-License-Identifier: Apache-2.0 */
/* opening.h - an image that is being opened by a thread that may hang (errand.h).
 *
 * Ownership: opening_end() frees it, at any time; what was opened is its own until it is
 *            taken.
 * Threads:   main thread.
 */
#ifndef PAGESERVER_OPENING_H
#define PAGESERVER_OPENING_H

#include "pageserver/session.h"
#include "pageserver/source.h"

struct opening;

struct opened {
        struct source *source;
        struct qs_ram_range *set;       /* what its guest wants first; NULL = it does not say */
        size_t set_n;
        struct err set_err;             /* code 0, or why it cannot be had */
};

/* fds: taken, -1 afterwards; also on failure those that were */
int opening_start(struct session_host *host, int *fds, const struct source_files *files,
                  struct opening **ret, struct err *e);
/* -EAGAIN: not yet; the host is poked when it is. Once: the caller has all of *ret then, or
 * the error of opening it. */
int opening_take(struct opening *o, struct opened *ret, struct err *e);
void opening_end(struct opening *o);
/* Takes what was taken, without the caller having to wait for it. */
void opened_let_go(struct opened *opened, struct session_host *host);

#endif
