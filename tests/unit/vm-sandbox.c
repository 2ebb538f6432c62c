/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a thread of a VM can ask the kernel for what its role needs and for nothing else;
 *       what only an intruder would call ends the process.
 * Method: one child for each call and role, which enters and then calls: its exit status is
 *       the errno, or the signal that ended it. Once more in a thread that is started for one
 *       that has entered, where it must be the same. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/sandbox.h"
#include "vmm/starter.h"

#define ROLES (SANDBOX_STARTER + 1)

typedef long call_fn(void);

static void give_up(const struct err *e)
{
        fprintf(stderr, "%s\n", e->text);
        _exit(255);
}

static int end_of(pid_t child)
{
        int status = 0;

        CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child);
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* the child's whole life: 0 or the errno of the call */
static int outcome(enum sandbox_role role, enum sandbox_mode mode, call_fn *call)
{
        pid_t child = fork();
        struct sandbox *s;
        struct err e;

        if (child == 0) {
                if (sandbox_new(mode, &s, &e) < 0 || sandbox_enter(s, role, &e) < 0)
                        give_up(&e);
                _exit(call() < 0 ? errno : 0);
        }
        return end_of(child);
}

static void *calls(void *arg)
{
        call_fn *const *call = arg;

        _exit((*call)() < 0 ? errno : 0);
}

/* the same in a thread that the event loop has started when it has entered */
static int outcome_of_thread(enum sandbox_role role, call_fn *call)
{
        pid_t child = fork();
        const struct starter_thread t = {
                .role = role, .name = "tested", .run = calls, .ctx = &call,
        };
        struct starter *s;
        struct err e;
        pthread_t thread;

        if (child == 0) {
                if (starter_new(SANDBOX_ON, &s, &e) < 0 ||
                    starter_enter(s, SANDBOX_LOOP, &e) < 0)
                        give_up(&e);
                if (starter_start(s, &t, &thread) == 0)
                        pthread_join(thread, NULL);
                _exit(255);
        }
        return end_of(child);
}

/* ---- calls -------------------------------------------------------------------- */

static long nothing(void)
{
        return 0;
}

static long allocates(void)
{
        char *volatile p = malloc(64 << 20);

        if (!p)
                return -1;
        memset(p, 1, 64 << 20);
        free(p);
        return 0;
}

static long logs(void)
{
        return fprintf(stderr, "%s", "");
}

static long aborts(void)
{
        abort();
}

