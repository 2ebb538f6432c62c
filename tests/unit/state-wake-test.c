/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what was on its way to a guest when it was saved (timers, interrupts,
 *       an NMI) reaches it in the second VM.
 * Method: the guest of state-guest.h. Needs /dev/kvm. */
#include "tests/unit/state-guest.h"
#include "tests/unit/suite.h"

/* The event is prepared in a halted guest, which never sees it: another VM does. */
static void reaches_second_vm(void (*prepare)(struct vm *), int vector)
{
        struct vm a, b;

        CU_ASSERT_FATAL(vm_new(&a, 1) && vm_new(&b, 1));
        guest_start(&a);
        CU_ASSERT_FATAL(guest_settle(&a));
        prepare(&a);
        CU_ASSERT(vm_move(&a, &b) == 0);
        state_before_resume(&b.kvm);
        CU_ASSERT(guest_run(&b, vector < 0 ? GUEST_SILENT_MS : GUEST_PATIENCE_MS) == vector);
        vm_fini(&a);
        vm_fini(&b);
}

static void deadline_fires(void)
{
        reaches_second_vm(guest_arm_deadline, GUEST_TIMER_VECTOR);
}

static void one_shot_fires(void)
{
        reaches_second_vm(guest_arm_one_shot, GUEST_TIMER_VECTOR);
}

static void interrupt_comes(void)
{
        reaches_second_vm(guest_pend_interrupt, GUEST_TIMER_VECTOR);
}

static void nmi_comes(void)
{
        reaches_second_vm(guest_pend_nmi, GUEST_NMI_VECTOR);
}

static void nothing_armed(struct vm *vm)
{
        (void)vm;
}

/* The others would pass if anything woke the guest. */
static void silence_stays(void)
{
        reaches_second_vm(nothing_armed, -1);
}

static const CU_TestInfo cases[] = {
        { "an armed TSC deadline fires in the second VM", deadline_fires },
        { "an armed one-shot timer fires in the second VM", one_shot_fires },
        { "a pending interrupt comes in the second VM", interrupt_comes },
        { "a pending NMI comes in the second VM", nmi_comes },
        { "an idle guest stays idle", silence_stays },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        int skip = vm_skip();

        guest_init();
        return skip ? skip : suite_main("state-wake", cases);
}
