/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/state-sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"

uint64_t sample_random(uint64_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        return *seed;
}

static void fill_sections(const struct state_section *s, size_t n, void *base, uint64_t *seed)
{
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < s[i].table->nfields; k++) {
                        const struct state_field *f = &s[i].table->fields[k];

                        for (unsigned j = 0; j < f->count; j++)
                                state_field_set(f, (uint8_t *)base + s[i].offset, j,
                                                sample_random(seed) >> (64 - 8 * f->bytes));
                }
}

static void fill_vcpu(struct state_vcpu *v, uint64_t *seed)
{
        fill_sections(state_vcpu_sections, state_vcpu_nsections, v, seed);
        v->cpuid.nent = SAMPLE_CPUIDS;
        for (unsigned i = 0; i < SAMPLE_CPUIDS; i++)
                v->cpuid.entries[i] = (struct kvm_cpuid_entry2){
                        .function = i / 2, .index = i % 2, .flags = i % 2,
                        .eax = (uint32_t)sample_random(seed),
                        .ebx = (uint32_t)sample_random(seed),
                        .ecx = (uint32_t)sample_random(seed),
                        .edx = (uint32_t)sample_random(seed),
                };
        v->msrs.nmsrs = SAMPLE_MSRS;
        for (unsigned i = 0; i < SAMPLE_MSRS; i++)
                v->msrs.entries[i] = (struct kvm_msr_entry){
                        .index = 0xc0000080 + i, .data = sample_random(seed),
                };
        v->xsave_bytes = sizeof(struct kvm_xsave) + 64;
        for (size_t i = 0; i < v->xsave_bytes; i++)
                v->xsave[i] = (uint8_t)sample_random(seed);
        for (size_t i = 0; i < sizeof(v->lapic.regs); i++)
                v->lapic.regs[i] = (char)sample_random(seed);
}

struct machine_state *sample_state(unsigned cpus, uint64_t seed)
{
        struct machine_state *m = calloc(1, sizeof(*m));

        ASSERT(m != NULL);
        fill_sections(state_vm_sections, state_vm_nsections, m, &seed);
        m->cpus = cpus;
        for (unsigned i = 0; i < cpus; i++)
                fill_vcpu(&m->vcpu[i], &seed);
        return m;
}

struct json_object *sample_reparse(struct json_object *o)
{
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        struct json_object *again = NULL;
        struct err e;

        if (json_parse(text, strlen(text), &again, &e) < 0)
                fprintf(stderr, "reparse: %s\n", e.text);
        ASSERT(again != NULL);
        return again;
}