static long opens(void)
{
        return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static long opens_to_write(void)
{
        return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static long unlinks(void)
{
        return unlink("/no/such/file");
}

static long runs_program(void)
{
        char *argv[] = { (char *)"program", NULL };

        return execv("/no/such/program", argv);
}

static long forks(void)
{
        return fork();
}

static void *thread(void *arg)
{
        return arg;
}

static long starts_thread(void)
{
        pthread_t t;

        errno = pthread_create(&t, NULL, thread, NULL);
        return errno ? -1 : pthread_join(t, NULL);
}

static long network_socket(void)
{
        return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static long local_socket(void)
{
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static long connects(void)
{
        const struct sockaddr_un to = { .sun_family = AF_UNIX };

        return connect(-1, (const struct sockaddr *)&to, sizeof(to));
}

static long binds(void)
{
        const struct sockaddr_un to = { .sun_family = AF_UNIX };

        return bind(-1, (const struct sockaddr *)&to, sizeof(to));
}

static long maps_code(void)
{
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
               MAP_FAILED ? -1 : 0;
}

static long makes_code(void)
{
        void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return p == MAP_FAILED ? -1 : mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static long runs_guest(void)
{
        return ioctl(-1, KVM_RUN, 0);
}

static long sets_registers(void)
{
        return ioctl(-1, KVM_SET_REGS, NULL);
}

static long makes_machine(void)
{
        return ioctl(-1, KVM_CREATE_VM, 0);
}

static long discards(void)
{
        return ioctl(-1, BLKDISCARD, NULL);
}

static long flushes(void)
{
        return fdatasync(-1);
}

static long writes(void)
{
        return pwrite(-1, "x", 1, 0);
}

static long protects(void)
{
        return ioctl(-1, UFFDIO_WRITEPROTECT, NULL);
}

/* a kernel may refuse it later for another reason */
static long userfault(void)
{
        long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

        return fd < 0 && errno == ENOSYS ? -1 : 0;
}

static long types_for_the_terminal(void)
{
        return ioctl(-1, TIOCSTI, "x");
}

static long traces(void)
{
        return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long kills(void)
{
        return kill(getpid(), 0);
}

static long signals_another(void)
{
        return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static long becomes_root(void)
{
        return setuid(0);
}

static long mounts(void)
{
        return mount("none", "/no/such/folder", "tmpfs", 0, NULL);
}

static long leaves_namespace(void)
{
        return unshare(CLONE_NEWUSER);
}

static long loads_filter(void)
{
        return syscall(SYS_bpf, 0, NULL, 0);
}

static long makes_ring(void)
{
        return syscall(SYS_io_uring_setup, 1, NULL);
}

static long becomes_dumpable(void)
{
        return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long narrows_itself(void)
{
        return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, NULL);
}

static long steps_back(void)
{
        return setpriority(PRIO_PROCESS, 0, 10);
}

static long raises_limit(void)
{
        const struct rlimit limit = { .rlim_cur = 64, .rlim_max = 64 };

        return setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- the table ------------------------------------------------------------------ */

/* What comes of a call: done; not on the list; the end; allowed, but of no descriptor or file */
enum { DONE = 0, REFUSED = ENOSYS, DIES = -SIGSYS, NO_FD = EBADF, NO_FILE = ENOENT };

#define ALL(what) { what, what, what, what, what, what, what, what }

static const struct row {
        const char *name;
        call_fn *call;
        int want[ROLES];
} rows[] = {
        /* vcpu device disk guard copy job loop starter; files as before a VM is settled */
        { "nothing", nothing, ALL(DONE) },
        { "malloc", allocates, ALL(DONE) },
        { "log", logs, ALL(DONE) },
        { "abort", aborts, ALL(-SIGABRT) },
        { "open", opens,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, EACCES, EACCES, DONE } },
        { "open to write", opens_to_write,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, EACCES, EACCES, DONE } },
        { "unlink", unlinks,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, NO_FILE, NO_FILE, NO_FILE } },
        { "exec", runs_program, { DIES, DIES, DIES, DIES, DIES, DIES, DIES, NO_FILE } },
        { "fork", forks,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE } },
        { "thread", starts_thread,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE, DONE, DONE } },
        { "network socket", network_socket, ALL(REFUSED) },
        { "local socket", local_socket,
          { REFUSED, DONE, REFUSED, REFUSED, REFUSED, DONE, DONE, DONE } },
        { "connect", connects,
          { REFUSED, NO_FD, REFUSED, REFUSED, REFUSED, NO_FD, NO_FD, NO_FD } },
        { "bind", binds,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, NO_FD, NO_FD } },
        { "mmap of code", maps_code,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE } },
        { "mprotect to code", makes_code,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE } },
        { "KVM_RUN", runs_guest,
          { NO_FD, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, NO_FD } },
        { "KVM_SET_REGS", sets_registers,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, NO_FD, NO_FD, NO_FD } },
        { "KVM_CREATE_VM", makes_machine,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, NO_FD } },
        { "BLKDISCARD", discards,
          { REFUSED, REFUSED, NO_FD, REFUSED, REFUSED, NO_FD, NO_FD, NO_FD } },
        { "fdatasync", flushes,
          { REFUSED, REFUSED, NO_FD, REFUSED, REFUSED, NO_FD, NO_FD, NO_FD } },
        { "pwrite", writes, { REFUSED, NO_FD, NO_FD, NO_FD, NO_FD, NO_FD, NO_FD, NO_FD } },
        { "UFFDIO_WRITEPROTECT", protects,
          { REFUSED, REFUSED, REFUSED, NO_FD, NO_FD, NO_FD, NO_FD, NO_FD } },
        { "userfaultfd", userfault,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE, DONE, DONE } },
        { "another ioctl", types_for_the_terminal, ALL(REFUSED) },
        { "ptrace", traces, ALL(DIES) },
        { "kill", kills, { DIES, DIES, DIES, DIES, DIES, DIES, DIES, REFUSED } },
        { "tgkill of another", signals_another,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE } },
        { "setuid", becomes_root, ALL(DIES) },
        { "mount", mounts, ALL(DIES) },
        { "unshare", leaves_namespace, ALL(DIES) },
        { "bpf", loads_filter, ALL(DIES) },
        { "io_uring", makes_ring, ALL(DIES) },
        { "prctl", becomes_dumpable,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE } },
        { "narrower filter", narrows_itself,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, EFAULT } },
        { "lower priority", steps_back,
          { REFUSED, REFUSED, REFUSED, REFUSED, DONE, DONE, DONE, DONE } },
        { "setrlimit", raises_limit,
          { REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, DONE } },
};

static const char *const roles[ROLES] = {
        "vcpu", "device", "disk", "guard", "copy", "job", "loop", "starter",
};

static void lists(void)
{
        if (sandbox_lacks()) {
                printf("not looked at: %s\n", sandbox_lacks());
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                for (unsigned r = 0; r < ROLES; r++) {
                        enum sandbox_role role = (enum sandbox_role)r;
                        char row[64];

                        snprintf(row, sizeof(row), "%s, %s", rows[i].name, roles[r]);
                        EXPECT_EQUAL(row, outcome(role, SANDBOX_ON, rows[i].call),
                                     rows[i].want[r]);
                        EXPECT_EQUAL(row, outcome_of_thread(role, rows[i].call),
                                     rows[i].want[r]);
                }
        }
}

static long has_new_privileges(void)
{
        errno = EPERM;                  /* that is how it ends if not */
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : -1;
}

static void off_and_log(void)
{
        CU_ASSERT(outcome(SANDBOX_VCPU, SANDBOX_OFF, has_new_privileges) == DONE);
        CU_ASSERT(outcome(SANDBOX_VCPU, SANDBOX_OFF, opens) == DONE);
        CU_ASSERT(outcome(SANDBOX_VCPU, SANDBOX_LOG, opens) == DONE);
        CU_ASSERT(outcome(SANDBOX_VCPU, SANDBOX_LOG, forks) == DONE);
        CU_ASSERT(outcome(SANDBOX_LOOP, SANDBOX_ON, has_new_privileges) != DONE);
}

static void modes(void)
{
        static const char *const texts[] = { "off", "log", "on" };
        enum sandbox_mode mode;

        for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
                CU_ASSERT(sandbox_mode_parse(texts[i], &mode, NULL) == 0 && mode == i);
                EXPECT_TEXT(texts[i], sandbox_mode_name(mode), texts[i]);
        }
        CU_ASSERT(sandbox_mode_parse("maybe", &mode, NULL) == -EINVAL);
        CU_ASSERT(sandbox_mode_parse("", &mode, NULL) == -EINVAL);
}

static const CU_TestInfo cases[] = {
        { "each role's calls", lists },
        { "off and log refuse nothing", off_and_log },
        { "modes by name", modes },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("vm-sandbox", cases);
}
