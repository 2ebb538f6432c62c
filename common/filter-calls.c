/* SPDX-License-Identifier: Apache-2.0 */
#include "common/filter-calls.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include "common/filter.h"

/* ---- living ------------------------------------------------------------------- */

static const struct filter_call waiting[] = {
        CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_pwait2), CALL(epoll_ctl),
        CALL(poll), CALL(ppoll), CALL(futex), CALL(nanosleep), CALL(clock_nanosleep),
        CALL(restart_syscall), CALL(sched_yield),
};

static const struct filter_call memory[] = {
        CALL(brk), CALL(munmap), CALL(mremap), CALL(madvise),
        CALL_BITS(mmap, 2, PROT_EXEC, 0), CALL_BITS(mprotect, 2, PROT_EXEC, 0),
};

static const struct filter_call threads[] = {
        CALL(set_robust_list), CALL(rseq), CALL(gettid), CALL(getpid), CALL(membarrier),
        CALL(sched_getaffinity), CALL(sched_setaffinity), CALL(getcpu),
        CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(sigaltstack),
        CALL(exit), CALL(exit_group), CALL_WHEN(prctl, 0, PR_SET_NAME),
        CALL_WHEN(tgkill, 0, FILTER_PID),               /* abort(), pthread_kill() */
};

static const struct filter_call clocks[] = {
        CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(time),
        CALL(getrandom),
};

const struct filter_group filter_living[] = {
        GROUP("for faults, each other, the next tick", waiting),
        GROUP("malloc and tables; nothing that could be run", memory),
        GROUP("to live and to end; placement on CPUs", threads),
        GROUP("where the vDSO has no answer; malloc's random numbers", clocks),
        GROUPS_END,
};

/* ---- deadly --------------------------------------------------------------------- */

static const struct filter_call programs[] = {
        CALL(execve), CALL(execveat), CALL(fork), CALL(vfork),
};

static const struct filter_call privileges[] = {
        CALL(capset),
};

static const struct filter_call lives[] = {
        CALL(kill),
};

static const struct filter_call others[] = {
        CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(pidfd_getfd),
        CALL(tkill), CALL(open_by_handle_at),
};

static const struct filter_call doors[] = {
        CALL(bpf), CALL(io_uring_setup), CALL(perf_event_open),
        CALL(keyctl), CALL(add_key), CALL(request_key), CALL(modify_ldt), CALL(iopl),
        CALL(ioperm), CALL(init_module), CALL(finit_module), CALL(delete_module),
        CALL(kexec_load), CALL(kexec_file_load),
};

static const struct filter_call identity[] = {
        CALL(setuid), CALL(setgid), CALL(setreuid), CALL(setregid), CALL(setresuid),
        CALL(setresgid), CALL(setfsuid), CALL(setfsgid), CALL(setgroups),
        CALL(unshare), CALL(setns), CALL(chroot), CALL(pivot_root), CALL(mount), CALL(umount2),
};

const struct filter_group filter_programs[] = {
        GROUP("another program", programs),
        GROUP("what one gives up when it starts", privileges),
        GROUPS_END,
};

const struct filter_group filter_kills[] = {
        GROUP("other processes' lives", lives),
        GROUPS_END,
};

const struct filter_group filter_deadly[] = {
        GROUP("other processes' memory and descriptors", others),
        GROUP("what kernels are broken through", doors),
        GROUP("another user or another view of the system", identity),
        GROUPS_END,
};
