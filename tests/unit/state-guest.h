/* SPDX-License-Identifier: Apache-2.0 */
/* state-guest.h - a real mode guest that halts and whose interrupt handlers write their
 * vector to a port, and what can be on its way to it.
 *
 * For a test's main thread.
 */
#ifndef TESTS_UNIT_STATE_GUEST_H
#define TESTS_UNIT_STATE_GUEST_H

#include <stdbool.h>

#include "tests/unit/state-kvm.h"

#define GUEST_TIMER_VECTOR 0x31
#define GUEST_NMI_VECTOR 2
#define GUEST_PORT 0x10

/* Once: a run that takes too long is ended by a signal. */
void guest_init(void);
void guest_start(struct vm *vm);
#define GUEST_LEFT (-2)
/* long enough for a guest that does anything within 100 ms */
#define GUEST_SILENT_MS 300
#define GUEST_PATIENCE_MS 3000

/* What vCPU 0 writes to the port, -1 when it stays silent so long, or GUEST_LEFT. */
int guest_run(struct vm *vm, unsigned ms);
/* Completes what KVM has begun. */
void guest_complete(struct vm *vm);
/* Lets it reach hlt. */
bool guest_settle(struct vm *vm);

/* In 100 ms. */
void guest_arm_deadline(struct vm *vm);
void guest_arm_one_shot(struct vm *vm);
void guest_pend_interrupt(struct vm *vm);
void guest_pend_nmi(struct vm *vm);

#endif
