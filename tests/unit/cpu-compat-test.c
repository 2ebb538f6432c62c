/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a saved guest was shown of its CPU and this host lacks has a name, in JSON and in
 *   the sentence of a revert that KVM refuses; what only looks different is not named.
 * Method: CPUID tables by hand; a KVM of memory (state-fake.h) that offers less than the saved
 *   state has. */
#include "vmm/cpu-compat.h"

#include <errno.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/state-pair.h"
#include "tests/unit/suite.h"

#define SET(array) array, ARRAY_SIZE(array)

/* A small modern CPU. */
static const struct kvm_cpuid_entry2 plain[] = {
        { .function = 0, .eax = 0x16, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e },
        { .function = 1, .ecx = 1u << 0 | 1u << 26, .edx = 1u << 25 | 1u << 26 },
        { .function = 7, .index = 0, .ebx = 1u << 3 },
        { .function = 0xd, .index = 0, .eax = 7, .ecx = 832 },
};

static struct cpu_model model(const struct kvm_cpuid_entry2 *leaves, unsigned n)
{
        struct cpu_model m;

        cpu_model_read(leaves, n, 2000000, &m);
        return m;
}

static void the_same_is_nothing(void)
{
        struct cpu_model a = model(SET(plain)), none = model(NULL, 0);

        CU_ASSERT_STRING_EQUAL(a.vendor, "GenuineIntel");
        CU_ASSERT_PTR_NULL(cpu_compat_describe(&a, &a));
        /* a host that has more */
        CU_ASSERT_PTR_NULL(cpu_compat_describe(&none, &a));
}

/* ---- names --------------------------------------------------------------------- */

struct bit_case {
        uint32_t function, index;
        enum cpu_register reg;
        unsigned bit;
        const char *name;               /* NULL: not a difference */
};

static const struct bit_case bit_cases[] = {
        { 1, 0, CPU_ECX, 12, "fma" },
        { 1, 0, CPU_ECX, 25, "aes" },
        { 1, 0, CPU_ECX, 28, "avx" },
        { 1, 0, CPU_ECX, 30, "rdrand" },
        { 1, 0, CPU_ECX, 27, NULL },                    /* OSXSAVE: as the guest set CR4 */
        { 1, 0, CPU_ECX, 3, NULL },
        { 1, 0, CPU_EDX, 28, NULL },                    /* HTT: the number of vCPUs */
        { 1, 0, CPU_EDX, 9, NULL },
        { 6, 0, CPU_EAX, 2, "arat" },
        { 6, 0, CPU_EAX, 0, NULL },
        { 7, 0, CPU_EBX, 5, "avx2" },
        { 7, 0, CPU_EBX, 16, "avx512f" },
        { 7, 0, CPU_EBX, 29, "sha_ni" },
        { 7, 0, CPU_EBX, 31, "avx512vl" },
        { 7, 0, CPU_EBX, 13, NULL },                    /* set where something is missing */
        { 7, 0, CPU_ECX, 4, NULL },                     /* OSPKE */
        { 7, 0, CPU_ECX, 8, "gfni" },
        { 7, 0, CPU_ECX, 16, "la57" },
        { 7, 0, CPU_ECX, 18, NULL },                    /* of a number, MAWAU */
        { 7, 0, CPU_ECX, 22, "rdpid" },
        { 7, 0, CPU_ECX, 31, "pks" },
        { 7, 0, CPU_EDX, 4, "fsrm" },
        { 7, 0, CPU_EDX, 17, "cpuid_7_0_edx_17" },
        { 7, 0, CPU_EDX, 24, "amx_tile" },
        { 7, 0, CPU_EDX, 31, "ssbd" },
        { 7, 1, CPU_EAX, 4, "avx_vnni" },
        { 7, 1, CPU_EAX, 27, "msrlist" },
        { 0xd, 0, CPU_EAX, 7, "xstate_hi16_zmm" },
        { 0xd, 0, CPU_EAX, 18, "xstate_tiledata" },
        { 0xd, 1, CPU_EAX, 3, "xsaves" },
        { 0x80000001, 0, CPU_ECX, 6, "sse4a" },
        { 0x80000001, 0, CPU_ECX, 29, "mwaitx" },
        { 0x80000001, 0, CPU_EDX, 27, "rdtscp" },
        { 0x80000001, 0, CPU_EDX, 31, "3dnow" },
        { 0x80000001, 0, CPU_EDX, 23, NULL },           /* that of leaf 1 again */
        { 0x80000007, 0, CPU_EDX, 8, "nonstop_tsc" },
        { 0x80000007, 0, CPU_EDX, 9, NULL },
        { 0x80000008, 0, CPU_EBX, 30, "ibpb_ret" },
        { 0x80000021, 0, CPU_EAX, 29, "srso_no" },
        { 0x40000001, 0, CPU_EAX, 5, "kvm_steal_time" },
        { 0x40000001, 0, CPU_EAX, 24, "kvmclock_stable" },
        { 0x40000001, 0, CPU_EAX, 7, NULL },            /* KVM clears it with MWAIT */
        { 1, 0, CPU_EAX, 5, NULL },                     /* which model it is */
        { 7, 3, CPU_EAX, 5, NULL },
};

