/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox-calls.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define SYS_LANDLOCK_CREATE_RULESET 444
#define SYS_LANDLOCK_ADD_RULE 445
#define SYS_LANDLOCK_RESTRICT_SELF 446
#define NUMBER(number) { number, 0, { { 0 } } }

/* ---- bytes ---------------------------------------------------------------------- */

static const struct filter_call transfer[] = {
        CALL(read), CALL(readv), CALL(pread64), CALL(preadv), CALL(preadv2),
        CALL(write), CALL(writev), CALL(pwrite64), CALL(pwritev), CALL(pwritev2),
        CALL(lseek), CALL(fstat), CALL(fallocate), CALL(fadvise64), CALL(close),
};

static const struct filter_call flags[] = {
        CALL_WHEN(fcntl, 1, F_GETFL), CALL_WHEN(fcntl, 1, F_SETFL),
        CALL_WHEN(fcntl, 1, F_GETFD), CALL_WHEN(fcntl, 1, F_SETFD),
        CALL_WHEN(fcntl, 1, F_DUPFD_CLOEXEC),
        CALL_WHEN(fcntl, 1, F_OFD_GETLK), CALL_WHEN(fcntl, 1, F_OFD_SETLK),
        /* fstat() of a newer libc; an empty path is the descriptor */
        CALL_WHEN(newfstatat, 3, AT_EMPTY_PATH),
};

const struct filter_group sandbox_bytes[] = {
        GROUP("disks, taps, sockets, events: all by descriptors that are open", transfer),
        GROUP("what a descriptor is, and who else has it", flags),
        GROUPS_END,
};

/* ---- jobs ----------------------------------------------------------------------- */

static const struct filter_call files[] = {
        CALL(openat), CALL(newfstatat), CALL(stat), CALL(lstat), CALL(statx), CALL(access),
        CALL(faccessat), CALL(faccessat2), CALL(readlink), CALL(readlinkat), CALL(getcwd),
        CALL(getdents64), CALL(statfs), CALL(fstatfs), CALL(flock),
        CALL_WHEN(fcntl, 1, F_OFD_SETLKW),
};

static const struct filter_call making[] = {
        CALL(link), CALL(linkat), CALL(rename), CALL(renameat), CALL(renameat2), CALL(unlink),
        CALL(unlinkat), CALL(mkdir), CALL(mkdirat), CALL(ftruncate), CALL(fchmod),
        /* of a descriptor: INV-STAMP of disk/identity.h */
        CALL_WHEN(utimensat, 1, 0),
        CALL(umask), CALL(memfd_create), CALL_WHEN(fcntl, 1, F_ADD_SEALS),
        CALL_WHEN(fcntl, 1, F_GET_SEALS),
};

static const struct filter_call figures[] = {
        CALL(getrusage), CALL(sysinfo), CALL(uname), CALL(getuid), CALL(geteuid),
        CALL(getgid), CALL(getegid), CALL(getppid), CALL_WHEN(prlimit64, 2, 0),
        CALL(capget), CALL_WHEN(prctl, 0, PR_GET_DUMPABLE),
};

static const struct filter_call guards[] = {
        CALL(userfaultfd), CALL_WHEN(ioctl, 1, USERFAULTFD_IOC_NEW),
        CALL_WHEN(ioctl, 1, UFFDIO_API), CALL_WHEN(ioctl, 1, UFFDIO_REGISTER),
        CALL_WHEN(ioctl, 1, UFFDIO_UNREGISTER), CALL(eventfd2), CALL(mlock), CALL(munlock),
        CALL(mincore), CALL(msync),
};

