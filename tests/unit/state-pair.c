/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/state-pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/state-sample.h"

struct machine_state *pair_plausible(unsigned cpus, uint64_t seed)
{
        struct machine_state *m = sample_state(cpus, seed);

        for (unsigned i = 0; i < cpus; i++) {
                struct state_vcpu *v = &m->vcpu[i];

                v->tsc = (struct state_tsc){ .khz = PAIR_KHZ, .has_offset = 1, .offset = 777 };
                v->shadow_stack = (struct state_shadow_stack){ 0 };
                for (uint32_t k = 0; k < v->cpuid.nent; k++)
                        v->cpuid.entries[k].ecx &= ~(1u << 7);
                v->xsave_bytes = sizeof(struct kvm_xsave);
                memset(v->xsave + v->xsave_bytes, 0, sizeof(v->xsave) - v->xsave_bytes);
                v->msrs.entries[0] = (struct kvm_msr_entry){ .index = MSR_TSC, .data = 5000 + i };
                v->msrs.entries[1].index = MSR_TSC_DEADLINE;
                v->msrs.entries[1].data = 123456;
        }
        m->clock.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
        m->clock.clock = 1000000000;
        return m;
}

struct machine_state *pair_fresh(const struct machine_state *like)
{
        struct machine_state *m = calloc(1, sizeof(*m));

        ASSERT(m != NULL);
        m->cpus = like->cpus;
        for (unsigned i = 0; i < m->cpus; i++) {
                m->vcpu[i].tsc.khz = PAIR_KHZ;
                m->vcpu[i].msrs = like->vcpu[i].msrs;
                for (uint32_t k = 0; k < m->vcpu[i].msrs.nmsrs; k++)
                        m->vcpu[i].msrs.entries[k].data = 0;
        }
        return m;
}

struct pair_saved pair_save(struct fake *f)
{
        struct pair_saved s = { 0 };
        struct err e = { 0 };

        if (state_save(&f->kvm, &s.json, &s.blob, &e) < 0)
                fprintf(stderr, "save: %s\n", e.text);
        return s;
}

void pair_saved_fini(struct pair_saved *s)
{
        json_object_put(s->json);
        state_blob_fini(&s->blob);
}

struct pair *pair_new(unsigned cpus)
{
        struct pair *p = calloc(1, sizeof(*p));

        ASSERT(p != NULL);
        fake_init(&p->from, pair_plausible(cpus, 40 + cpus));
        p->from.host_tsc = 900000;
        p->saved = pair_save(&p->from);
        fake_init(&p->to, pair_fresh(p->from.m));
        return p;
}

void pair_free(struct pair *p)
{
        fake_fini(&p->from);
        fake_fini(&p->to);
        pair_saved_fini(&p->saved);
        free(p);
}

int pair_load(struct pair *p, struct err *e)
{
        return state_load(&p->to.kvm, p->saved.json, &p->saved.blob, e);
}
