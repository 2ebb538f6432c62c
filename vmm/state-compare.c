/* SPDX-License-Identifier: Apache-2.0 */
/* Field by field comparison of two saved states, by the tables that save them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/state-priv.h"

#define ALL_BITS UINT64_MAX

/* What may differ between a state and the state read back after loading it. */
struct expected {
        const char *section;
        const char *key;                /* NULL: every one of the section */
        uint64_t bits;                  /* which may differ */
        const char *why;
};

static const struct expected expected[] = {
        { "clock", NULL, ALL_BITS, "time goes on" },
        { "tsc", "offset", ALL_BITS, "it continues the TSC from another instant" },
        { "tsc", "value", ALL_BITS, "the TSC goes on" },
        { "tsc", "has_offset", ALL_BITS, "depends on KVM, not on the guest" },
        { "tsc", "khz", ALL_BITS, "the host's own rate where KVM can not set it" },
        { "msrs", "0x175", 0xffffffff00000000, "kvm-amd keeps the low half of SYSENTER_ESP" },
        { "msrs", "0x176", 0xffffffff00000000, "kvm-amd keeps the low half of SYSENTER_EIP" },
        { "msrs", "0x6e0", 1, "a timer that may have fired unseen gets a spurious tick" },
        { "lapic", "0xa0", ALL_BITS, "KVM_SET_LAPIC computes the PPR anew" },
        { "lapic", "0x390", ALL_BITS, "the timer's current count runs on" },
        { "pit", "channels.count_load_time", ALL_BITS, "host time; setting restarts the period" },
        { "cpuid", "0x1.0x0.ecx", 1u << 27, "KVM derives OSXSAVE from CR4" },
        { "cpuid", "0x7.0x0.ecx", 1u << 4, "KVM derives OSPKE from CR4" },
};

const char *state_expected_to_differ(const char *section, const char *key, uint64_t *ret_mask)
{
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                const struct expected *x = &expected[i];

                if (strcmp(x->section, section) == 0 && (!x->key || strcmp(x->key, key) == 0)) {
                        *ret_mask = x->bits;
                        return x->why;
                }
        }
        return NULL;
}

struct compare {
        char where[16];                 /* "" or "vcpu0." */
        state_diff_fn *diff;
        void *ctx;
};

#define KEY_MAX 64
#define NUMBER_MAX 24

static const char *hex(char *buf, uint64_t v)
{
        snprintf(buf, NUMBER_MAX, "0x%" PRIx64, v);
        return buf;
}

/* item: -1 for what is not an array */
static void number_compare(struct compare *c, const char *section, const char *key, int item,
                           uint64_t was, uint64_t is)
{
        uint64_t may_differ = 0;

        if (was == is)
                return;
        if (state_expected_to_differ(section, key, &may_differ) && !((was ^ is) & ~may_differ))
                return;

        char field[2 * KEY_MAX], index[16] = "", a[NUMBER_MAX], b[NUMBER_MAX];

        if (item >= 0)
                snprintf(index, sizeof(index), "[%d]", item);
        snprintf(field, sizeof(field), "%s%s.%s%s", c->where, section, key, index);
        c->diff(c->ctx, field, hex(a, was), hex(b, is));
}

static void sections_compare(struct compare *c, const struct state_section *s, size_t n,
                             const void *a, const void *b)
{
        for (size_t i = 0; i < n; i++) {
                const struct state_table *t = s[i].table;
                const uint8_t *was = (const uint8_t *)a + s[i].offset;
                const uint8_t *is = (const uint8_t *)b + s[i].offset;

                for (size_t k = 0; k < t->nfields; k++) {
                        const struct state_field *f = &t->fields[k];

                        for (unsigned j = 0; j < f->count; j++)
                                number_compare(c, t->name, f->name, f->count > 1 ? (int)j : -1,
                                               state_field_get(f, was, j),
                                               state_field_get(f, is, j));
                }
        }
}

/* Key by leaf: "0x7.0x0.ecx". The order of leaves is the one that was set. */
static void cpuid_compare(struct compare *c, const struct state_cpuid *a,
                          const struct state_cpuid *b)
{
        const struct state_table *t = &state_cpuid_row;

        number_compare(c, t->name, "entries", -1, a->nent, b->nent);
        for (uint32_t i = 0; i < MIN(a->nent, b->nent); i++) {
                for (size_t k = 0; k < t->nfields; k++) {
                        const struct state_field *f = &t->fields[k];
                        char key[KEY_MAX];

                        snprintf(key, sizeof(key), "0x%x.0x%x.%s", a->entries[i].function,
                                 a->entries[i].index, f->name);
                        number_compare(c, t->name, key, -1, state_field_get(f, &a->entries[i], 0),
                                       state_field_get(f, &b->entries[i], 0));
                }
        }
}