static void each_bit_by_its_name(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(bit_cases); i++) {
                const struct bit_case *c = &bit_cases[i];
                struct kvm_cpuid_entry2 l = { .function = c->function, .index = c->index };
                struct cpu_model guest, here = model(NULL, 0);

                (c->reg == CPU_EAX ? &l.eax : c->reg == CPU_EBX ? &l.ebx :
                 c->reg == CPU_ECX ? &l.ecx : &l.edx)[0] = 1u << c->bit;
                guest = model(&l, 1);

                AUTO_JSON *o = cpu_compat_describe(&guest, &here);
                struct json_object *names;

                if (!c->name) {
                        CU_ASSERT_PTR_NULL(o);
                        continue;
                }
                CU_ASSERT_FATAL(json_take_array(o, "missing", 1, &names, NULL) == 0);
                CU_ASSERT_STRING_EQUAL(
                        json_object_get_string(json_object_array_get_idx(names, 0)), c->name);
        }
}

static void no_name_is_there_twice(void)
{
        char names[CPU_WORDS * 32][CPU_NAME_BYTES];
        unsigned n = 0;

        for (unsigned word = 0; word < CPU_WORDS; word++)
                for (unsigned bit = 0; bit < 32; bit++) {
                        cpu_bit_name(word, bit, names[n]);
                        for (unsigned k = 0; k < n; k++)
                                CU_ASSERT_STRING_NOT_EQUAL(names[k], names[n]);
                        n++;
                }
        CU_ASSERT_STRING_EQUAL(cpu_msr_name(0xda0), "IA32_XSS (xsaves)");
        CU_ASSERT_PTR_NULL(cpu_msr_name(0x38f));
}

static uint64_t number(struct json_object *o, const char *what, const char *key)
{
        struct json_object *pair;
        uint64_t v = 0;

        CU_ASSERT_FATAL(json_take_obj(o, what, &pair, NULL) == 0);
        CU_ASSERT(json_take_u64(pair, key, UINT64_MAX, &v, NULL) == 0);
        return v;
}

static void sizes_rates_and_vendors(void)
{
        struct cpu_model guest = model(SET(plain)), here = guest;

        guest.xsave_bytes = 2696;
        guest.tsc_khz = 2000600;                /* 300 ppm */
        strcpy(here.vendor, "AuthenticAMD");

        AUTO_JSON *o = cpu_compat_describe(&guest, &here);
        struct json_object *vendor;
        const char *name;

        CU_ASSERT_FALSE(json_object_object_get_ex(o, "missing", NULL));
        CU_ASSERT_EQUAL(number(o, "xsave_bytes", "saved"), 2696);
        CU_ASSERT_EQUAL(number(o, "xsave_bytes", "here"), 832);
        CU_ASSERT_EQUAL(number(o, "tsc_khz", "saved"), 2000600);
        CU_ASSERT_FATAL(json_take_obj(o, "vendor", &vendor, NULL) == 0);
        CU_ASSERT(json_take_str(vendor, "here", &name, NULL) == 0);
        CU_ASSERT_STRING_EQUAL(name, "AuthenticAMD");

        /* not worth a word: a larger area here, 250 ppm, what is not known */
        guest.xsave_bytes = 576;
        guest.tsc_khz = 2000500;
        guest.vendor[0] = '\0';
        CU_ASSERT_PTR_NULL(cpu_compat_describe(&guest, &here));
        guest.tsc_khz = 0;
        CU_ASSERT_PTR_NULL(cpu_compat_describe(&guest, &here));
}

/* What an image says is printed on terminals. */
static void a_vendor_is_text(void)
{
        static const struct kvm_cpuid_entry2 odd[] = {
                { .function = 0, .ebx = 0x1b0a0041, .edx = 0xffffffff, .ecx = 0x7f202042 },
        };
        struct cpu_model m = model(SET(odd));

        CU_ASSERT_STRING_EQUAL(m.vendor, "A" "???" "????" "B  ?");
}

