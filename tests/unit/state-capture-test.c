/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a state in three steps is the state in one; of a pause it takes KVM's calls on
 *       the clock, the vCPUs and the chips, and nothing else.
 * Method: a KVM of memory that logs its calls (state-fake.h), and counters in front of
 *       everything else (counted.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/counted.h"
#include "tests/unit/state-pair.h"
#include "tests/unit/suite.h"

static struct pair_saved encode(const struct state_capture *c)
{
        struct pair_saved s = { 0 };
        struct err e = { 0 };

        CU_ASSERT_FATAL(state_capture_encode(c, &s.json, &s.blob, &e) == 0);
        return s;
}

static bool equal(const struct pair_saved *a, const struct pair_saved *b)
{
        return json_object_equal(a->json, b->json) && a->blob.bytes == b->blob.bytes &&
               memcmp(a->blob.data, b->blob.data, a->blob.bytes) == 0;
}

/* A KVM that can scale the TSC and run nested guests, of which there is none. */
static void init_able(struct fake *f, unsigned cpus)
{
        fake_init(f, pair_plausible(cpus, 3));
        f->nested_bytes = 128 + 4096;
        f->nested = (struct kvm_nested_state){ .size = 128, .flags = KVM_STATE_NESTED_GIF_SET,
                                               .format = KVM_STATE_NESTED_FORMAT_SVM };
        f->kvm.has_tsc_control = true;
}

/* Another guest in the same VM. */
static void change_all(struct fake *f, uint64_t seed)
{
        struct machine_state *m = pair_plausible(f->kvm.cpus, seed);

        free(f->m);
        f->m = m;
}

static void three_steps_are_one(void)
{
        for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus++) {
                struct fake f;
                struct state_capture *c;
                struct err e = { 0 };

                fake_init(&f, pair_plausible(cpus, cpus));
                CU_ASSERT_FATAL(state_capture_new(&f.kvm, &c, &e) == 0);
                /* the guest runs on until it is paused */
                change_all(&f, 30 + cpus);
                CU_ASSERT(state_capture_take(c, &e) == 0);

                struct pair_saved at_once = pair_save(&f);

                change_all(&f, 60 + cpus);

                struct pair_saved late = encode(c), again = encode(c), other = pair_save(&f);

                CU_ASSERT(equal(&late, &at_once) && equal(&again, &at_once));
                CU_ASSERT(!equal(&other, &at_once));
                pair_saved_fini(&at_once);
                pair_saved_fini(&late);
                pair_saved_fini(&again);
                pair_saved_fini(&other);
                state_capture_free(c);
                fake_fini(&f);
        }
}

/* It would wait for the guest to pause. */
static void before_the_pause_no_vcpu_is_asked(void)
{
        struct fake f;
        struct state_capture *c;
        struct err e = { 0 };

        init_able(&f, 2);
        CU_ASSERT_FATAL(state_capture_new(&f.kvm, &c, &e) == 0);
        CU_ASSERT(f.ncalls > 0);
        for (unsigned i = 0; i < f.ncalls; i++)
                CU_ASSERT(f.calls[i].cpu == FAKE_VM);
        state_capture_free(c);
        fake_fini(&f);
}

/* Of the VM, in the pause. */
static const unsigned long pause_requests[] = {
        KVM_GET_CLOCK, KVM_GET_IRQCHIP, KVM_GET_IRQCHIP, KVM_GET_IRQCHIP, KVM_GET_PIT2,
};

static void the_pause_holds_nothing_else(void)
{
        struct fake f;
        struct state_capture *c;
        struct err e = { 0 };
        unsigned vm_calls = 0;

        init_able(&f, 3);
        (void)counted_take();
        CU_ASSERT_FATAL(state_capture_new(&f.kvm, &c, &e) == 0);
        CU_ASSERT(counted_take().allocations > 0);      /* that they are counted */
        f.ncalls = 0;

        int rc = state_capture_take(c, &e);
        struct counted counted = counted_take();

        CU_ASSERT(rc == 0);
        CU_ASSERT(counted.allocations == 0 && counted.files == 0 && counted.locks == 0);
        for (unsigned i = 0; i < f.ncalls; i++) {
                if (f.calls[i].cpu != FAKE_VM)
                        continue;
                CU_ASSERT_FATAL(vm_calls < ARRAY_SIZE(pause_requests));
                CU_ASSERT(f.calls[i].request == pause_requests[vm_calls++]);
        }
        CU_ASSERT(vm_calls == ARRAY_SIZE(pause_requests));
        state_capture_free(c);
        fake_fini(&f);
}

static void failures_before_the_pause(void)
{
        struct fake f;
        struct state_capture *c = NULL;
        struct err e = { 0 };

        init_able(&f, 1);
        f.refused_request = KVM_GET_MSR_INDEX_LIST;
        CU_ASSERT(state_capture_new(&f.kvm, &c, &e) == -EINVAL && c == NULL);
        CU_ASSERT(strstr(e.text, "save the machine state: read KVM's list of MSRs") != NULL);
        state_capture_free(NULL);
        fake_fini(&f);
}

static void failures_in_the_pause(void)
{
        static const unsigned long requests[] = {
                KVM_GET_CLOCK, KVM_GET_CPUID2, KVM_GET_MP_STATE, KVM_GET_REGS, KVM_GET_SREGS2,
                KVM_GET_XSAVE, KVM_GET_XCRS, KVM_GET_DEBUGREGS, KVM_GET_LAPIC, KVM_GET_MSRS,
                KVM_GET_TSC_KHZ, KVM_GET_NESTED_STATE, KVM_GET_VCPU_EVENTS, KVM_GET_IRQCHIP,
                KVM_GET_PIT2,
        };

        for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
                struct fake f;
                struct state_capture *c;
                struct err e = { 0 };

                init_able(&f, 2);
                CU_ASSERT_FATAL(state_capture_new(&f.kvm, &c, &e) == 0);
                f.refused_request = requests[i];
                CU_ASSERT(state_capture_take(c, &e) == -EINVAL);
                CU_ASSERT(strstr(e.text, "save the machine state: ") == e.text);
                state_capture_free(c);
                fake_fini(&f);
        }
}

static const CU_TestInfo cases[] = {
        { "three steps give what one gives", three_steps_are_one },
        { "before the pause no vCPU is asked", before_the_pause_no_vcpu_is_asked },
        { "the pause holds KVM's calls alone", the_pause_holds_nothing_else },
        { "failures before the pause", failures_before_the_pause },
        { "failures in the pause", failures_in_the_pause },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("state-capture", cases);
}
