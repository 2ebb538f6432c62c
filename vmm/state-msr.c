/* SPDX-License-Identifier: Apache-2.0 */
/* Model specific registers.
 *
 * Theory of operation
 *
 * KVM's index list depends on the host and is not complete, so we read the
 * union of it and of `extra`, whatever reads. KVM_GET_MSRS and KVM_SET_MSRS
 * stop at the first MSR they refuse and return how many went well. An ioctl
 * costs more than a hundred MSRs do, so all go in as few calls as possible.
 *
 * Loading first reads what the new vCPU has and writes only what differs: in
 * a VM that has never run, an MSR that reads equal is equal. So read-only
 * constants and MSRs of features the guest lacks are never written, and what
 * KVM refuses after that is a real loss and an error.
 *
 * INV-MSR-OWNER: the APIC base belongs to sregs, the TSC to state-clock.c, the
 * deadline is written last, after the LAPIC's timer mode and the TSC are set.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/cpu-names.h"
#include "vmm/state-priv.h"

#define MSR_APIC_BASE 0x1bu

/* MAX_IO_MSRS of the kernel is 256, itself refused */
#define BATCH_MAX 255

struct msr_range {
        uint32_t first, last;
};

/* Readable and writable, yet not in KVM's list. */
static const struct msr_range extra[] = {
        { 0x200, 0x20f },               /* MTRRs: variable */
        { 0x250, 0x250 },               /* MTRRs: fixed */
        { 0x258, 0x259 },
        { 0x268, 0x26f },
        { 0x2ff, 0x2ff },               /* MTRR default type */
        { 0x400, 0x47f },               /* machine check banks */
        { 0xda0, 0xda0 },               /* XSS */
        { 0x1c4, 0x1c5 },               /* XFD, XFD_ERR */
        { 0xc0010114, 0xc0010114 },     /* VM_CR */
        { 0xc0011029, 0xc0011029 },     /* DE_CFG */
        /* KVM's own, as far as our guests have use for them (KVM_FEATURES_KEPT in
         * cpuid.c); each that does not exist costs a call inside the pause */
        { 0x4b564d00, 0x4b564d07 },
};

static const struct msr_range left_out[] = {
        { MSR_TSC, MSR_TSC },
        { MSR_APIC_BASE, MSR_APIC_BASE },
        { 0x40000000, 0x400001ff },     /* Hyper-V's: not offered to our guests */
};

/* Read-only facts about the CPU, which the guest has seen. */
static const struct msr_range capabilities[] = {
        { 0x10a, 0x10a },               /* ARCH_CAPABILITIES */
        { 0x345, 0x345 },               /* PERF_CAPABILITIES */
        { 0x480, 0x491 },               /* VMX */
};

static bool in_ranges(const struct msr_range *r, size_t n, uint32_t index)
{
        for (size_t i = 0; i < n; i++)
                if (index >= r[i].first && index <= r[i].last)
                        return true;
        return false;
}

static const struct kvm_msr_entry *find(const struct state_msrs *msrs, uint32_t index)
{
        for (uint32_t i = 0; i < msrs->nmsrs; i++)
                if (msrs->entries[i].index == index)
                        return &msrs->entries[i];
        return NULL;
}

uint64_t state_msr_value(const struct state_msrs *msrs, uint32_t index)
{
        const struct kvm_msr_entry *m = find(msrs, index);

        return m ? m->data : 0;
}

/* Gets or sets entries[0..n) as far as KVM goes; the count or -errno. */
static int batch_call(struct kvm *kvm, unsigned cpu, unsigned long request,
                      struct kvm_msr_entry *entries, uint32_t n)
{
        struct {
                struct state_msrs_head head;
                struct kvm_msr_entry entries[BATCH_MAX];
        } batch;

        n = MIN(n, BATCH_MAX);
        batch.head = (struct state_msrs_head){ .nmsrs = n };
        memcpy(batch.entries, entries, n * sizeof(*entries));

        int done = kvm_call(kvm, kvm->vcpu_fd[cpu], request, &batch);

        ASSERT(done <= (int)n);
        if (done > 0)
                memcpy(entries, batch.entries, (size_t)done * sizeof(*entries));
        return done;
}

