/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: clock and TSC go on by the same time, on hosts of every kind; a TSC
 *       rate that a host can not give is refused.
 * Method: a KVM of memory with a clock of its own (state-fake.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/state-pair.h"
#include "tests/unit/suite.h"

static void by_offset(void)
{
        struct pair *p = pair_new(2);
        struct err e = { 0 };

        /* a second passed: 2e9 ticks; the host's TSC went from 900000 to 5000000 */
        p->to.clock_passed_ns = 1000000000;
        p->to.host_tsc = 5000000;
        p->to.host_tsc_step = 111;              /* read once, not once per vCPU */
        CU_ASSERT(pair_load(p, &e) == 0);
        for (unsigned i = 0; i < 2; i++)
                CU_ASSERT(p->to.m->vcpu[i].tsc.offset == 777 + 900000 + 2000000000ull - 5000000);
        CU_ASSERT(p->to.tsc_written[0] == 0);   /* never MSR 0x10 as well */
        CU_ASSERT(fake_first(&p->to, FAKE_VM, KVM_SET_CLOCK) ==
                  fake_last(&p->to, FAKE_VM, KVM_SET_CLOCK));
        pair_free(p);
}

static void unequal_offsets_stay_apart(void)
{
        struct pair *p = calloc(1, sizeof(*p));
        struct err e = { 0 };

        ASSERT(p != NULL);
        fake_init(&p->from, pair_plausible(2, 3));
        p->from.m->vcpu[1].tsc.offset = 1000;
        p->saved = pair_save(&p->from);
        fake_init(&p->to, pair_fresh(p->from.m));
        CU_ASSERT(pair_load(p, &e) == 0);
        CU_ASSERT(p->to.m->vcpu[1].tsc.offset - p->to.m->vcpu[0].tsc.offset == 1000 - 777);
        pair_free(p);
}

/* However long after each other they are reverted: at one moment of the host they have one
 * TSC and one clock, which is the time since the save. */
static void many_of_one_state(void)
{
        struct pair *p = pair_new(2);

        for (unsigned i = 0; i < 3; i++) {
                const uint64_t passed_ns = 1000000000ull + i * 250000000ull;
                struct err e = { 0 };

                fake_fini(&p->to);
                fake_init(&p->to, pair_fresh(p->from.m));
                p->to.clock_passed_ns = passed_ns;
                p->to.host_tsc = 900000 + 3000 + passed_ns * 2;         /* PAIR_KHZ */
                CU_ASSERT(pair_load(p, &e) == 0);
                CU_ASSERT(p->to.m->clock.clock == p->from.m->clock.clock + passed_ns);
                for (unsigned k = 0; k < 2; k++)
                        CU_ASSERT(p->to.m->vcpu[k].tsc.offset == 777ull - 3000);
        }
        pair_free(p);
}

struct value_case {
        const char *why;
        uint32_t clock_flags;           /* of the new host */
        bool has_tsc_offset, has_tsc_control;
        int host_khz;
        bool by_value;
};

static const struct value_case value_cases[] = {
        { "all there", 0xe, true, false, PAIR_KHZ, false },
        { "scaling, not in use", 0xe, true, true, PAIR_KHZ, false },
        { "scaling in use", 0xe, true, true, PAIR_KHZ / 2, true },
        { "scaling, rate unknown", 0xe, true, true, -ENOTTY, true },
        { "no master clock", 0, true, false, PAIR_KHZ, true },
        { "no offsets", 0xe, false, false, PAIR_KHZ, true },
};

static void by_value(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(value_cases); i++) {
                const struct value_case *c = &value_cases[i];
                struct pair *p = pair_new(2);
                struct err e = { 0 };

                p->to.clock_passed_ns = 1000000000;
                p->to.clock_flags = c->clock_flags;
                p->to.kvm.has_tsc_offset = c->has_tsc_offset;
                p->to.kvm.has_tsc_control = c->has_tsc_control;
                p->to.host_khz = c->host_khz;
                CU_ASSERT(pair_load(p, &e) == 0);
                /* the greatest of 5000 and 5001 for both, plus a second */
                for (unsigned k = 0; k < 2; k++)
                        CU_ASSERT(p->to.tsc_written[k] == (c->by_value ? 2000005001 : 0));
                CU_ASSERT((fake_first(&p->to, 0, KVM_SET_DEVICE_ATTR) < 0) == c->by_value);
                /* again and last, since a TSC write may move what KVM computes it from */
                CU_ASSERT((fake_last(&p->to, FAKE_VM, KVM_SET_CLOCK) ==
                           (int)p->to.ncalls - 1) == c->by_value);
                pair_free(p);
        }
}

/* KVM without KVM_CLOCK_REALTIME: the wall clock goes on all the same. */
static void wall_clock_by_hand(void)
{
        struct pair *p = pair_new(1);
        struct json_object *clock;
        struct err e = { 0 };

        p->to.adjust_clock = KVM_CLOCK_TSC_STABLE;
        p->to.clock_flags = 0;
        json_object_object_get_ex(p->saved.json, "clock", &clock);
        json_object_object_add(clock, "realtime", json_object_new_uint64(1000));
        CU_ASSERT(pair_load(p, &e) == 0);
        /* from 1 us past the epoch to now: decades */
        CU_ASSERT(p->to.m->clock.clock > 1500000000ull * 1000000000);
        pair_free(p);
}

struct rate_case {
        uint32_t here_khz;
        bool scaling, refuses;
        int rc;
        bool asked;                     /* KVM_SET_TSC_KHZ */
};

static const struct rate_case rate_cases[] = {
        { PAIR_KHZ, false, false, 0, false },
        { PAIR_KHZ + 500, false, false, 0, true },           /* 250 ppm */
        { PAIR_KHZ + 499, false, true, 0, true },            /* close: refusal is no matter */
        { PAIR_KHZ + 600, false, false, -ENOTSUP, false },
        { PAIR_KHZ / 2, false, false, -ENOTSUP, false },
        { PAIR_KHZ / 2, true, false, 0, true },
        { PAIR_KHZ / 2, true, true, -EINVAL, true },
        { 0, false, false, -ENOTSUP, false },
};

static void tsc_rates(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rate_cases); i++) {
                const struct rate_case *c = &rate_cases[i];
                struct pair *p = pair_new(1);
                struct err e = { 0 };

                p->to.m->vcpu[0].tsc.khz = c->here_khz;
                p->to.kvm.has_tsc_control = c->scaling;
                p->to.refused_request = c->refuses ? KVM_SET_TSC_KHZ : 0;
                CU_ASSERT(pair_load(p, &e) == c->rc);
                CU_ASSERT((fake_first(&p->to, 0, KVM_SET_TSC_KHZ) >= 0) == c->asked);
                if (c->rc < 0)
                        CU_ASSERT(strstr(e.text, "kHz") != NULL);
                pair_free(p);
        }
}

static const CU_TestInfo cases[] = {
        { "TSC by offset: one number for all vCPUs", by_offset },
        { "many of one state have one time", many_of_one_state },
        { "unequal offsets stay apart", unequal_offsets_stay_apart },
        { "TSC by value where offsets do not do", by_value },
        { "the wall clock without KVM's help", wall_clock_by_hand },
        { "TSC rates", tsc_rates },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("state-clock", cases);
}
