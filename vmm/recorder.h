/* SPDX-License-Identifier: Apache-2.0 */
/* recorder.h - what a reverted guest touches first, on its way from the page server
 * into the image.
 *
 * The server notes first touches (--record); they are stored as the working set of
 * the snapshot that the guest was reverted from: some time after it began to run, when
 * somebody asks, or, if neither happened, when the VM ends. Storing asks the server
 * and writes a file: a thread of its own does that. The guest is not disturbed; if it
 * fails, a line on standard error and 'vmm info' say why.
 *
 * Threads: the event loop's.
 */
#ifndef VMM_RECORDER_H
#define VMM_RECORDER_H

#include <json-c/json.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct vm;
struct recorder;

struct recorder_options {
        const char *image_path;
        unsigned seconds;               /* 0 = when asked, or at the end */
};

/* vm->parent is what was reverted, vm->pager records. */
int recorder_new(struct vm *vm, const struct recorder_options *options, struct recorder **ret,
                 struct err *e);
/* The guest runs: time begins to count. */
void recorder_started(struct recorder *r);

/* Done once, on the event loop: what was stored (borrowed) or the error. */
typedef void recorder_done_fn(void *ctx, struct json_object *result, const struct err *e);

/* Stores what was touched until now. -EBUSY: it is being stored just now. done may
 * be NULL. */
int recorder_store(struct recorder *r, recorder_done_fn *done, void *ctx, struct err *e);
/* On VM_POST_RECORD: joins, tells done(). */
void recorder_finish(struct recorder *r);
/* The guest has ended, the server has not: waits, stores if nothing was stored yet,
 * and frees. NULL is allowed. done() is not called any more. */
void recorder_end(struct recorder *r);

/* "record" into what `vmm info` prints */
void recorder_describe(const struct recorder *r, struct json_object *o);

#endif
