/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/size.h"
#include "pageserver/uffd.h"
#include "vmm/ram.h"

/* the oldest kernel that all of this is tried with */
#define KERNEL_MAJOR 5
#define KERNEL_MINOR 15

/* KVM alone takes a millisecond or a few. */
#define CREATE_SLOW_US 10000u

/* A CPU that runs a guest's kernel itself does more than 1000 million in a second, one that
 * QEMU emulates some 100; where KVM interprets each instruction it is about one. A kernel
 * needs several hundred to boot. */
#define RING0_SLOW_PER_S 20000000u

/* Of a machine with all of its devices, and a private page server's pipes; twice that. */
#define OPEN_FILES_LEAST 256u
/* Signals to virtual CPUs are queued; other programs of the user take from the same. */
#define SIGNALS_LEAST 64u

/* of Linux 6.2 */
#define LANDLOCK_ABI_TRUNCATE 3

/* of Linux 6.6; older headers lack it */
#define FEATURE_POISON (1ull << 14)

/* A judge ends with one of these. */
static void ok(struct doctor_finding *f, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));
static void bad(struct doctor_finding *f, enum doctor_verdict verdict, const char *remedy,
                const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static void ok(struct doctor_finding *f, const char *fmt, ...)
{
        va_list args;

        *f = (struct doctor_finding){ .verdict = DOCTOR_OK };
        va_start(args, fmt);
        vsnprintf(f->text, sizeof(f->text), fmt, args);
        va_end(args);
}

static void bad(struct doctor_finding *f, enum doctor_verdict verdict, const char *remedy,
                const char *fmt, ...)
{
        va_list args;

        *f = (struct doctor_finding){ .verdict = verdict };
        snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
        va_start(args, fmt);
        vsnprintf(f->text, sizeof(f->text), fmt, args);
        va_end(args);
}

static void judge_kernel(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->kernel_major > KERNEL_MAJOR ||
            (h->kernel_major == KERNEL_MAJOR && h->kernel_minor >= KERNEL_MINOR))
                ok(ret, "Linux %u.%u", h->kernel_major, h->kernel_minor);
        else
                bad(ret, DOCTOR_WARNING, "use Linux 5.15 or newer",
                    "Linux %u.%u: nothing is tried with one that old", h->kernel_major,
                    h->kernel_minor);
}

static void judge_kvm(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->kvm.code)
                bad(ret, DOCTOR_MISSING, h->kvm.text, "no machine can run");
        else
                ok(ret, "/dev/kvm can be used");
}

static void judge_vm(const struct doctor_host *h, struct doctor_finding *ret)
{
        bool never = !strcmp(h->nx_huge_pages, "never");

        if (h->vm.code)
                bad(ret, DOCTOR_MISSING, h->vm.text, "KVM makes no machine that runs");
        else if (h->create_us < CREATE_SLOW_US)
                ok(ret, "KVM makes one in %.1f ms", (double)h->create_us / 1000);
        else
                bad(ret, DOCTOR_WARNING, never || !h->nx_huge_pages[0] ?
                    "mount the cgroup hierarchy with favordynmods (Linux 6.0), or hide the time by "
                    "'vmm serve --pool'" :
                    "load the module kvm with nx_huge_pages=never (Linux 6.5) if the CPU is not "
                    "open to iTLB multihit, else KVM starts a thread for each machine; mount the "
                    "cgroup hierarchy with favordynmods (Linux 6.0); or hide the time by "
                    "'vmm serve --pool'",
                    "KVM takes %.1f ms to make one%s%s", (double)h->create_us / 1000,
                    h->nx_huge_pages[0] ? ", with nx_huge_pages=" : "", h->nx_huge_pages);
}

static void judge_speed(const struct doctor_host *h, struct doctor_finding *ret)
{
        unsigned long long per_us = h->ring0_per_s / 1000000;

        if (h->vm.code)
                bad(ret, DOCTOR_MISSING, "see kvm and machine above", "no machine ran");
        else if (h->ring0_per_s >= RING0_SLOW_PER_S)
                ok(ret, "%llu million instructions a second in a guest's kernel", per_us);
        else
                bad(ret, DOCTOR_WARNING, "use a host with VMX or SVM for guests of other kernels "
                    "than the built-in one", "%llu million instructions a second in a guest's "
                    "kernel: it is emulated, and Linux will not boot in useful time", per_us);
}

