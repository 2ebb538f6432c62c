/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's clocks: KVM's clock of the VM and the TSC of each vCPU.
 *
 * Theory of operation
 *
 * A guest reads time as kvmclock (a base of the VM plus scaled TSC) or as its
 * bare TSC. Both must go on by the same amount over a revert, namely by the
 * real time since the save, so that the guest's wall clock is right with no
 * agent: KVM_SET_CLOCK advances the one, we the other.
 *
 * Method A, when KVM told the host TSC that belongs to the saved clock: the
 * offset of each vCPU is moved so that its TSC continues from that instant.
 * Offsets that were equal get one number, because exact equality is what makes
 * KVM use one master clock for all vCPUs.
 * Method B, older or paravirtual KVM: MSR 0x10, one value for all vCPUs (the
 * greatest saved one, advanced), since each was read at another instant.
 * A TSC that KVM scales goes by method B too: the ratio KVM multiplies with
 * can not be read, and an error in it is an error times the host's uptime.
 *
 * INV-CLOCK: the clock is set before TSC values are computed from it, and
 * never after a vCPU has run in the state it belongs to.
 */
#include <errno.h>

#include "common/check.h"
#include "common/clock.h"
#include "vmm/state-priv.h"

/* KVM's default tsc_tolerance_ppm: up to here it does not scale */
#define TSC_TOLERANCE_PPM 250

#define TSC_FLAGS_NEEDED KVM_CLOCK_HOST_TSC

static bool rates_agree(uint64_t a_khz, uint64_t b_khz)
{
        uint64_t diff = a_khz > b_khz ? a_khz - b_khz : b_khz - a_khz;

        return diff * 1000000 <= b_khz * TSC_TOLERANCE_PPM;
}

static int clock_get(struct kvm *kvm, struct kvm_clock_data *ret, struct err *e)
{
        struct kvm_clock_data c = { 0 };
        int rc = kvm_call(kvm, kvm->vm_fd, KVM_GET_CLOCK, &c);

        if (rc < 0)
                return err_set(e, -rc, "read the VM's clock");
        /* KVM tells it only with a master clock; the guest needs it always */
        if (!(c.flags & KVM_CLOCK_REALTIME))
                c.realtime = clock_wall_ns();
        *ret = c;
        return 0;
}

/* Nothing in between: method B is as wrong as these are apart. */
int state_clock_read(struct kvm *kvm, struct machine_state *m, struct err *e)
{
        int rc = clock_get(kvm, &m->clock, e);

        for (unsigned i = 0; i < m->cpus && rc == 0; i++)
                rc = state_msr_read(kvm, i, MSR_TSC, &m->vcpu[i].tsc.value, e);
        return rc;
}

static int offset_call(struct kvm *kvm, unsigned cpu, unsigned long request, uint64_t *offset)
{
        struct kvm_device_attr attr = {
                .group = KVM_VCPU_TSC_CTRL,
                .attr = KVM_VCPU_TSC_OFFSET,
                .addr = (uintptr_t)offset,
        };

        return kvm_call(kvm, kvm->vcpu_fd[cpu], request, &attr);
}

int state_host_khz(struct kvm *kvm)
{
        return kvm_call(kvm, kvm->vm_fd, KVM_GET_TSC_KHZ, NULL);
}

static bool tsc_is_scaled(const struct kvm *kvm, uint32_t khz, int host_khz)
{
        return kvm->has_tsc_control && (host_khz <= 0 || !rates_agree(khz, (uint64_t)host_khz));
}

int state_tsc_read(const struct state_reader *r, unsigned cpu, struct state_tsc *tsc,
                   struct err *e)
{
        struct kvm *kvm = r->kvm;
        int khz = kvm_call(kvm, kvm->vcpu_fd[cpu], KVM_GET_TSC_KHZ, NULL);

        if (khz < 0)
                return err_set(e, -khz, "read the rate of the TSC");

        tsc->khz = (uint32_t)khz;
        tsc->has_offset = kvm->has_tsc_offset && !tsc_is_scaled(kvm, tsc->khz, r->host_khz) &&
                          offset_call(kvm, cpu, KVM_GET_DEVICE_ATTR, &tsc->offset) == 0;
        return 0;
}

/* Equal: nothing to do. Scaling: KVM must take it. Close: try, KVM without
 * scaling may refuse and the guest's own tolerance covers it. Else refuse. */
int state_tsc_rate_apply(struct kvm *kvm, unsigned cpu, const struct state_tsc *saved,
                         struct err *e)
{
        int khz = kvm_call(kvm, kvm->vcpu_fd[cpu], KVM_GET_TSC_KHZ, NULL);

        if (khz < 0)
                return err_set(e, -khz, "read the rate of the TSC");
        if (saved->khz == (uint32_t)khz)
                return 0;

        bool close = rates_agree(saved->khz, (uint32_t)khz);