/* A paravirtual KVM lists next to nothing; another one that lacks AVX-512 means it. */
static void who_lists_too_little_is_not_believed(void)
{
        struct kvm_cpuid_entry2 l[] = { plain[0], plain[1], plain[2] };
        struct cpu_model guest, listed, own;

        l[2].ebx |= 1u << 16;
        own = guest = model(SET(l));
        listed = model(SET(plain));
        cpu_model_believe(&listed, &own);

        AUTO_JSON *meant = cpu_compat_describe(&guest, &listed);

        CU_ASSERT_PTR_NOT_NULL(meant);
        l[1].ecx = 0;
        l[2].ebx = 0;
        listed = model(SET(l));
        cpu_model_believe(&listed, &own);
        CU_ASSERT_PTR_NULL(cpu_compat_describe(&guest, &listed));
}

/* ---- what KVM refuses ------------------------------------------------------------ */

/* A state with AVX-512 and SHA into a KVM that offers `plain`. */
static void load_refused(unsigned long request, struct err *e)
{
        struct pair *p = pair_new(1);
        struct state_cpuid *c = &p->from.m->vcpu[0].cpuid;

        c->nent = 3;
        memset(c->entries, 0, sizeof(c->entries));
        c->entries[0] = plain[1];
        c->entries[1] = plain[2];
        c->entries[1].ebx |= 1u << 16 | 1u << 17 | 1u << 29;
        c->entries[2] = plain[3];
        c->entries[2].ecx = 2696;
        pair_saved_fini(&p->saved);
        p->saved = pair_save(&p->from);
        p->to.refused_request = request;
        p->to.offered = plain;
        p->to.noffered = ARRAY_SIZE(plain);
        CU_ASSERT_EQUAL(pair_load(p, e), request ? -EINVAL : 0);
        pair_free(p);
}

static void a_refusal_has_the_names(void)
{
        struct err e = { 0 };

        load_refused(KVM_SET_CPUID2, &e);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "this host can not give the guest its CPU"));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "lacks: avx512f, avx512dq, sha_ni, an XSAVE area "
                                      "of 2696 bytes (has 832): revert it on a host"));
        CU_ASSERT_EQUAL(e.code, -EINVAL);
        load_refused(KVM_SET_XSAVE, &e);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "avx512f"));
        load_refused(0, NULL);
}

/* Where the CPU is not the reason the sentence is as it was. */
static void other_refusals_are_left_alone(void)
{
        struct pair *p = pair_new(1);
        struct err e = { 0 };

        p->to.refused_request = KVM_SET_LAPIC;
        CU_ASSERT_EQUAL(pair_load(p, &e), -EINVAL);     /* it offers nothing: not known */
        CU_ASSERT_PTR_NULL(strstr(e.text, "lacks"));
        pair_free(p);
}

static void a_long_list_ends(void)
{
        struct cpu_model guest = model(NULL, 0);
        struct fake f;
        struct err e;

        memset(guest.word, 0xff, sizeof(guest.word));
        fake_init(&f, pair_plausible(1, 1));
        f.offered = plain;
        f.noffered = ARRAY_SIZE(plain);
        err_msg(&e, EINVAL, "%0600d", 7);
        CU_ASSERT_EQUAL(cpu_compat_explain(&f.kvm, &guest, -EINVAL, &e), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, " more: revert it on a host"));
        CU_ASSERT(cpu_compat_explain(&f.kvm, &guest, -EINVAL, NULL) == -EINVAL);
        err_msg(&e, EIO, "a disk");
        CU_ASSERT(cpu_compat_explain(&f.kvm, &guest, -EIO, &e) == -EIO);
        CU_ASSERT_STRING_EQUAL(e.text, "a disk");
        fake_fini(&f);
}

static const CU_TestInfo cases[] = {
        { "the same, or more, is no difference", the_same_is_nothing },
        { "each bit has its name", each_bit_by_its_name },
        { "no name is there twice", no_name_is_there_twice },
        { "sizes, rates and vendors", sizes_rates_and_vendors },
        { "a vendor is text", a_vendor_is_text },
        { "who lists too little is not believed", who_lists_too_little_is_not_believed },
        { "a refusal has the names", a_refusal_has_the_names },
        { "other refusals are left alone", other_refusals_are_left_alone },
        { "a long list ends", a_long_list_ends },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("cpu-compat", cases);
}
