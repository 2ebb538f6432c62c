/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu-compat.h"

#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/cpuid.h"

/* A sentence has room for so many names; JSON has all. */
#define NAMES_MAX 8

/* as far as a guest does not notice, and KVM does not scale */
#define TSC_TOLERANCE_PPM 250

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid_entry2 *leaves, unsigned n,
                                           uint32_t function, uint32_t index)
{
        for (unsigned i = 0; i < n; i++) {
                if (leaves[i].function == function && leaves[i].index == index)
                        return &leaves[i];
        }
        return NULL;
}

static uint32_t register_of(const struct kvm_cpuid_entry2 *l, enum cpu_register reg)
{
        const uint32_t v[] = { [CPU_EAX] = l->eax, [CPU_EBX] = l->ebx, [CPU_ECX] = l->ecx,
                               [CPU_EDX] = l->edx };

        return v[reg];
}

/* Whoever reads it later prints it: an image's may hold anything. */
static void read_vendor(const struct kvm_cpuid_entry2 *l, char ret[13])
{
        memcpy(ret, &l->ebx, 4);
        memcpy(ret + 4, &l->edx, 4);
        memcpy(ret + 8, &l->ecx, 4);
        ret[12] = '\0';
        for (unsigned i = 0; i < 12; i++) {
                if (ret[i] < ' ' || ret[i] > '~')
                        ret[i] = '?';
        }
}

void cpu_model_read(const struct kvm_cpuid_entry2 *leaves, unsigned n, uint32_t tsc_khz,
                    struct cpu_model *ret)
{
        struct cpu_model m = { .tsc_khz = tsc_khz };
        const struct kvm_cpuid_entry2 *l = find(leaves, n, 0, 0);

        if (l)
                read_vendor(l, m.vendor);
        l = find(leaves, n, 0xd, 0);
        if (l)
                m.xsave_bytes = l->ecx;
        for (unsigned i = 0; i < CPU_WORDS; i++) {
                l = find(leaves, n, cpu_word[i].function, cpu_word[i].index);
                if (l)
                        m.word[i] = register_of(l, cpu_word[i].reg) & ~cpu_word[i].ignored;
        }
        *ret = m;
}

/* ---- what there is here ---------------------------------------------------------- */

/* cpu_word[0] is ECX of leaf 1, which begins with it. */
static bool has_sse3(const struct cpu_model *m)
{
        return m->word[0] & 1;
}

/* What the CPU itself says, but for what a hypervisor says of itself. */
static void read_own(struct cpu_model *ret)
{
        struct kvm_cpuid_entry2 leaves[CPU_WORDS] = { 0 };

        for (unsigned i = 0; i < CPU_WORDS; i++) {
                struct kvm_cpuid_entry2 *l = &leaves[i];

                l->function = cpu_word[i].function;
                l->index = cpu_word[i].index;
                if (l->function >> 28 != 4)
                        (void)__get_cpuid_count(l->function, l->index, &l->eax, &l->ebx, &l->ecx,
                                                &l->edx);
        }
        cpu_model_read(leaves, CPU_WORDS, 0, ret);
}

/* KVM lists what its guests may use. One that leaves out what every CPU of 64 bits has had
 * for twenty years lets them use more than that: it runs them on the CPU as it is. */
void cpu_model_believe(struct cpu_model *listed, const struct cpu_model *own)
{
        if (has_sse3(listed) || !has_sse3(own))
                return;
        for (unsigned i = 0; i < CPU_WORDS; i++)
                listed->word[i] |= own->word[i];
}

int cpu_model_here(struct kvm *kvm, struct cpu_model *ret, struct err *e)
{
        AUTO_FREE struct kvm_cpuid2 *table = NULL;
        int khz = kvm_call(kvm, kvm->vm_fd, KVM_GET_TSC_KHZ, NULL);
        struct cpu_model own;
        int rc = cpuid_of_new(kvm, &table, e);

        if (rc < 0)
                return rc;
        cpu_model_read(table->entries, table->nent, khz > 0 ? (uint32_t)khz : 0, ret);
        if (!has_sse3(ret)) {
                read_own(&own);
                cpu_model_believe(ret, &own);
        }
        return 0;
}

/* ---- what the host lacks ------------------------------------------------------ */

/* The names one after the other; false: that was the last one. */
struct missing {
        const struct cpu_model *guest, *here;
        unsigned word, bit;
};

