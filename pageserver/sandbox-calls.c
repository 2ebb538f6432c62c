/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sandbox-calls.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/check.h"
#include "pageserver/sandbox-filters.h"

#ifndef UFFDIO_POISON
#define UFFDIO_POISON 0xc020aa08u       /* Linux 6.6 */
#endif

#define IS(arg, want)              { arg, SCMP_CMP_EQ, want, 0 }
#define CALL(name)                 { SCMP_SYS(name), 0, { { 0 } } }
#define CALL_WHEN(name, arg, want) { SCMP_SYS(name), 1, { IS(arg, want) } }
#define CALL_WHEN_BOTH(name, first, second) { SCMP_SYS(name), 2, { first, second } }
#define CALL_BITS(name, arg, mask, want) \
        { SCMP_SYS(name), 1, { { arg, SCMP_CMP_MASKED_EQ, mask, want } } }
#define GROUP(reason, calls)       { reason, calls, ARRAY_SIZE(calls) }

/* ---- every thread ------------------------------------------------------------- */

static const struct sandbox_call transfer[] = {
        CALL(read), CALL(readv), CALL(pread64), CALL(preadv), CALL(preadv2),
        CALL(write), CALL(writev), CALL(pwrite64), CALL(pwritev), CALL(pwritev2),
        CALL(lseek), CALL(fstat), CALL(fallocate), CALL(fadvise64), CALL(close),
};

static const struct sandbox_call faults[] = {
        CALL_WHEN(ioctl, 1, UFFDIO_COPY),
        CALL_WHEN(ioctl, 1, UFFDIO_ZEROPAGE),
        CALL_WHEN(ioctl, 1, UFFDIO_WAKE),
        CALL_WHEN(ioctl, 1, UFFDIO_CONTINUE),
        CALL_WHEN(ioctl, 1, UFFDIO_POISON),
        CALL_WHEN(ioctl, 1, UFFDIO_WRITEPROTECT),
        /* what a client passes on */
        CALL(recvfrom),
        /* before Linux 6.10 */
        CALL_WHEN(fcntl, 1, F_GETFL), CALL_WHEN(fcntl, 1, F_SETFL),
};

static const struct sandbox_call waiting[] = {
        CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_pwait2), CALL(epoll_ctl),
        CALL(poll), CALL(ppoll), CALL(futex), CALL(nanosleep), CALL(clock_nanosleep),
        CALL(restart_syscall), CALL(sched_yield),
};

static const struct sandbox_call memory[] = {
        CALL(brk), CALL(munmap), CALL(mremap), CALL(madvise),
        CALL_BITS(mmap, 2, PROT_EXEC, 0), CALL_BITS(mprotect, 2, PROT_EXEC, 0),
};

static const struct sandbox_call threads[] = {
        CALL(set_robust_list), CALL(rseq), CALL(gettid), CALL(getpid), CALL(membarrier),
        CALL(sched_getaffinity), CALL(sched_setaffinity), CALL(getcpu),
        CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(sigaltstack),
        CALL(exit), CALL(exit_group), CALL_WHEN(prctl, 0, PR_SET_NAME),
        CALL_WHEN(tgkill, 0, SANDBOX_PID),              /* abort() */
};

static const struct sandbox_call clocks[] = {
        CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(time),
        CALL(getrandom),
};

const struct sandbox_group sandbox_every[] = {
        GROUP("images, caches, events: all by descriptors that are open", transfer),
        GROUP("pages into clients, and their threads woken", faults),
        GROUP("for faults, each other, the next tick", waiting),
        GROUP("malloc and tables; nothing that could be run", memory),
        GROUP("to live and to end; placement on CPUs", threads),
        GROUP("where the vDSO has no answer; malloc's random numbers", clocks),
        { NULL, NULL, 0 },
};

/* ---- the main thread besides ------------------------------------------------------ */

static const struct sandbox_call clients[] = {
        CALL(accept), CALL(accept4), CALL(recvmsg), CALL(sendmsg),
        CALL(sendto), CALL(shutdown), CALL(getsockopt), CALL(setsockopt), CALL(getsockname),
        CALL(getpeername), CALL_WHEN(ioctl, 1, FIONREAD), CALL(pidfd_open),
        CALL(pidfd_send_signal),
};

static const struct sandbox_call manager[] = {
        CALL_WHEN(socket, 0, AF_UNIX),
};

