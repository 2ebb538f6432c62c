/* SPDX-License-Identifier: Apache-2.0 */
/* saver.h - takes one stream of QEMU's in, from its first byte to its last, and makes an
 * image of it. What process does that, and who is told how it ended, is save.c's.
 *
 * Threads: one at a time.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_SAVER_H
#define PAGESERVER_ADAPTERS_QEMU_SAVER_H

#include "common/err.h"
#include "pageserver/adapters/qemu/save.h"
#include "pageserver/adapters/qemu/status.h"
#include "pageserver/adapters/qemu/transport.h"

/* What others want to know while it goes on. */
struct saver_hooks {
        void (*return_path)(void *ctx);         /* QEMU waits for an answer at the end */
        void (*all_read)(void *ctx);            /* of a good stream without one */
        /* QEMU needs us no more, what is left is to clean up */
        void (*failed)(void *ctx, const struct err *why);
        void *ctx;
};

/* 0: the image is there, and QEMU knows, if it wants to. t is closed as soon as QEMU needs
 * it no more. status may be NULL; it stays the caller's. */
int saver_run(const struct save_options *o, struct transport *t, struct status *status,
              const struct saver_hooks *hooks, struct err *e);

/* The save has failed before it began, but QEMU may be sending, or may begin to: before the
 * first byte of a live snapshot it looks at all memory. Its stream is taken to its end,
 * if it is one (INV-DRAIN), and QEMU is told, if it wants to know. Waits for
 * that, or for the end of who is not QEMU, without a limit. */
void saver_refuse(struct transport *t);

extern const struct saver_hooks saver_no_hooks;

#endif
