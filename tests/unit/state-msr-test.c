/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: every MSR that reads is saved once; only what differs is written; what
 *       is refused is judged as state-msr.c says.
 * Method: a KVM of memory that stops at what it refuses (state-fake.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/state-fake.h"
#include "tests/unit/suite.h"

static struct machine_state *machine_with(const struct kvm_msr_entry *msrs, uint32_t n)
{
        struct machine_state *m = calloc(1, sizeof(*m));

        ASSERT(m != NULL);
        m->cpus = 1;
        m->vcpu[0].msrs.nmsrs = n;
        memcpy(m->vcpu[0].msrs.entries, msrs, n * sizeof(*msrs));
        return m;
}

#define MSR(i, v) { .index = (i), .data = (v) }

/* ---- save ---- */

/* As the first vCPU of a save: all that there may be is asked for. */
static int read_first(struct fake *f, struct state_msrs *ret, struct err *e)
{
        AUTO_FREE struct state_msrs *list = calloc(1, sizeof(*list));

        ASSERT(list != NULL);

        int rc = state_msrs_list(&f->kvm, list, e);

        return rc < 0 ? rc : state_msrs_read(&f->kvm, 0, list, ret, e);
}

static void what_reads_is_saved_once(void)
{
        static const struct kvm_msr_entry has[] = {
                MSR(0x10, 1), MSR(0x1b, 0xfee00900), MSR(0x174, 2), MSR(0x40000020, 3),
                MSR(0x400001ff, 3), MSR(0x200, 4), MSR(0x2ff, 5), MSR(0x4b564d00, 6),
                MSR(0x4b564d08, 7), MSR(0xda0, 8), MSR(0x6e0, 9), MSR(0x47f, 10),
        };
        AUTO_FREE struct state_msrs *got = calloc(1, sizeof(*got));
        struct fake f;
        struct err e = { 0 };

        ASSERT(got != NULL);
        fake_init(&f, machine_with(has, ARRAY_SIZE(has)));
        CU_ASSERT(read_first(&f, got, &e) == 0);
        /* without TSC, APIC base and Hyper-V's; those in `extra` are also listed */
        CU_ASSERT(got->nmsrs == ARRAY_SIZE(has) - 4);
        CU_ASSERT(state_msr_value(got, 0x1b) == 0 && state_msr_value(got, 0x40000020) == 0);
        for (size_t i = 0; i < ARRAY_SIZE(has); i++)
                if (has[i].index > 0x1b && has[i].index >> 12 != 0x40000)
                        CU_ASSERT(state_msr_value(got, has[i].index) == has[i].data);
        fake_fini(&f);
}

/* More than one ioctl takes, and the second vCPU asks only for what read. */
static void many(void)
{
        AUTO_FREE struct kvm_msr_entry *has = calloc(600, sizeof(*has));
        AUTO_FREE struct state_msrs *first = calloc(1, sizeof(*first));
        AUTO_FREE struct state_msrs *second = calloc(1, sizeof(*second));
        struct fake f;
        struct err e = { 0 };

        ASSERT(has != NULL && first != NULL && second != NULL);
        for (uint32_t i = 0; i < 600; i++)
                has[i] = (struct kvm_msr_entry)MSR(0xd0000000 + i, i * 3);
        fake_init(&f, machine_with(has, 600));
        CU_ASSERT(read_first(&f, first, &e) == 0 && first->nmsrs == 600);
        f.ncalls = 0;
        CU_ASSERT(state_msrs_read(&f.kvm, 0, first, second, &e) == 0);
        CU_ASSERT(second->nmsrs == 600);
        CU_ASSERT(memcmp(first->entries, second->entries, 600 * sizeof(first->entries[0])) == 0);
        CU_ASSERT(f.ncalls == 3);               /* 255, 255, 90 */
        fake_fini(&f);
}

/* ---- load ---- */

static int apply(struct fake *f, const struct kvm_msr_entry *msrs, uint32_t n, uint64_t deadline,
                 struct err *e)
{
        AUTO_FREE struct state_msrs *saved = calloc(1, sizeof(*saved));

        ASSERT(saved != NULL);
        saved->nmsrs = n;
        memcpy(saved->entries, msrs, n * sizeof(*msrs));
        f->ncalls = 0;
        return state_msrs_apply(&f->kvm, 0, saved, deadline, e);
}

static void only_what_differs_is_written(void)
{
        static const struct kvm_msr_entry fresh[] = {
                MSR(0x174, 0), MSR(0x179, 0x20), MSR(0x277, 7), MSR(0x10, 99), MSR(0x6e0, 0) };
        static const struct kvm_msr_entry saved[] = {
                MSR(0x10, 5), MSR(0x179, 0x20), MSR(0x174, 0x11), MSR(0x6e0, 77),
                MSR(0x277, 0x70406) };
        struct fake f;
        struct err e = { 0 };

        fake_init(&f, machine_with(fresh, ARRAY_SIZE(fresh)));
        f.refused_msr = 0x179;
        CU_ASSERT(apply(&f, saved, ARRAY_SIZE(saved), 78, &e) == 0);

        const struct state_msrs *now = &f.m->vcpu[0].msrs;

        CU_ASSERT(state_msr_value(now, 0x174) == 0x11);
        CU_ASSERT(state_msr_value(now, 0x277) == 0x70406);
        CU_ASSERT(state_msr_value(now, 0x10) == 99);            /* INV-MSR-OWNER */
        CU_ASSERT(state_msr_value(now, 0x6e0) == 78);
        /* one call to read, one to write, one for the deadline */
        CU_ASSERT(f.ncalls == 3 && f.calls[1].nmsrs == 2 && f.calls[2].msr == 0x6e0);
        /* nothing armed: nothing written */
        CU_ASSERT(apply(&f, saved, ARRAY_SIZE(saved), 0, &e) == 0 && f.ncalls == 1);
        fake_fini(&f);
}

struct refusal {
        const char *what;
        struct kvm_msr_entry saved;
        bool exists;
        uint64_t here;
        int rc;
        const char *text;               /* in the sentence */
};

/* The refused MSR stands between two others that must arrive when it may. */
static const struct refusal refusals[] = {
        { "(a) equal", MSR(0x179, 0x20), true, 0x20, 0, NULL },
        { "(b) 0 and not there", MSR(0x38f, 0), false, 0, 0, NULL },
        { "(c) ARCH_CAPABILITIES", MSR(0x10a, 0x2b), true, 0xb, -ENOTSUP, "the CPUs differ" },
        { "(c) PERF_CAPABILITIES", MSR(0x345, 0), true, 0x32, -ENOTSUP, "MSR 0x345" },
        { "(c) VMX", MSR(0x491, 1), true, 0, -ENOTSUP, "the CPUs differ" },
        { "(d) not there", MSR(0x38f, 0xf), false, 0, -ENOTSUP, "MSR 0x38f was 0xf" },
        { "(d) anything else", MSR(0x1a0, 0x850089), true, 1, -EINVAL, "0x850089 for MSR 0x1a0" },
        { "(d) 0 where there is something", MSR(0x1a0, 0), true, 1, -EINVAL, "MSR 0x1a0" },
};

static void refusals_are_judged(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
                const struct refusal *r = &refusals[i];
                struct kvm_msr_entry saved[] = { MSR(0x174, 1), r->saved, MSR(0x175, 2) };
                struct kvm_msr_entry fresh[] = { MSR(0x174, 0), MSR(0x175, 0),
                                                 MSR(r->saved.index, r->here) };
                struct fake f;
                struct err e = { 0 };

                fake_init(&f, machine_with(fresh, r->exists ? 3 : 2));
                f.refused_msr = r->saved.index;
                CU_ASSERT(apply(&f, saved, 3, 0, &e) == r->rc);
                if (r->rc < 0)
                        CU_ASSERT(strstr(e.text, r->text) != NULL);
                if (r->rc == 0)
                        CU_ASSERT(state_msr_value(&f.m->vcpu[0].msrs, 0x175) == 2);
                fake_fini(&f);
        }
}