static void judge_uffd(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->uffd.code)
                bad(ret, DOCTOR_MISSING, h->uffd.text, "vmm revert --postcopy is not possible");
        else if (!(h->uffd_features & UFFD_FEATURE_MISSING_SHMEM))
                bad(ret, DOCTOR_MISSING, "use a kernel with CONFIG_SHMEM",
                    "no faults in shared memory, of which the shared lane is made");
        else
                ok(ret, "faults of the kernel can be taken");
}

/* Each is lost without those before it. */
static void judge_protect(const struct doctor_host *h, struct doctor_finding *ret)
{
        uint64_t has = h->uffd_features;

        if ((has & UFFD_PROTECT_ANONYMOUS) != UFFD_PROTECT_ANONYMOUS)
                bad(ret, DOCTOR_WARNING, "use Linux 5.7 or newer, with "
                    "CONFIG_HAVE_ARCH_USERFAULTFD_WP",
                    "writes cannot be watched: guests stand still while they are saved");
        else if ((has & UFFD_PROTECT_FILE) != UFFD_PROTECT_FILE)
                bad(ret, DOCTOR_WARNING, "use Linux 5.19 or newer",
                    "writes cannot be watched in RAM that a page server fills, or of huge "
                    "pages: such guests stand still while they are saved");
        else if (!(has & FEATURE_POISON))
                bad(ret, DOCTOR_WARNING, "use Linux 6.6 or newer",
                    "what reads a damaged page cannot be told: it waits");
        else
                ok(ret, "writes to all kinds of RAM can be watched, damaged pages told");
}

static void judge_scan(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->pagemap_scan)
                ok(ret, "the kernel has PAGEMAP_SCAN");
        else
                bad(ret, DOCTOR_WARNING, "use Linux 6.7 or newer",
                    "no PAGEMAP_SCAN: what a guest has written is found page by page");
}

static void judge_hugepages(const struct doctor_host *h, struct doctor_finding *ret)
{
        unsigned long long all = h->huge_pages;
        unsigned long long left = h->huge_pages_free;

        if (h->huge_pages_free > 0)
                ok(ret, "%llu of %llu pages of 2 MiB are free; transparent: %s", left, all,
                   h->thp[0] ? h->thp : "none");
        else
                bad(ret, DOCTOR_WARNING, "set vm.nr_hugepages to a guest's MiB / 2 if --hugepages "
                    "is wanted", "none of %llu pages of 2 MiB are free for --hugepages; "
                    "transparent: %s", all, h->thp[0] ? h->thp : "none");
}

static void judge_memory(const struct doctor_host *h, struct doctor_finding *ret)
{
        char size[SIZE_TEXT_MAX];

        size_text(h->memory_bytes, size);
        if (h->memory_bytes < RAM_BYTES_MIN)
                bad(ret, DOCTOR_MISSING, "end other programs, or give this one's control group "
                    "more", "%s of memory are left, too little for the smallest guest", size);
        else if (h->overcommit == 2)
                bad(ret, DOCTOR_WARNING, "set vm.overcommit_memory to 0 or 1",
                    "the kernel promises no more memory than it has: a guest's RAM counts "
                    "before it is touched");
        else if (h->memory_bytes == UINT64_MAX)
                ok(ret, "how much is left is not known");
        else
                ok(ret, "%s are left", size);
}

static void judge_limits(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->open_files < OPEN_FILES_LEAST)
                bad(ret, DOCTOR_WARNING, "raise it: ulimit -n 1024, or LimitNOFILE= of the service",
                    "only %llu open files: machines with many disks fail",
                    (unsigned long long)h->open_files);
        else if (h->pending_signals < SIGNALS_LEAST)
                bad(ret, DOCTOR_WARNING, "raise it: ulimit -i 1024, or LimitSIGPENDING= of the "
                    "service", "only %llu queued signals: to stop a guest takes longer",
                    (unsigned long long)h->pending_signals);
        else
                ok(ret, "open files and queued signals suffice");
}

static void judge_seccomp(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->calls_limited)
                ok(ret, "the system calls of a machine's threads are limited");
        else
                bad(ret, DOCTOR_WARNING, "use a build with libseccomp, and a kernel with "
                    "CONFIG_SECCOMP_FILTER", "the system calls of a machine's threads are not "
                    "limited");
}