/* Reads those of msrs that can be read and drops the others, in place. */
static int read_all(struct kvm *kvm, unsigned cpu, struct state_msrs *msrs, struct err *e)
{
        struct kvm_msr_entry *m = msrs->entries;
        uint32_t kept = 0, next = 0;

        while (next < msrs->nmsrs) {
                uint32_t asked = MIN(msrs->nmsrs - next, BATCH_MAX);
                int done = batch_call(kvm, cpu, KVM_GET_MSRS, &m[next], asked);

                if (done < 0)
                        return err_set(e, -done, "read %u MSRs from 0x%x on", asked,
                                       m[next].index);
                memmove(&m[kept], &m[next], (size_t)done * sizeof(*m));
                kept += (uint32_t)done;
                next += (uint32_t)done;
                if ((uint32_t)done < asked)
                        next++;         /* this one is not there */
        }
        msrs->nmsrs = kept;
        return 0;
}

/* ---- save ---- */

static int add(struct state_msrs *msrs, uint32_t index, struct err *e)
{
        if (in_ranges(left_out, ARRAY_SIZE(left_out), index) || find(msrs, index))
                return 0;
        if (msrs->nmsrs == STATE_MSRS_MAX)
                return err_msg(e, E2BIG, "KVM has more than %d MSRs", STATE_MSRS_MAX);
        msrs->entries[msrs->nmsrs++] = (struct kvm_msr_entry){ .index = index };
        return 0;
}

static int add_listed(struct kvm *kvm, struct state_msrs *msrs, struct err *e)
{
        struct {
                uint32_t nmsrs;
                uint32_t indices[STATE_MSRS_MAX];
        } list = { .nmsrs = STATE_MSRS_MAX };

        static_assert(offsetof(__typeof__(list), indices) == sizeof(struct kvm_msr_list),
                      "laid out as struct kvm_msr_list");

        int rc = kvm_call(kvm, kvm->dev_fd, KVM_GET_MSR_INDEX_LIST, &list);

        if (rc < 0)
                return err_set(e, -rc, "read KVM's list of MSRs");
        for (uint32_t i = 0; i < list.nmsrs && rc >= 0; i++)
                rc = add(msrs, list.indices[i], e);
        return rc;
}

static int add_extra(struct state_msrs *msrs, struct err *e)
{
        int rc = 0;

        for (size_t i = 0; i < ARRAY_SIZE(extra); i++)
                for (uint32_t m = extra[i].first; m <= extra[i].last && rc == 0; m++)
                        rc = add(msrs, m, e);
        return rc;
}

int state_msrs_list(struct kvm *kvm, struct state_msrs *ret, struct err *e)
{
        ret->nmsrs = 0;

        int rc = add_listed(kvm, ret, e);

        return rc < 0 ? rc : add_extra(ret, e);
}

int state_msrs_read(struct kvm *kvm, unsigned cpu, const struct state_msrs *like,
                    struct state_msrs *ret, struct err *e)
{
        ret->nmsrs = like->nmsrs;
        memcpy(ret->entries, like->entries, like->nmsrs * sizeof(like->entries[0]));
        return read_all(kvm, cpu, ret, e);
}

/* ---- load ---- */

static bool written_here(uint32_t index)
{
        return index != MSR_TSC && index != MSR_TSC_DEADLINE && index != MSR_APIC_BASE;
}

/* now: what the new vCPU reads, a subsequence of what was saved. An MSR that
 * does not exist here and was 0 is one of a feature that the guest lacks. */
static void keep_needed(struct state_msrs *saved, const struct state_msrs *now)
{
        uint32_t kept = 0, at = 0;

        for (uint32_t i = 0; i < saved->nmsrs; i++) {
                struct kvm_msr_entry m = saved->entries[i];
                bool here = at < now->nmsrs && now->entries[at].index == m.index;
                uint64_t has = here ? now->entries[at].data : 0;

                at += here;
                if (m.data != has)
                        saved->entries[kept++] = m;
        }
        saved->nmsrs = kept;
}

#define MSR_NAME_BYTES 64

