/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: comparing finds each single changed field and names it, and nothing
 *       else; what is expected to differ is let through, and only that.
 * Method: change one number of a copy, for every number there is. No KVM. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/state-sample.h"
#include "tests/unit/suite.h"

struct found {
        unsigned n;
        char field[128];                /* the last one */
        char was[32], is[32];
};

static void note(void *ctx, const char *field, const char *was, const char *is)
{
        struct found *f = ctx;

        f->n++;
        snprintf(f->field, sizeof(f->field), "%s", field);
        snprintf(f->was, sizeof(f->was), "%s", was);
        snprintf(f->is, sizeof(f->is), "%s", is);
}

static struct found compare(const struct machine_state *a, const struct machine_state *b)
{
        struct found f = { 0 };

        state_compare_machines(a, b, note, &f);
        return f;
}

/* section and key without the vCPU: what the table of expected ones has */
static void check_named(const struct machine_state *a, const struct machine_state *b,
                        const char *section, const char *key, const char *path, uint64_t changed)
{
        uint64_t mask = 0;
        bool let_through = state_expected_to_differ(section, key, &mask) && !(changed & ~mask);
        struct found f = compare(a, b);

        CU_ASSERT(f.n == (let_through ? 0 : 1));
        if (!let_through && strcmp(f.field, path) != 0) {
                fprintf(stderr, "found '%s' for '%s'\n", f.field, path);
                CU_FAIL("another field is named");
        }
}

static void change_each(const struct machine_state *a, struct machine_state *b,
                        const struct state_section *s, void *base, const char *where)
{
        for (size_t k = 0; k < s->table->nfields; k++) {
                const struct state_field *f = &s->table->fields[k];

                for (unsigned j = 0; j < f->count; j++) {
                        uint8_t *at = (uint8_t *)base + s->offset;
                        uint64_t was = state_field_get(f, at, j);
                        uint64_t flip = 1ull << (8 * f->bytes - 1);
                        char path[128], item[16] = "";

                        if (f->count > 1)
                                snprintf(item, sizeof(item), "[%u]", j);
                        snprintf(path, sizeof(path), "%s%s.%s%s", where, s->table->name, f->name,
                                 item);
                        state_field_set(f, at, j, was ^ flip);
                        check_named(a, b, s->table->name, f->name, path, flip);
                        state_field_set(f, at, j, was);
                }
        }
}

static void each_table_field(void)
{
        AUTO_FREE struct machine_state *a = sample_state(2, 7);
        AUTO_FREE struct machine_state *b = sample_state(2, 7);

        CU_ASSERT(compare(a, b).n == 0);
        for (size_t i = 0; i < state_vm_nsections; i++)
                change_each(a, b, &state_vm_sections[i], b, "");
        for (size_t i = 0; i < state_vcpu_nsections; i++)
                change_each(a, b, &state_vcpu_sections[i], &b->vcpu[1], "vcpu1.");
        CU_ASSERT(compare(a, b).n == 0);
}

static void each_cpuid_number(void)
{
        AUTO_FREE struct machine_state *a = sample_state(1, 8);
        AUTO_FREE struct machine_state *b = sample_state(1, 8);

        for (unsigned i = 0; i < SAMPLE_CPUIDS; i++)
                for (size_t k = 0; k < state_cpuid_row.nfields; k++) {
                        const struct state_field *f = &state_cpuid_row.fields[k];
                        struct kvm_cpuid_entry2 *l = &b->vcpu[0].cpuid.entries[i];
                        uint64_t was = state_field_get(f, l, 0);
                        char key[64], path[128];

                        snprintf(key, sizeof(key), "0x%x.0x%x.%s", l->function, l->index, f->name);
                        snprintf(path, sizeof(path), "vcpu0.cpuid.%s", key);
                        state_field_set(f, l, 0, was ^ 1u << 31);
                        check_named(a, b, "cpuid", key, path, 1u << 31);
                        state_field_set(f, l, 0, was);
                }
        b->vcpu[0].cpuid.nent--;
        CU_ASSERT(strcmp(compare(a, b).field, "vcpu0.cpuid.entries") == 0);
}

static void each_msr(void)
{
        AUTO_FREE struct machine_state *a = sample_state(1, 9);
        AUTO_FREE struct machine_state *b = sample_state(1, 9);
        struct state_msrs *msrs = &b->vcpu[0].msrs;

        for (unsigned i = 0; i < SAMPLE_MSRS; i++) {
                char key[32], path[64];

                snprintf(key, sizeof(key), "0x%x", msrs->entries[i].index);
                snprintf(path, sizeof(path), "vcpu0.msrs.%s", key);
                msrs->entries[i].data ^= 1ull << 63;
                check_named(a, b, "msrs", key, path, 1ull << 63);
                msrs->entries[i].data ^= 1ull << 63;
        }

        /* another order is no difference, a missing or additional one is */
        struct kvm_msr_entry first = msrs->entries[0];

        msrs->entries[0] = msrs->entries[SAMPLE_MSRS - 1];
        msrs->entries[SAMPLE_MSRS - 1] = first;
        CU_ASSERT(compare(a, b).n == 0);
        msrs->nmsrs--;

        struct found f = compare(a, b);

        CU_ASSERT(f.n == 1 && strcmp(f.field, "vcpu0.msrs.0xc0000080") == 0);
        CU_ASSERT(strcmp(f.is, "absent") == 0);
        f = compare(b, a);
        CU_ASSERT(f.n == 1 && strcmp(f.field, "vcpu0.msrs.0xc0000080") == 0);
        CU_ASSERT(strcmp(f.was, "absent") == 0);
}

