/* SPDX-License-Identifier: Apache-2.0 */
/* moment.h - one moment of a machine: its state, and its RAM as it is then.
 *
 * Whatever keeps a running guest (a save, a clone) takes a moment of it. Live, the guest
 * stands still for the time that it takes to read the state and to protect RAM, and runs on
 * while RAM is copied (ramguard.h); else it stands still until moment_over().
 *
 * Life: moment_new(), moment_take(), then in any order moment_ram() until moment_over() and
 *       the documents, moment_free().
 * Threads: one, not the event loop's: it waits for vCPUs and touches RAM. The machine's
 *          state is nobody else's to change meanwhile (vm_may_change()).
 */
#ifndef VMM_MOMENT_H
#define VMM_MOMENT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/ramguard.h"
#include "vmm/state.h"

struct moment;
struct vm;

struct moment_options {
        bool live;                      /* if it can be done here */
        bool ends;                      /* the guest is not to go on after moment_over() */
        uint64_t staging_bytes;         /* ramguard.h */
        /* asked now and then while vCPUs and the page server are waited for; true = give up */
        bool (*cancelled)(void *ctx);
        /* while the guest stands still, its state has been read; NULL = nothing */
        int (*standing)(void *ctx, struct err *e);
        void *ctx;
};

/* durations; all but the last are parts of the pause */
struct moment_times {
        uint64_t stop_ns;               /* until the last vCPU stood still */
        uint64_t state_ns;              /* reading KVM's and the devices' state */
        uint64_t protect_ns;            /* of RAM */
        uint64_t pause_ns;              /* until the vCPUs were told to go on; of a guest
                                           that ends here until RAM was copied */
};

/* What can be done before: the guest runs. */
int moment_new(struct vm *vm, const struct moment_options *o, struct moment **ret, struct err *e);
/* On failure the guest goes on as it was. */
int moment_take(struct moment *m, struct err *e);
/* Why RAM is copied while the guest stands still though live was asked for; NULL = it is
 * not, or was not. */
const char *moment_why_paused(const struct moment *m);

/* RAM at the moment, for the writer's threads; until moment_over(). */
struct qs_ram_source moment_ram(struct moment *m);
/* RAM is not needed any more: the guest goes on, at full speed, unless it ends here. */
void moment_over(struct moment *m);

/* Documents and blob of the state, the caller's to free. The guest may run. */
struct moment_state {
        struct json_object *meta;
        struct json_object *kvm;
        struct json_object *devices;
        struct state_blob blob;
};
int moment_encode(struct moment *m, struct moment_state *ret, struct err *e);
void moment_state_fini(struct moment_state *s);

struct moment_times moment_times(const struct moment *m);
/* false: RAM was not guarded */
bool moment_guard_stats(const struct moment *m, struct ramguard_stats *ret);
/* Ends it, with moment_over() if that was not called. A guest that was to end goes on after
 * all unless `well`. NULL is allowed. */
void moment_free(struct moment *m, bool well);

#endif
