/* SPDX-License-Identifier: Apache-2.0 */
/* save.h - a save in progress: its own thread, from pause to published file.
 *
 * Threads: the event loop's.
 */
#ifndef VMM_SAVE_H
#define VMM_SAVE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/disk/keep.h"

struct vm;
struct save;

enum save_mode {
        SAVE_LIVE,                      /* the guest runs while RAM is copied */
        SAVE_PAUSED,                    /* it stands still meanwhile, then runs on */
        SAVE_STOP,                      /* the VM ends once the file is there */
};

/* the least that is any use: one huge page */
#define SAVE_STAGING_MIN (2u << 20)

struct save_request {
        char path[4096];                /* absolute */
        char backing[4096];             /* absolute; "" = no parent */
        enum save_mode mode;
        uint64_t staging_bytes;         /* most memory for pages copied aside; 0 = default */
        enum disks_mode disks;
        bool progress;                  /* who asked wants to be told how far it is */
        struct qs_writer_options writer;        /* but for its backing */
};

/* Done once, on the event loop: result (borrowed) or the error. */
typedef void save_done_fn(void *ctx, struct json_object *result, const struct err *e);

/* Starts it; the rest happens on its thread, which posts VM_POST_SAVE. */
int save_start(struct vm *vm, const struct save_request *request, save_done_fn *done, void *ctx,
               struct err *e);
/* On VM_POST_SAVE: joins, tells done(), sets the VM's state. */
void save_finish(struct vm *vm);
/* The save in progress ends soon, with done(-ECANCELED), and leaves nothing behind; one
 * that is being published is not held up. path: only a save to that one; NULL = any.
 * -ENODATA: there is none such; -EBUSY: nor anything else that can be cancelled. */
int save_cancel(struct vm *vm, const char *path, struct err *e);
/* Cancels and joins; done() is not called. */
void save_abort(struct vm *vm);

/* "done", "total", "phase", "image" of the save in progress; false: there is none. Never
 * waits for it. */
bool save_describe(const struct vm *vm, struct json_object *o);

#endif