static void each_word_of_pages(void)
{
        AUTO_FREE struct machine_state *a = sample_state(1, 10);
        AUTO_FREE struct machine_state *b = sample_state(1, 10);
        struct state_vcpu *v = &b->vcpu[0];
        char key[32], path[64];

        for (size_t at = 0; at < sizeof(v->lapic.regs); at++) {
                snprintf(key, sizeof(key), "0x%zx", at & ~(size_t)3);
                snprintf(path, sizeof(path), "vcpu0.lapic.%s", key);
                v->lapic.regs[at] ^= 0x40;
                check_named(a, b, "lapic", key, path, 0x40ull << at % 4 * 8);
                v->lapic.regs[at] ^= 0x40;
        }
        for (size_t at = 0; at < v->xsave_bytes; at++) {
                snprintf(key, sizeof(key), "0x%zx", at & ~(size_t)3);
                snprintf(path, sizeof(path), "vcpu0.xsave.%s", key);
                v->xsave[at] ^= 0x40;
                check_named(a, b, "xsave", key, path, 0x40ull << at % 4 * 8);
                v->xsave[at] ^= 0x40;
        }
}

struct expect_case {
        uint32_t index;
        uint64_t was, is;
        unsigned differences;
};

static const struct expect_case msr_cases[] = {
        { 0x175, 0xfffffe0000003000, 0x3000, 0 },
        { 0x175, 0xfffffe0000003000, 0x3008, 1 },
        { 0x176, 1ull << 32, 0, 0 },
        { 0x176, 1, 0, 1 },
        { 0x174, 1ull << 32, 0, 1 },
        { 0x6e0, 0, 1, 0 },
        { 0x6e0, 0, 2, 1 },
        { 0x3b, 0, 1, 1 },
};

static void only_the_expected_passes(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(msr_cases); i++) {
                AUTO_FREE struct machine_state *a = sample_state(1, 11);
                AUTO_FREE struct machine_state *b = sample_state(1, 11);

                a->vcpu[0].msrs.entries[3] =
                        (struct kvm_msr_entry){ .index = msr_cases[i].index,
                                                .data = msr_cases[i].was };
                b->vcpu[0].msrs.entries[3] = a->vcpu[0].msrs.entries[3];
                b->vcpu[0].msrs.entries[3].data = msr_cases[i].is;
                CU_ASSERT(compare(a, b).n == msr_cases[i].differences);
        }
}

/* The public door: documents in, names and values out. */
static void documents(void)
{
        AUTO_FREE struct machine_state *a = sample_state(1, 12);
        AUTO_FREE struct machine_state *b = sample_state(2, 12);
        AUTO_JSON *aj = NULL;
        AUTO_JSON *bj = NULL;
        struct state_blob ab = { 0 }, bb = { 0 };
        struct found f = { 0 };
        struct err e;

        b->vcpu[0].regs.rbx = 0xabc;
        a->vcpu[0].regs.rbx = 0xdef;
        CU_ASSERT_FATAL(state_encode(a, &aj, &ab, &e) == 0 && state_encode(b, &bj, &bb, &e) == 0);
        CU_ASSERT(state_compare(aj, &ab, bj, &bb, note, &f, &e) == 0);
        CU_ASSERT(f.n == 2 && strcmp(f.field, "vcpu0.regs.rbx") == 0);
        CU_ASSERT(strcmp(f.was, "0xdef") == 0 && strcmp(f.is, "0xabc") == 0);
        json_object_object_del(bj, "pit");
        CU_ASSERT(state_compare(aj, &ab, bj, &bb, note, &f, &e) < 0);
        CU_ASSERT(strstr(e.text, "second state") && strstr(e.text, "pit"));
        state_blob_fini(&ab);
        state_blob_fini(&bb);
}

static const CU_TestInfo cases[] = {
        { "each field of each table", each_table_field },
        { "each number of each CPUID leaf", each_cpuid_number },
        { "each MSR, by index", each_msr },
        { "each word of LAPIC and XSAVE", each_word_of_pages },
        { "only what is expected passes", only_the_expected_passes },
        { "documents are compared by content", documents },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("state-compare", cases);
}