/* "MSR 0xda0 IA32_XSS (xsaves)" */
static void name_msr(uint32_t index, char ret[MSR_NAME_BYTES])
{
        const char *name = cpu_msr_name(index);

        snprintf(ret, MSR_NAME_BYTES, "MSR 0x%x%s%s", index, name ? " " : "", name ? name : "");
}

static int refused(struct kvm *kvm, unsigned cpu, const struct kvm_msr_entry *m, struct err *e)
{
        struct kvm_msr_entry here = { .index = m->index };
        bool reads = batch_call(kvm, cpu, KVM_GET_MSRS, &here, 1) == 1;
        char name[MSR_NAME_BYTES];

        name_msr(m->index, name);
        if (!reads)
                return err_msg(e, ENOTSUP, "%s was 0x%llx and does not exist on this host", name,
                               (unsigned long long)m->data);
        if (in_ranges(capabilities, ARRAY_SIZE(capabilities), m->index))
                return err_msg(e, ENOTSUP, "the CPUs differ: %s, capabilities that the guest has "
                               "seen, was 0x%llx and is 0x%llx on this host", name,
                               (unsigned long long)m->data, (unsigned long long)here.data);
        return err_msg(e, EINVAL, "KVM refuses 0x%llx for %s, which has 0x%llx",
                       (unsigned long long)m->data, name, (unsigned long long)here.data);
}

static int write_all(struct kvm *kvm, unsigned cpu, struct state_msrs *msrs, struct err *e)
{
        uint32_t next = 0;

        while (next < msrs->nmsrs) {
                uint32_t asked = MIN(msrs->nmsrs - next, BATCH_MAX);
                int done = batch_call(kvm, cpu, KVM_SET_MSRS, &msrs->entries[next], asked);

                if (done < 0)
                        return err_set(e, -done, "write %u MSRs from 0x%x on", asked,
                                       msrs->entries[next].index);
                next += (uint32_t)done;
                if ((uint32_t)done < asked)
                        return refused(kvm, cpu, &msrs->entries[next], e);
        }
        return 0;
}

int state_msr_read(struct kvm *kvm, unsigned cpu, uint32_t index, uint64_t *ret, struct err *e)
{
        struct kvm_msr_entry m = { .index = index };
        int done = batch_call(kvm, cpu, KVM_GET_MSRS, &m, 1);

        if (done != 1)
                return err_set(e, done < 0 ? -done : EINVAL, "read MSR 0x%x", index);
        *ret = m.data;
        return 0;
}

int state_msr_write(struct kvm *kvm, unsigned cpu, uint32_t index, uint64_t value,
                    struct err *e)
{
        struct kvm_msr_entry m = { .index = index, .data = value };
        int done = batch_call(kvm, cpu, KVM_SET_MSRS, &m, 1);

        if (done < 0)
                return err_set(e, -done, "write MSR 0x%x", index);
        return done == 1 ? 0 : refused(kvm, cpu, &m, e);
}

int state_msrs_apply(struct kvm *kvm, unsigned cpu, const struct state_msrs *saved,
                     uint64_t deadline, struct err *e)
{
        AUTO_FREE struct state_msrs *want = malloc(sizeof(*want));
        AUTO_FREE struct state_msrs *now = malloc(sizeof(*now));

        if (!want || !now)
                return err_msg(e, ENOMEM, "no memory for the MSRs");
        want->nmsrs = 0;
        for (uint32_t i = 0; i < saved->nmsrs; i++)
                if (written_here(saved->entries[i].index))
                        want->entries[want->nmsrs++] = saved->entries[i];
        now->nmsrs = want->nmsrs;
        memcpy(now->entries, want->entries, want->nmsrs * sizeof(want->entries[0]));

        int rc = read_all(kvm, cpu, now, e);

        if (rc < 0)
                return rc;
        keep_needed(want, now);
        rc = write_all(kvm, cpu, want, e);
        /* KVM_SET_LAPIC left 0, which is: no timer */
        if (rc == 0 && deadline != 0)
                rc = state_msr_write(kvm, cpu, MSR_TSC_DEADLINE, deadline, e);
        return rc;
}