static void a_refused_deadline_is_an_error(void)
{
        static const struct kvm_msr_entry fresh[] = { MSR(0x6e0, 0) };
        struct fake f;
        struct err e = { 0 };

        fake_init(&f, machine_with(fresh, 1));
        f.refused_msr = 0x6e0;
        CU_ASSERT(apply(&f, fresh, 1, 9, &e) == -EINVAL && strstr(e.text, "0x6e0"));
        fake_fini(&f);
}

/* Anybody's file: doubled indices and what is never ours to write. */
static void foreign_lists(void)
{
        static const struct kvm_msr_entry fresh[] = { MSR(0x174, 0), MSR(0x1b, 0xfee00900) };
        static const struct kvm_msr_entry saved[] = {
                MSR(0x174, 1), MSR(0x174, 2), MSR(0x1b, 0), MSR(0x999, 0), MSR(0x999, 0) };
        struct fake f;
        struct err e = { 0 };

        fake_init(&f, machine_with(fresh, ARRAY_SIZE(fresh)));
        CU_ASSERT(apply(&f, saved, ARRAY_SIZE(saved), 0, &e) == 0);
        CU_ASSERT(state_msr_value(&f.m->vcpu[0].msrs, 0x174) == 2);
        CU_ASSERT(state_msr_value(&f.m->vcpu[0].msrs, 0x1b) == 0xfee00900);
        CU_ASSERT(apply(&f, saved, 0, 0, &e) == 0 && f.ncalls == 0);
        fake_fini(&f);
}

static const CU_TestInfo cases[] = {
        { "what reads is saved, once", what_reads_is_saved_once },
        { "more than one call takes", many },
        { "only what differs is written", only_what_differs_is_written },
        { "refusals are judged", refusals_are_judged },
        { "a refused deadline is an error", a_refused_deadline_is_an_error },
        { "lists from anybody", foreign_lists },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("state-msr", cases);
}