static const struct filter_call helpers[] = {
        CALL_BITS(clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
        CALL_WHEN_BOTH(setpriority, IS(0, PRIO_PROCESS), IS(1, 0)), CALL(getpriority),
};

static const struct filter_call servers[] = {
        CALL(sendmsg), CALL(recvmsg), CALL(sendto), CALL(recvfrom), CALL(shutdown),
        CALL(getsockopt), CALL(setsockopt),
};

static const struct filter_call door[] = {
        CALL_WHEN(socket, 0, AF_UNIX), CALL(connect),
};

static const struct filter_call state[] = {
        CALL_WHEN(ioctl, 1, KVM_CHECK_EXTENSION), CALL_WHEN(ioctl, 1, KVM_ENABLE_CAP),
        CALL_WHEN(ioctl, 1, KVM_GET_CLOCK), CALL_WHEN(ioctl, 1, KVM_SET_CLOCK),
        CALL_WHEN(ioctl, 1, KVM_GET_IRQCHIP), CALL_WHEN(ioctl, 1, KVM_SET_IRQCHIP),
        CALL_WHEN(ioctl, 1, KVM_GET_PIT2), CALL_WHEN(ioctl, 1, KVM_SET_PIT2),
        CALL_WHEN(ioctl, 1, KVM_IRQ_LINE), CALL_WHEN(ioctl, 1, KVM_KVMCLOCK_CTRL),
        CALL_WHEN(ioctl, 1, KVM_GET_TSC_KHZ), CALL_WHEN(ioctl, 1, KVM_SET_TSC_KHZ),
        CALL_WHEN(ioctl, 1, KVM_GET_DEVICE_ATTR), CALL_WHEN(ioctl, 1, KVM_SET_DEVICE_ATTR),
        CALL_WHEN(ioctl, 1, KVM_HAS_DEVICE_ATTR),
        CALL_WHEN(ioctl, 1, KVM_GET_MSR_INDEX_LIST),
        CALL_WHEN(ioctl, 1, KVM_GET_SUPPORTED_CPUID),
        /* a rollback takes RAM from KVM and gives it back */
        CALL_WHEN(ioctl, 1, KVM_SET_USER_MEMORY_REGION),
};

static const struct filter_call vcpu_state[] = {
        CALL_WHEN(ioctl, 1, KVM_GET_REGS), CALL_WHEN(ioctl, 1, KVM_SET_REGS),
        CALL_WHEN(ioctl, 1, KVM_GET_SREGS), CALL_WHEN(ioctl, 1, KVM_SET_SREGS),
        CALL_WHEN(ioctl, 1, KVM_GET_SREGS2), CALL_WHEN(ioctl, 1, KVM_SET_SREGS2),
        CALL_WHEN(ioctl, 1, KVM_GET_MSRS), CALL_WHEN(ioctl, 1, KVM_SET_MSRS),
        CALL_WHEN(ioctl, 1, KVM_GET_FPU), CALL_WHEN(ioctl, 1, KVM_SET_FPU),
        CALL_WHEN(ioctl, 1, KVM_GET_XSAVE), CALL_WHEN(ioctl, 1, KVM_SET_XSAVE),
        CALL_WHEN(ioctl, 1, KVM_GET_XSAVE2),
        CALL_WHEN(ioctl, 1, KVM_GET_XCRS), CALL_WHEN(ioctl, 1, KVM_SET_XCRS),
        CALL_WHEN(ioctl, 1, KVM_GET_LAPIC), CALL_WHEN(ioctl, 1, KVM_SET_LAPIC),
        CALL_WHEN(ioctl, 1, KVM_GET_CPUID2), CALL_WHEN(ioctl, 1, KVM_SET_CPUID2),
        CALL_WHEN(ioctl, 1, KVM_GET_MP_STATE), CALL_WHEN(ioctl, 1, KVM_SET_MP_STATE),
        CALL_WHEN(ioctl, 1, KVM_GET_VCPU_EVENTS), CALL_WHEN(ioctl, 1, KVM_SET_VCPU_EVENTS),
        CALL_WHEN(ioctl, 1, KVM_GET_DEBUGREGS), CALL_WHEN(ioctl, 1, KVM_SET_DEBUGREGS),
        CALL_WHEN(ioctl, 1, KVM_GET_NESTED_STATE), CALL_WHEN(ioctl, 1, KVM_SET_NESTED_STATE),
        CALL_WHEN(ioctl, 1, KVM_GET_ONE_REG), CALL_WHEN(ioctl, 1, KVM_SET_ONE_REG),
        CALL_WHEN(ioctl, 1, KVM_TRANSLATE),
};

static const struct filter_call devices[] = {
        CALL_WHEN(ioctl, 1, TUNSETOFFLOAD), CALL_WHEN(ioctl, 1, TUNSETVNETHDRSZ),
        CALL_WHEN(ioctl, 1, TUNSETVNETLE), CALL_WHEN(ioctl, 1, TUNGETIFF),
};

const struct filter_group sandbox_job[] = {
        GROUP("images, disks and what they refer to, by name", files),
        GROUP("they are made under a name of their own, and published", making),
        GROUP("how large a host this is, and whose files are whose", figures),
        GROUP("a guard over guest memory, and the sweep's tables", guards),
        GROUP("crews of the store, which inherit all this, behind the guest", helpers),
        GROUP("the page server is asked", servers),
        GROUP("the client that clones gets memory, together with what is above", door),
        GROUP("the machine's state is read, or written by a rollback", state),
        GROUP("the same of each vCPU", vcpu_state),
        GROUP("a rollback tells taps what the driver of then had negotiated", devices),
        GROUPS_END,
};

/* ---- the event loop -------------------------------------------------------------- */

static const struct filter_call clients[] = {
        CALL(getsockname), CALL(getpeername), CALL(bind), CALL(listen), CALL(socketpair),
};

static const struct filter_call events[] = {
        CALL(epoll_create1), CALL(timerfd_create), CALL(timerfd_settime), CALL(pipe2),
        CALL(rt_sigaction),
};

static const struct filter_call terminal[] = {
        CALL_WHEN(ioctl, 1, TCGETS), CALL_WHEN(ioctl, 1, TCSETS), CALL_WHEN(ioctl, 1, TCSETSW),
        CALL_WHEN(ioctl, 1, TCSETSF), CALL_WHEN(ioctl, 1, TIOCGWINSZ),
};

static const struct filter_call server_end[] = {
        CALL(wait4), CALL(waitid),
};

static const struct filter_call narrower[] = {
        CALL_WHEN_BOTH(seccomp, IS(0, SECCOMP_SET_MODE_FILTER),
                       IS(1, SECCOMP_FILTER_FLAG_SPEC_ALLOW)),
        CALL_WHEN(prctl, 0, PR_SET_NO_NEW_PRIVS), NUMBER(SYS_LANDLOCK_RESTRICT_SELF),
};

const struct filter_group sandbox_loop[] = {
        GROUP("clients of the control socket and the console", clients),
        GROUP("libevent's loop and what it watches", events),
        GROUP("a console on the terminal, which is left as it was", terminal),
        GROUP("a private page server that has ended is buried", server_end),
        GROUPS_END,
};

/* ---- the starter ------------------------------------------------------------------ */

/* A page server inherits it; it gives up most of it at once (pageserver/sandbox.h). */
static const struct filter_call programs[] = {
        CALL(execve), CALL(clone), CALL(clone3), CALL(vfork), CALL(mmap), CALL(mprotect),
        CALL(arch_prctl), CALL(set_tid_address), CALL(open), CALL(prctl), CALL(capget),
        CALL(capset), CALL(setsid),
        CALL(close_range), CALL(dup), CALL(dup2), CALL(dup3), CALL(chdir), CALL(prlimit64),
        CALL(setpriority), CALL(getpgrp), CALL(getpgid), CALL(setpgid), CALL(fcntl),
        CALL(pidfd_open), CALL(pidfd_send_signal), CALL(inotify_init1), CALL(inotify_add_watch),
        CALL(chmod), CALL(tgkill), CALL_WHEN(kill, 1, SIGKILL),
        NUMBER(SYS_LANDLOCK_CREATE_RULESET), NUMBER(SYS_LANDLOCK_ADD_RULE),
};

static const struct filter_call machine[] = {
        CALL_WHEN(ioctl, 1, KVM_GET_API_VERSION), CALL_WHEN(ioctl, 1, KVM_CREATE_VM),
        CALL_WHEN(ioctl, 1, KVM_GET_VCPU_MMAP_SIZE), CALL_WHEN(ioctl, 1, KVM_CREATE_IRQCHIP),
        CALL_WHEN(ioctl, 1, KVM_CREATE_PIT2), CALL_WHEN(ioctl, 1, KVM_CREATE_VCPU),
        CALL_WHEN(ioctl, 1, KVM_SET_TSS_ADDR), CALL_WHEN(ioctl, 1, KVM_SET_IDENTITY_MAP_ADDR),
        CALL_WHEN(ioctl, 1, TUNSETIFF),
};

const struct filter_group sandbox_starter[] = {
        GROUP("a page server, as a program that starts", programs),
        GROUP("a machine, and its taps, when a process that is empty becomes a VM", machine),
        GROUP("a thread of this process, which inherits all this and narrows it", narrower),
        GROUPS_END,
};
