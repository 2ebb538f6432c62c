/* SPDX-License-Identifier: Apache-2.0 */
/* pusher.h - writes what the fetch hands out to QEMU, as sections of pages.
 *
 * Page data go from where they were fetched to the descriptor, a section with one system
 * call; only words are put together. Each batch is a section of its own, if it ends with
 * a host page, so QEMU sees its pages as soon as they are there.
 *
 * Ownership: all that is given is the caller's and outlives it.
 * Threads:   one.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_PUSHER_H
#define PAGESERVER_ADAPTERS_QEMU_PUSHER_H

#include "common/err.h"
#include "common/wire/qemuload.h"
#include "pageserver/adapters/qemu/fetch.h"
#include "pageserver/adapters/qemu/outflow.h"

struct pusher;

int pusher_new(struct qemuload *load, struct fetch *fetch, struct outflow *out,
               struct pusher **ret, struct err *e);
void pusher_free(struct pusher *p);

/* Until the fetch is done. The background leaves room for requests (window.h), where there are
 * none for large pieces. -ECANCELED: the fetch was closed. */
int pusher_run(struct pusher *p, struct err *e);

#endif
