/* SPDX-License-Identifier: Apache-2.0 */
/* revert-priv.h - what revert.c (life, callbacks, errors), revert-plain.c (writing, the plain
 * stream) and revert-postcopy.c (postcopy and its recovery) share. */
#ifndef PAGESERVER_ADAPTERS_QEMU_REVERT_PRIV_H
#define PAGESERVER_ADAPTERS_QEMU_REVERT_PRIV_H

#include "common/lock.h"
#include "pageserver/adapters/qemu/fetch.h"
#include "pageserver/adapters/qemu/origin.h"
#include "pageserver/adapters/qemu/outflow.h"
#include "pageserver/adapters/qemu/pusher.h"
#include "pageserver/adapters/qemu/recording.h"
#include "pageserver/adapters/qemu/returnpath.h"
#include "pageserver/adapters/qemu/revert.h"

/* Theory of operation
 *
 * Three ways to send an image to a QEMU that waits for a migration, each a list of steps
 * (specs: the stream is in common/wire/qemuload.h):
 *   plain     all pages, then the devices
 *   postcopy  the devices, then the guest runs, then pages: those it waits for first
 *   recover   as the end of postcopy, to a QEMU that lost the one before us
 * The calling thread is the only one that writes to QEMU. The return path's thread reads
 * from the first byte on, passes requests to the fetch and ends all waits when QEMU goes.
 * Requests are answered from the moment RUN was written; the background begins when
 * QEMU's PONG says that the devices are loaded, for their loading is what the guest waits for.
 *
 * INV-SERVED: END is not written before the PONG of the devices, nor before every page that
 *             is not zero was sent: QEMU then fills what it has not got with zeros.
 * INV-WRONG:  after RUN nothing ends the stream but END: a failure closes it in between two
 *             sections, so that QEMU pauses the guest and can be recovered.
 * INV-END:    every wait ends when QEMU says or closes something, or dies.
 */

/* tokens of PING */
enum ping { PING_OPEN = 1, PING_DISCARDED, PING_LOADED };

enum phase {
        PHASE_LOADING,                  /* QEMU exits if we fail                      */
        PHASE_RUNNING,                  /* the guest runs; it can be recovered        */
        PHASE_ENDED,                    /* all is there; QEMU has to say so           */
};

struct session {
        /* constant once the threads run */
        const struct revert_options *options;
        struct transport *transport;
        struct origin origin;
        struct outflow out;
        struct fetch *fetch;
        struct returnpath *returns;
        struct recording *recording;    /* NULL = nothing is recorded */
        /* the caller's thread */
        struct pusher *pusher;
        struct qemubuf buf;
        enum phase phase;

        struct lock lock;               /* inside of none, nothing inside but the fetch's */
        bool loaded GUARDED_BY(lock);   /* QEMU's devices */
        bool held GUARDED_BY(lock);     /* until the recording's seconds have passed */
};

/* What was put together, and large parts between: all at once. */
int revert_write(struct session *s, struct iovec *iov, size_t n, struct err *e);
int revert_write_buf(struct session *s, struct err *e);
/* END, without pages of its own, to what is put together */
void revert_put_end(struct session *s);
/* The background begins when both marks allow it; what: one of them. */
void revert_mark(struct session *s, bool *what, bool value);

/* The steps. 0 or a negative errno and what has happened; what QEMU said is looked at
 * by the caller. */
int revert_head(struct session *s, struct err *e);
int revert_all_pages(struct session *s, struct err *e);
int revert_devices(struct session *s, struct err *e);
int revert_ahead(struct session *s, struct err *e);
int revert_run(struct session *s, struct err *e);
int revert_serve(struct session *s, struct err *e);
int revert_store(struct session *s, struct err *e);
int revert_end(struct session *s, struct err *e);
int revert_wait_shut(struct session *s, struct err *e);
int revert_ask_bitmaps(struct session *s, struct err *e);
int revert_resume(struct session *s, struct err *e);

#endif
