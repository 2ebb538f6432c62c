/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"

#define KVM_DEVICE "/dev/kvm"

/* KVM's own pages below 4 GiB, in the PCI hole. Used by VMX without unrestricted
 * guest; to be set before the first vCPU (KVM_SET_TSS_ADDR and
 * KVM_SET_IDENTITY_MAP_ADDR in the kernel's Documentation/virt/kvm/api.rst). */
#define IDENTITY_PAGE_GPA 0xfffbc000ull
#define TSS_PAGES_GPA 0xfffbd000ull

/* arch_prctl(2): lets guests have AMX tiles, XSAVE component 18 */
#define ARCH_REQ_XCOMP_GUEST_PERM 0x1025
#define XCOMP_TILEDATA 18

struct capability {
        int id;
        const char *name;
};

/* What no supported kernel lacks; the rest is asked for where it is used. */
static const struct capability needed[] = {
        { KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
        { KVM_CAP_PIT2, "KVM_CAP_PIT2" },
        { KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2" },
        { KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
        { KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
        { KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
        { KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
        { KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
        { KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
        { KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
        { KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK" },
        { KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
};

int kvm_call(struct kvm *kvm, int fd, unsigned long request, void *arg)
{
        uint64_t start_ns = clock_now_ns();
        int rc;

        do
                rc = ioctl(fd, request, arg);
        while (rc < 0 && errno == EINTR);
        if (rc < 0)
                rc = -errno;
        kvm->in_calls_ns += clock_now_ns() - start_ns;
        return rc;
}

static int check_extension(struct kvm *kvm, int fd, int cap)
{
        return kvm_call(kvm, fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
}

static int open_error(int errnum, struct err *e)
{
        switch (errnum) {
        case ENOENT:
        case ENODEV:
        case ENXIO:
                return err_msg(e, errnum, "there is no usable " KVM_DEVICE ": enable "
                               "virtualisation in the firmware and load kvm_intel or kvm_amd, or "
                               "pass the device to this container");
        case EACCES:
        case EPERM:
                return err_msg(e, errnum, "no permission to open " KVM_DEVICE
                               ": add this user to the group kvm");
        default:
                return err_set(e, errnum, "open " KVM_DEVICE);
        }
}

static int check_api(struct kvm *kvm, struct err *e)
{
        int version = kvm_call(kvm, kvm->dev_fd, KVM_GET_API_VERSION, NULL);

        if (version < 0)
                return err_set(e, -version, "ask " KVM_DEVICE " for its version: it is not KVM");
        if (version != KVM_API_VERSION)
                return err_msg(e, ENOTSUP, KVM_DEVICE " speaks API version %d, not %d: this is "
                               "no KVM we know", version, KVM_API_VERSION);
        for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
                if (check_extension(kvm, kvm->dev_fd, needed[i].id) <= 0)
                        return err_msg(e, ENOTSUP, "this kernel's KVM lacks %s: use Linux 4.13 "
                                       "or newer", needed[i].name);
        }
        return 0;
}

int kvm_open(struct kvm *kvm, struct err *e)
{
        *kvm = (struct kvm){ .opened = true, .vm_fd = -1 };
        for (unsigned i = 0; i < VCPUS_MAX; i++)
                kvm->vcpu_fd[i] = -1;

        kvm->dev_fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
        if (kvm->dev_fd < 0)
                return open_error(errno, e);

        int rc = check_api(kvm, e);

        if (rc < 0)
                return rc;

        int run_bytes = kvm_call(kvm, kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

        if (run_bytes < (int)sizeof(struct kvm_run))
                return err_msg(e, ENOTSUP, KVM_DEVICE " has a kvm_run of %d bytes", run_bytes);
        kvm->run_bytes = (size_t)run_bytes;

        /* before the supported CPUID is asked for and vCPUs are created, else
         * AMX hosts offer what they then refuse; others answer EINVAL */
        (void)syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, XCOMP_TILEDATA);
        return 0;
}

/* What comes before vCPUs, in this order. */
static int create_chips(struct kvm *kvm, struct err *e)
{
        uint64_t identity_gpa = IDENTITY_PAGE_GPA;
        /* port 0x61 is served in the kernel with the PIT */
        struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
        struct kvm_enable_cap no_pmu = { .cap = KVM_CAP_PMU_CAPABILITY,
                                         .args = { KVM_PMU_CAP_DISABLE } };
        const struct {
                const char *what;
                unsigned long request;
                void *arg;
                bool optional;
        } steps[] = {
                /* cpuid.c hides the PMU in any case */
                { "disable the PMU", KVM_ENABLE_CAP, &no_pmu, true },
                { "set the TSS address", KVM_SET_TSS_ADDR, (void *)TSS_PAGES_GPA, false },
                /* has a default where it cannot be set */
                { "set the identity map address", KVM_SET_IDENTITY_MAP_ADDR, &identity_gpa, true },
                { "create the interrupt controllers", KVM_CREATE_IRQCHIP, NULL, false },
                { "create the PIT", KVM_CREATE_PIT2, &pit, false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
                int rc = kvm_call(kvm, kvm->vm_fd, steps[i].request, steps[i].arg);

                if (rc < 0 && !steps[i].optional)
                        return err_set(e, -rc, "KVM: %s", steps[i].what);
        }
        return 0;
}

/* bytes 0: the slot is taken away */
static int set_slot(struct kvm *kvm, const struct ram *ram, unsigned i, uint64_t bytes,
                    struct err *e)
{
        const struct ram_slot *slot = &ram->slots[i];
        struct kvm_userspace_memory_region region = {
                .slot = i,
                .guest_phys_addr = slot->gpa,
                .memory_size = bytes,
                .userspace_addr = (uintptr_t)slot->hva,
        };

        ASSERT(slot->hva);

        int rc = kvm_call(kvm, kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

        return rc < 0 ? err_set(e, -rc, "KVM: memory slot of %llu MiB",
                                (unsigned long long)(slot->bytes >> 20)) : 0;
}

static int create_slots(struct kvm *kvm, const struct ram *ram, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; i < ram->nslots && rc == 0; i++)
                rc = set_slot(kvm, ram, i, ram->slots[i].bytes, e);
        return rc;
}

static bool parameter_is_on(const char *path)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        char value = '\0';

        return fd >= 0 && read(fd, &value, 1) == 1 && (value == 'Y' || value == '1');
}

/* The CPU walks the guest's page tables itself (EPT, NPT): KVM has no copies of them, and
 * what TLBs have of them goes when a vCPU gets a new root. */
static bool has_second_level(void)
{
        return parameter_is_on("/sys/module/kvm_intel/parameters/ept") ||
               parameter_is_on("/sys/module/kvm_amd/parameters/npt");
}

/* Taking a slot away is the one call that makes KVM drop all shadow pages, on every kernel.
 * It waits for SRCU, some ms, and the guest's pages are then mapped anew one by one. */
int kvm_remap(struct kvm *kvm, const struct ram *ram, struct err *e)
{
        int rc = 0;

        if (has_second_level())
                return 0;
        for (unsigned i = 0; i < ram->nslots && rc == 0; i++) {
                rc = set_slot(kvm, ram, i, 0, e);
                if (rc == -EINVAL)              /* a try that failed has taken it away */
                        rc = 0;
        }
        return rc == 0 ? create_slots(kvm, ram, e) : rc;
}

static int create_vcpu(struct kvm *kvm, unsigned i, struct err *e)
{
        int fd = kvm_call(kvm, kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)i);

        if (fd < 0)
                return err_set(e, -fd, "KVM: create vCPU %u", i);
        kvm->vcpu_fd[i] = fd;

        void *run = mmap(NULL, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (run == MAP_FAILED)
                return err_set(e, errno, "KVM: map kvm_run of vCPU %u", i);
        kvm->run[i] = run;
        return 0;
}

static bool vcpu_has_tsc_offset(struct kvm *kvm)
{
        struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL,
                                        .attr = KVM_VCPU_TSC_OFFSET };

        return kvm_call(kvm, kvm->vcpu_fd[0], KVM_HAS_DEVICE_ATTR, &attr) == 0;
}

static int create_vm(struct kvm *kvm, struct err *e)
{
        int fd = kvm_call(kvm, kvm->dev_fd, KVM_CREATE_VM, NULL);

        if (fd == -EBUSY)
                return err_msg(e, EBUSY, "KVM cannot start a VM: another hypervisor holds the "
                               "CPU's virtualisation; stop it first");
        if (fd < 0)
                return err_set(e, -fd, "KVM: create a VM");
        kvm->vm_fd = fd;

        int xsave_bytes = check_extension(kvm, fd, KVM_CAP_XSAVE2);

        kvm->xsave_bytes = (size_t)MAX(xsave_bytes, (int)sizeof(struct kvm_xsave));
        kvm->has_sregs2 = check_extension(kvm, fd, KVM_CAP_SREGS2) > 0;
        kvm->has_tsc_control = check_extension(kvm, fd, KVM_CAP_TSC_CONTROL) > 0;
        return 0;
}

int kvm_create(struct kvm *kvm, const struct ram *ram, unsigned cpus, struct err *e)
{
        ASSERT(kvm->dev_fd >= 0 && kvm->vm_fd < 0);
        if (cpus < 1 || cpus > VCPUS_MAX)
                return err_msg(e, ERANGE, "%u vCPUs: a guest has 1 to %d", cpus, VCPUS_MAX);

        int rc = create_vm(kvm, e);

        /* Memory before the interrupt controllers: KVM waits for an SRCU grace
         * period when it adds a slot to a VM that has interrupt routes already
         * (4 to 9 ms on 6.18), and not at all in a VM that has none yet. */
        if (rc == 0)
                rc = create_slots(kvm, ram, e);
        if (rc == 0)
                rc = create_chips(kvm, e);
        for (unsigned i = 0; rc == 0 && i < cpus; i++)
                rc = create_vcpu(kvm, i, e);
        if (rc < 0)
                return rc;

        kvm->cpus = cpus;
        kvm->has_tsc_offset = vcpu_has_tsc_offset(kvm);
        return 0;
}

int kvm_add_memory(struct kvm *kvm, const struct ram *ram, struct err *e)
{
        return create_slots(kvm, ram, e);
}

void kvm_close(struct kvm *kvm)
{
        if (!kvm->opened)
                return;
        for (unsigned i = 0; i < VCPUS_MAX; i++) {
                if (kvm->run[i])
                        munmap(kvm->run[i], kvm->run_bytes);
                kvm->run[i] = NULL;
                fd_close(&kvm->vcpu_fd[i]);
        }
        fd_close(&kvm->vm_fd);
        fd_close(&kvm->dev_fd);
        kvm->cpus = 0;
}

void kvm_irq_line(struct kvm *kvm, unsigned gsi, bool level)
{
        struct kvm_irq_level line = { .irq = gsi, .level = level };

        /* Not by kvm_call: any thread. It fails for a VM that KVM gave up only;
         * KVM_RUN reports that. */
        (void)ioctl(kvm->vm_fd, KVM_IRQ_LINE, &line);
}
