/* SPDX-License-Identifier: Apache-2.0 */
/* keep-gate.h - what each write to a disk passes: where somebody keeps a moment of the disk,
 * it waits there until what it overwrites is safe.
 *
 * Costs one load while nobody keeps anything.
 * Threads: pass from any number; close while no write is under way (the device is drained),
 *          open at any time, both by whoever keeps, one at a time.
 */
#ifndef VMM_DISK_KEEP_GATE_H
#define VMM_DISK_KEEP_GATE_H

#include <stdint.h>

#include "common/lock.h"

struct disk_keep;

struct keep_gate {
        _Atomic(struct disk_keep *) keep;
        struct lock lock;
        struct cond passed;
        unsigned inside GUARDED_BY(lock);       /* writes that look at keep */
};

void keep_gate_init(struct keep_gate *g);
void keep_gate_fini(struct keep_gate *g);
/* Before a write, discard or zeroes of that range begins. Never fails: the guest's writes
 * do not suffer from what becomes of the copy. */
void keep_gate_pass(struct keep_gate *g, uint64_t offset, uint64_t bytes);

void keep_gate_close(struct keep_gate *g, struct disk_keep *k);
/* Afterwards nobody looks at what it was closed with. */
void keep_gate_open(struct keep_gate *g);

#endif