static void judge_landlock(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->landlock_abi >= LANDLOCK_ABI_TRUNCATE)
                ok(ret, "machines can be confined to folders (ABI %d)", h->landlock_abi);
        else if (h->landlock_abi > 0)
                bad(ret, DOCTOR_WARNING, "use Linux 6.2 or newer",
                    "machines can be confined to folders, but cut off files elsewhere (ABI %d)",
                    h->landlock_abi);
        else
                bad(ret, DOCTOR_WARNING, "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, "
                    "and 'landlock' in lsm= of its command line",
                    "machines reach all files of their user: the kernel lacks Landlock");
}

static void judge_user(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->is_root)
                bad(ret, DOCTOR_WARNING, "start machines as a user of group kvm, or with --user",
                    "machines would be root's");
        else
                ok(ret, "machines are not root's");
}

static void judge_runtime(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->runtime.code)
                bad(ret, DOCTOR_MISSING, h->runtime.text, "no machine can have a name");
        else if (!h->runtime_private)
                bad(ret, DOCTOR_WARNING, "make it yours, with mode 0700, or set VMM_RUNTIME_DIR "
                    "to a folder that is", "other users reach into the runtime folder");
        else
                ok(ret, "the runtime folder is writable, and nobody else's");
}

static void judge_pageserver(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->pageserver.code)
                bad(ret, DOCTOR_MISSING, h->pageserver.text,
                    "vmm revert --postcopy needs one that runs already (--pageserver)");
        else
                ok(ret, "the program is there");
}

static void judge_tap(const struct doctor_host *h, struct doctor_finding *ret)
{
        switch (h->tun_errno) {
        case 0:
                ok(ret, "/dev/net/tun can be used");
                return;
        case ENOENT:
        case ENODEV:
        case ENXIO:
                bad(ret, DOCTOR_WARNING, "load the module: modprobe tun", "there is no "
                    "/dev/net/tun: machines have no network");
                return;
        default:
                bad(ret, DOCTOR_WARNING, "give this user read and write access to it",
                    "/dev/net/tun: %s: machines have no network", strerror(h->tun_errno));
        }
}

static void judge_reflink(const struct doctor_host *h, struct doctor_finding *ret)
{
        if (h->nameless_errno)
                bad(ret, DOCTOR_WARNING, "name a folder that this user may write to",
                    "no file can be made in the folder (%s): disks have no overlays there",
                    strerror(h->nameless_errno));
        else if (h->reflink_errno)
                bad(ret, DOCTOR_WARNING, "keep disks on XFS or Btrfs",
                    "files in the folder cannot share blocks (%s): saved disks are copied",
                    strerror(h->reflink_errno));
        else
                ok(ret, "files in the folder can share blocks");
}

static void judge_clock(const struct doctor_host *h, struct doctor_finding *ret)
{
        bool fast = !strcmp(h->clocksource, "tsc") || !strcmp(h->clocksource, "kvm-clock");

        if (!h->tsc_steady)
                bad(ret, DOCTOR_WARNING, "use a host, or a setting of its hypervisor, whose CPU "
                    "has constant_tsc and nonstop_tsc",
                    "the TSC does not run evenly: clocks in guests go wrong");
        else if (!fast)
                bad(ret, DOCTOR_WARNING, "look up why the kernel gave up the TSC: "
                    "dmesg | grep -i tsc", "the clock source is '%s': time is slow to read",
                    h->clocksource);
        else
                ok(ret, "the TSC runs evenly; clock source %s", h->clocksource);
}

const struct doctor_check doctor_checks[DOCTOR_CHECKS] = {
        { "kernel", judge_kernel },
        { "kvm", judge_kvm },
        { "machine", judge_vm },
        { "speed", judge_speed },
        { "userfaultfd", judge_uffd },
        { "watching", judge_protect },
        { "pagemap", judge_scan },
        { "hugepages", judge_hugepages },
        { "memory", judge_memory },
        { "limits", judge_limits },
        { "seccomp", judge_seccomp },
        { "landlock", judge_landlock },
        { "user", judge_user },
        { "runtime", judge_runtime },
        { "pageserver", judge_pageserver },
        { "tap", judge_tap },
        { "reflink", judge_reflink },
        { "clock", judge_clock },
};

const char *doctor_verdict_name(enum doctor_verdict verdict)
{
        static const char *const names[] = {
                [DOCTOR_OK] = "ok", [DOCTOR_WARNING] = "warning", [DOCTOR_MISSING] = "missing",
        };

        static_assert(ARRAY_SIZE(names) == DOCTOR_VERDICTS, "a name for each");
        return names[verdict];
}
