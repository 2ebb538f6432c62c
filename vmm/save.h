/* SPDX-License-Identifier: Apache-2.0 */
/* save.h - a save in progress: its own thread, from pause to published file. */
#ifndef VMM_SAVE_H
#define VMM_SAVE_H

#include <json-c/json.h>
#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct vm;
struct save;

enum save_mode {
        SAVE_RESUME,                    /* the guest runs on when RAM has been copied */
        SAVE_STOP,                      /* the VM ends once the file is there */
};

struct save_request {
        char path[4096];                /* absolute */
        char backing[4096];             /* absolute; "" = no parent */
        enum save_mode mode;
        struct qs_writer_options writer;        /* but for its backing */
};

/* Done once, on the event loop: result (borrowed) or the error. */
typedef void save_done_fn(void *ctx, struct json_object *result, const struct err *e);

/* Starts it; the rest happens on its thread, which posts VM_POST_SAVE. */
int save_start(struct vm *vm, const struct save_request *request, save_done_fn *done, void *ctx,
               struct err *e);
/* On VM_POST_SAVE: joins, tells done(), sets the VM's state. */
void save_finish(struct vm *vm);
/* Cancels and joins; done() is not called. */
void save_abort(struct vm *vm);

#endif