static bool next_missing(struct missing *m, char name[CPU_NAME_BYTES])
{
        for (; m->word < CPU_WORDS; m->word++, m->bit = 0) {
                uint32_t lacks = m->guest->word[m->word] & ~m->here->word[m->word];

                for (; m->bit < 32; m->bit++) {
                        if (lacks & 1u << m->bit) {
                                cpu_bit_name(m->word, m->bit++, name);
                                return true;
                        }
                }
        }
        return false;
}

static bool is_other_vendor(const struct cpu_model *guest, const struct cpu_model *here)
{
        return guest->vendor[0] && here->vendor[0] && strcmp(guest->vendor, here->vendor) != 0;
}

static bool is_larger_xsave(const struct cpu_model *guest, const struct cpu_model *here)
{
        return guest->xsave_bytes > here->xsave_bytes && here->xsave_bytes;
}

static bool is_other_rate(const struct cpu_model *guest, const struct cpu_model *here)
{
        uint64_t a = guest->tsc_khz, b = here->tsc_khz, diff = a > b ? a - b : b - a;

        return a && b && diff * 1000000 > b * TSC_TOLERANCE_PPM;
}

static struct json_object *pair(struct json_object *all, const char *key)
{
        struct json_object *o = json_object_new_object();

        json_object_object_add(all, key, o);
        return o;
}

static void put_numbers(struct json_object *all, const char *key, uint32_t saved, uint32_t here)
{
        struct json_object *o = pair(all, key);

        json_put_u64(o, "saved", saved);
        json_put_u64(o, "here", here);
}

struct json_object *cpu_compat_describe(const struct cpu_model *guest,
                                        const struct cpu_model *here)
{
        AUTO_JSON *all = json_object_new_object();
        struct json_object *names = NULL;
        struct missing missing = { guest, here, 0, 0 };
        char name[CPU_NAME_BYTES];

        while (next_missing(&missing, name)) {
                if (!names) {
                        names = json_object_new_array();
                        json_object_object_add(all, "missing", names);
                }
                json_object_array_add(names, json_object_new_string(name));
        }
        if (is_other_vendor(guest, here)) {
                struct json_object *o = pair(all, "vendor");

                json_put_str(o, "saved", guest->vendor);
                json_put_str(o, "here", here->vendor);
        }
        if (is_larger_xsave(guest, here))
                put_numbers(all, "xsave_bytes", guest->xsave_bytes, here->xsave_bytes);
        if (is_other_rate(guest, here))
                put_numbers(all, "tsc_khz", guest->tsc_khz, here->tsc_khz);
        return json_object_object_length(all) ? ptr_take(&all) : NULL;
}

/* ---- the same as a sentence ------------------------------------------------------ */

#define LIST_BYTES (NAMES_MAX * CPU_NAME_BYTES + 160)

static void add(char list[LIST_BYTES], const char *what)
{
        size_t at = strlen(list);

        snprintf(list + at, LIST_BYTES - at, "%s%s", at ? ", " : "", what);
}

/* "" = it lacks nothing */
static void list_missing(const struct cpu_model *guest, const struct cpu_model *here,
                         char list[LIST_BYTES])
{
        struct missing missing = { guest, here, 0, 0 };
        char text[64];
        unsigned names = 0;

        static_assert(sizeof(text) >= CPU_NAME_BYTES, "a name fits");
        list[0] = '\0';
        while (next_missing(&missing, text)) {
                if (names++ < NAMES_MAX)
                        add(list, text);
        }
        if (names > NAMES_MAX) {
                snprintf(text, sizeof(text), "%u more", names - NAMES_MAX);
                add(list, text);
        }
        if (is_other_vendor(guest, here)) {
                snprintf(text, sizeof(text), "being a %s CPU", guest->vendor);
                add(list, text);
        }
        if (is_larger_xsave(guest, here)) {
                snprintf(text, sizeof(text), "an XSAVE area of %u bytes (has %u)",
                         guest->xsave_bytes, here->xsave_bytes);
                add(list, text);
        }
}

int cpu_compat_explain(struct kvm *kvm, const struct cpu_model *guest, int rc, struct err *e)
{
        char list[LIST_BYTES];
        struct cpu_model here;
        struct err was;

        if (!e || (rc != -EINVAL && rc != -ENOTSUP && rc != -E2BIG) ||
            cpu_model_here(kvm, &here, NULL) < 0)
                return rc;
        list_missing(guest, &here, list);
        if (!list[0])
                return rc;
        was = *e;
        return err_msg(e, -rc, "%.*s; of the CPU that the guest was saved on this host lacks: %s: "
                       "revert it on a host that has all of it", (int)sizeof(was.text) / 3,
                       was.text, list);
}