static const struct kvm_msr_entry *msr_find(const struct state_msrs *msrs, uint32_t index,
                                            uint32_t guess)
{
        if (guess < msrs->nmsrs && msrs->entries[guess].index == index)
                return &msrs->entries[guess];
        for (uint32_t i = 0; i < msrs->nmsrs; i++)
                if (msrs->entries[i].index == index)
                        return &msrs->entries[i];
        return NULL;
}

/* By index: another KVM lists them in another order. */
static void msrs_compare(struct compare *c, const struct state_msrs *a,
                         const struct state_msrs *b)
{
        char key[KEY_MAX], field[2 * KEY_MAX], v[NUMBER_MAX];

        for (uint32_t i = 0; i < a->nmsrs; i++) {
                const struct kvm_msr_entry *m = &a->entries[i];
                const struct kvm_msr_entry *is = msr_find(b, m->index, i);

                snprintf(key, sizeof(key), "0x%x", m->index);
                if (is) {
                        number_compare(c, state_msr_row.name, key, -1, m->data, is->data);
                        continue;
                }
                snprintf(field, sizeof(field), "%smsrs.%s", c->where, key);
                c->diff(c->ctx, field, hex(v, m->data), "absent");
        }
        for (uint32_t i = 0; i < b->nmsrs; i++) {
                if (msr_find(a, b->entries[i].index, i))
                        continue;
                snprintf(field, sizeof(field), "%smsrs.0x%x", c->where, b->entries[i].index);
                c->diff(c->ctx, field, "absent", hex(v, b->entries[i].data));
        }
}

/* In words of 32 bits, which is what LAPIC registers are. */
static void words_compare(struct compare *c, const char *section, const void *a, const void *b,
                          size_t bytes)
{
        for (size_t at = 0; at + sizeof(uint32_t) <= bytes; at += sizeof(uint32_t)) {
                uint32_t was, is;
                char key[KEY_MAX];

                memcpy(&was, (const uint8_t *)a + at, sizeof(was));
                memcpy(&is, (const uint8_t *)b + at, sizeof(is));
                if (was == is)
                        continue;
                snprintf(key, sizeof(key), "0x%zx", at);
                number_compare(c, section, key, -1, was, is);
        }
}

static void vcpu_compare(struct compare *c, const struct state_vcpu *a,
                         const struct state_vcpu *b)
{
        sections_compare(c, state_vcpu_sections, state_vcpu_nsections, a, b);
        cpuid_compare(c, &a->cpuid, &b->cpuid);
        msrs_compare(c, &a->msrs, &b->msrs);
        words_compare(c, "lapic", &a->lapic, &b->lapic, sizeof(a->lapic));
        /* zero behind the shorter one: a host with a bigger area is no difference */
        words_compare(c, "xsave", a->xsave, b->xsave, sizeof(a->xsave));
}

void state_compare_machines(const struct machine_state *a, const struct machine_state *b,
                            state_diff_fn *diff, void *ctx)
{
        struct compare c = { .diff = diff, .ctx = ctx };

        sections_compare(&c, state_vm_sections, state_vm_nsections, a, b);
        number_compare(&c, "vcpus", "count", -1, a->cpus, b->cpus);
        for (unsigned i = 0; i < MIN(a->cpus, b->cpus); i++) {
                snprintf(c.where, sizeof(c.where), "vcpu%u.", i);
                vcpu_compare(&c, &a->vcpu[i], &b->vcpu[i]);
        }
}

int state_compare(struct json_object *a, const struct state_blob *a_blob,
                  struct json_object *b, const struct state_blob *b_blob,
                  state_diff_fn *diff, void *ctx, struct err *e)
{
        AUTO_FREE struct machine_state *was = NULL;
        AUTO_FREE struct machine_state *is = NULL;
        int rc = state_decode(a, a_blob, &was, e);

        if (rc < 0)
                return err_in(e, rc, "first state");
        rc = state_decode(b, b_blob, &is, e);
        if (rc < 0)
                return err_in(e, rc, "second state");
        state_compare_machines(was, is, diff, ctx);
        return 0;
}