        if (!close && !kvm->has_tsc_control)
                return err_msg(e, ENOTSUP, "the guest's TSC runs at %u kHz, this host's at %d kHz "
                               "and KVM can not scale it here: revert on a host with the same rate",
                               saved->khz, khz);

        int rc = kvm_call(kvm, kvm->vcpu_fd[cpu], KVM_SET_TSC_KHZ, (void *)(uintptr_t)saved->khz);

        if (rc < 0 && !close)
                return err_set(e, -rc, "set the TSC to %u kHz (this host has %d kHz)", saved->khz,
                               khz);
        return 0;
}

static int clock_set(struct kvm *kvm, const struct kvm_clock_data *saved, struct err *e)
{
        int adjust = kvm_call(kvm, kvm->vm_fd, KVM_CHECK_EXTENSION,
                              (void *)(uintptr_t)KVM_CAP_ADJUST_CLOCK);
        struct kvm_clock_data c = { .clock = saved->clock };

        if (adjust > 0 && (adjust & KVM_CLOCK_REALTIME)) {
                c.flags = KVM_CLOCK_REALTIME;
                c.realtime = saved->realtime;
        } else {
                uint64_t now = clock_wall_ns();

                /* as KVM does it: only forward */
                if (now > saved->realtime)
                        c.clock += now - saved->realtime;
        }

        int rc = kvm_call(kvm, kvm->vm_fd, KVM_SET_CLOCK, &c);

        return rc < 0 ? err_set(e, -rc, "set the VM's clock") : 0;
}

static bool by_offset(const struct kvm *kvm, const struct machine_state *m,
                      const struct kvm_clock_data *now)
{
        if (!kvm->has_tsc_offset || !(m->clock.flags & TSC_FLAGS_NEEDED) ||
            !(now->flags & TSC_FLAGS_NEEDED))
                return false;
        for (unsigned i = 0; i < m->cpus; i++)
                if (!m->vcpu[i].tsc.has_offset)
                        return false;
        return true;
}

/* TSC ticks in the time that the clock went on; the clock never goes back
 * here, but saved numbers are anybody's: wrapping is harmless. */
static uint64_t ticks_since(const struct machine_state *m, const struct kvm_clock_data *now,
                            uint32_t khz)
{
        unsigned __int128 ns = now->clock - m->clock.clock;

        return (uint64_t)(ns * khz / 1000000);
}

/* Same as what the vCPU's own offset gives when the offsets are equal. */
static void plan_offsets(const struct machine_state *m, const struct kvm_clock_data *now,
                         struct tsc_plan *plan)
{
        uint64_t shift = m->clock.host_tsc + ticks_since(m, now, m->vcpu[0].tsc.khz) -
                         now->host_tsc;

        for (unsigned i = 0; i < m->cpus; i++)
                plan->offset[i] = m->vcpu[i].tsc.offset + shift;
}

static void plan_value(const struct machine_state *m, const struct kvm_clock_data *now,
                       struct tsc_plan *plan)
{
        for (unsigned i = 0; i < m->cpus; i++)
                plan->value = MAX(plan->value, m->vcpu[i].tsc.value);
        plan->value += ticks_since(m, now, m->vcpu[0].tsc.khz);
}

/* Only without scaling here as well; see the theory above. */
static bool rate_is_hosts(struct kvm *kvm, const struct machine_state *m)
{
        int host_khz = kvm->has_tsc_control ? state_host_khz(kvm) : 0;

        for (unsigned i = 0; i < m->cpus; i++)
                if (tsc_is_scaled(kvm, m->vcpu[i].tsc.khz, host_khz))
                        return false;
        return true;
}

int state_clock_apply(struct kvm *kvm, const struct machine_state *m, struct tsc_plan *ret,
                      struct err *e)
{
        struct kvm_clock_data now;
        int rc = clock_set(kvm, &m->clock, e);

        if (rc == 0)
                rc = clock_get(kvm, &now, e);
        if (rc < 0)
                return rc;

        struct tsc_plan plan = { .by_offset = by_offset(kvm, m, &now) && rate_is_hosts(kvm, m) };

        if (plan.by_offset)
                plan_offsets(m, &now, &plan);
        else
                plan_value(m, &now, &plan);
        *ret = plan;
        return 0;
}

int state_tsc_apply(struct kvm *kvm, unsigned cpu, const struct tsc_plan *plan, struct err *e)
{
        if (plan->by_offset) {
                uint64_t offset = plan->offset[cpu];
                int rc = offset_call(kvm, cpu, KVM_SET_DEVICE_ATTR, &offset);

                return rc < 0 ? err_set(e, -rc, "set the TSC offset") : 0;
        }

        return state_msr_write(kvm, cpu, MSR_TSC, plan->value, e);
}

/* By offset the clock and the TSCs were computed from one reading: done. By
 * value each write may have moved what KVM computes the clock from. */
int state_clock_settle(struct kvm *kvm, const struct machine_state *m,
                       const struct tsc_plan *plan, struct err *e)
{
        return plan->by_offset ? 0 : clock_set(kvm, &m->clock, e);
}
