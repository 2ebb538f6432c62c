/* SPDX-License-Identifier: Apache-2.0 */
/* standstill.h - the guest stands still: no vCPU runs, no device touches RAM.
 *
 * Threads: one at a time, whoever changes the VM's state at the moment (vm_is_free()).
 */
#ifndef VMM_STANDSTILL_H
#define VMM_STANDSTILL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct vm;

/* All vCPUs are parked and all devices held, or -ETIMEDOUT at the deadline (clock_now_ns)
 * with a sentence that says what is waited for; what was asked for stands until the end. */
int standstill_begin(struct vm *vm, uint64_t deadline_ns, struct err *e);
void standstill_end(struct vm *vm);

#endif
