/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu-exit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "common/check.h"

__attribute__((format(printf, 3, 4)))
static void say(struct vcpu_end *ret, enum vcpus_end why, const char *fmt, ...)
{
        va_list ap;

        ret->why = why;
        va_start(ap, fmt);
        vsnprintf(ret->text, sizeof(ret->text), fmt, ap);
        va_end(ap);
}

static uint64_t rip_of(const struct kvm *kvm, unsigned cpu)
{
        struct kvm_regs regs;

        if (ioctl(kvm->vcpu_fd[cpu], KVM_GET_REGS, &regs) < 0)
                return 0;
        return regs.rip;
}

static void say_internal_error(const struct kvm *kvm, unsigned cpu, struct vcpu_end *ret)
{
        const struct kvm_run *run = kvm->run[cpu];
        char data[ARRAY_SIZE(run->internal.data) * 20] = "";
        size_t at = 0;

        for (unsigned i = 0; i < MIN(run->internal.ndata, ARRAY_SIZE(run->internal.data)); i++)
                at += (size_t)snprintf(data + at, sizeof(data) - at, " %llx",
                                       (unsigned long long)run->internal.data[i]);
        say(ret, VCPUS_INTERNAL_ERROR, "vCPU %u at rip %#llx: KVM internal error %u%s, data%s",
            cpu, (unsigned long long)rip_of(kvm, cpu), run->internal.suberror,
            run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ?
                    " (an instruction it cannot emulate)" : "",
            data);
}

/* Of the exits that end a guest. */
static void say_end(const struct kvm *kvm, unsigned cpu, struct vcpu_end *ret)
{
        const struct kvm_run *run = kvm->run[cpu];

        switch (run->exit_reason) {
        case KVM_EXIT_SHUTDOWN:
                /* no rip: AMD's KVM has reset the vCPU by now */
                say(ret, VCPUS_TRIPLE_FAULT, "vCPU %u: triple fault", cpu);
                break;
        case KVM_EXIT_INTERNAL_ERROR:
                say_internal_error(kvm, cpu, ret);
                break;
        case KVM_EXIT_FAIL_ENTRY:
                say(ret, VCPUS_INTERNAL_ERROR, "vCPU %u at rip %#llx: the CPU refused to enter "
                    "the guest, reason %#llx", cpu, (unsigned long long)rip_of(kvm, cpu),
                    (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
                break;
        case KVM_EXIT_SYSTEM_EVENT:
                say(ret, VCPUS_INTERNAL_ERROR, "vCPU %u: KVM reports system event %u", cpu,
                    run->system_event.type);
                break;
        default:
                /* KVM_EXIT_HLT too: the in-kernel LAPIC keeps it inside */
                say(ret, VCPUS_INTERNAL_ERROR, "vCPU %u: unexpected KVM exit %u", cpu,
                    run->exit_reason);
        }
}

bool vcpu_exit(struct kvm *kvm, struct platform *platform, unsigned cpu, struct vcpu_end *ret)
{
        struct kvm_run *run = kvm->run[cpu];

        switch (run->exit_reason) {
        case KVM_EXIT_IO:
                platform_io(platform, run);
                return true;
        case KVM_EXIT_MMIO:
                platform_mmio(platform, run);
                return true;
        case KVM_EXIT_INTR:
                return true;
        default:
                say_end(kvm, cpu, ret);
                return false;
        }
}

void vcpu_exit_failed(struct kvm *kvm, unsigned cpu, int errnum, struct vcpu_end *ret)
{
        if (errnum == EFAULT || errnum == EHWPOISON)
                say(ret, VCPUS_INTERNAL_ERROR, "vCPU %u at rip %#llx: memory error, the host "
                    "could not provide a page of guest memory (%s)", cpu,
                    (unsigned long long)rip_of(kvm, cpu),
                    errnum == EFAULT ? "EFAULT" : "EHWPOISON");
        else
                say(ret, VCPUS_INTERNAL_ERROR, "vCPU %u: KVM_RUN failed with errno %d", cpu,
                    errnum);
}