/* openat: the cache again for clients, read-only (INV-READONLY). Landlock lets it pass
 * because a memfd is in no file system that can be mounted. */
static const struct sandbox_call caches[] = {
        CALL(memfd_create), CALL(ftruncate), CALL(fchmod), CALL(dup),
        CALL_WHEN(fcntl, 1, F_DUPFD_CLOEXEC), CALL_WHEN(fcntl, 1, F_ADD_SEALS),
        CALL_WHEN(fcntl, 1, F_GET_SEALS), CALL_WHEN(fcntl, 1, F_GETFD),
        CALL_WHEN(fcntl, 1, F_SETFD),
        CALL(readlink), CALL(readlinkat), CALL(newfstatat), CALL(statx), CALL(fstatfs),
        CALL_WHEN(openat, 2, O_RDONLY | O_CLOEXEC),
};

/* its faults are never the kernel's, so no privilege is behind it */
static const struct sandbox_call alias[] = {
        CALL_WHEN(userfaultfd, 0, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY),
        CALL_WHEN(ioctl, 1, UFFDIO_API), CALL_WHEN(ioctl, 1, UFFDIO_REGISTER),
};

static const struct sandbox_call loop[] = {
        CALL(epoll_create1), CALL(eventfd2), CALL(timerfd_create), CALL(timerfd_settime),
        CALL(pipe2), CALL(rt_sigaction), CALL(socketpair),
};

static const struct sandbox_call figures[] = {
        CALL(getrusage), CALL(sysinfo), CALL(uname), CALL(getuid), CALL(geteuid),
        CALL(getgid), CALL(getegid), CALL(getppid), CALL_WHEN(prlimit64, 2, 0),
};

/* another filter only takes away; TSYNC is for others, and none is to listen */
static const struct sandbox_call helpers[] = {
        CALL_BITS(clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
        CALL_WHEN_BOTH(seccomp, IS(0, SECCOMP_SET_MODE_FILTER),
                       IS(1, SECCOMP_FILTER_FLAG_SPEC_ALLOW)),
        CALL_WHEN_BOTH(setpriority, IS(0, PRIO_PROCESS), IS(1, 0)),
};

static const struct sandbox_call leaving[] = {
        CALL(lstat), CALL(unlink), CALL(unlinkat),
};

const struct sandbox_group sandbox_main[] = {
        GROUP("clients come, talk, are known by their process, and go", clients),
        GROUP("readiness and descriptors for the service manager", manager),
        GROUP("image caches are made and shown; a descriptor is what it should be", caches),
        GROUP("the server's own mapping of a cache, to fill it", alias),
        GROUP("libevent's loop and what it watches", loop),
        GROUP("what is told of the server; no limit is changed", figures),
        GROUP("a thread of this process, which inherits all this and narrows it", helpers),
        GROUP("the socket is removed", leaving),
        { NULL, NULL, 0 },
};

/* ---- deadly --------------------------------------------------------------------- */

static const struct sandbox_call programs[] = {
        CALL(execve), CALL(execveat), CALL(fork), CALL(vfork),
};

static const struct sandbox_call others[] = {
        CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(pidfd_getfd),
        CALL(kill), CALL(tkill), CALL(open_by_handle_at),
};

static const struct sandbox_call doors[] = {
        CALL(bpf), CALL(io_uring_setup), CALL(perf_event_open),
        CALL(keyctl), CALL(add_key), CALL(request_key), CALL(modify_ldt), CALL(iopl),
        CALL(ioperm), CALL(init_module), CALL(finit_module), CALL(delete_module),
        CALL(kexec_load), CALL(kexec_file_load),
};

static const struct sandbox_call identity[] = {
        CALL(setuid), CALL(setgid), CALL(setreuid), CALL(setregid), CALL(setresuid),
        CALL(setresgid), CALL(setfsuid), CALL(setfsgid), CALL(setgroups), CALL(capset),
        CALL(unshare), CALL(setns), CALL(chroot), CALL(pivot_root), CALL(mount), CALL(umount2),
};

const struct sandbox_group sandbox_deadly[] = {
        GROUP("another program", programs),
        GROUP("other processes' memory, descriptors and lives", others),
        GROUP("what kernels are broken through", doors),
        GROUP("another user or another view of the system", identity),
        { NULL, NULL, 0 },
};
