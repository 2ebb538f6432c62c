/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a confined thread can do its work and nothing that its list does not name;
 *       what only an intruder would call ends the process.
 * Method: one child for each call, which enters and then calls: its exit status is the
 *       errno, or the signal that ended it. Once more from a thread that is started from
 *       within the main thread's sandbox, where it must be a worker's. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/sandbox.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

/* errnos are positive, signals negative */
#define DIES (-SIGSYS)
#define DONE 0

typedef long call_fn(void);

static struct sandbox *enter(enum sandbox_role role, enum sandbox_mode mode)
{
        struct sandbox *s;
        struct err e;

        if (ps_sandbox_new(mode, &s, &e) < 0 || ps_sandbox_enter(s, role, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                _exit(255);
        }
        return s;
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

        if (child == 0) {
                enter(role, mode);
                _exit(call() < 0 ? errno : 0);
        }
        return end_of(child);
}

struct heir {
        const struct sandbox *sandbox;
        call_fn *call;
};

static void *narrows(void *arg)
{
        const struct heir *heir = arg;
        struct err e;

        if (ps_sandbox_narrow(heir->sandbox, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                _exit(255);
        }
        _exit(heir->call() < 0 ? errno : 0);
}

/* the same for a worker that the main thread starts from within its sandbox */
static int heir_outcome(call_fn *call)
{
        pid_t child = fork();

        if (child == 0) {
                struct heir heir = { .sandbox = enter(SANDBOX_MAIN, SANDBOX_ON), .call = call };
                pthread_t thread;

                if (pthread_create(&thread, NULL, narrows, &heir) == 0)
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
        p = realloc(p, 65 << 20);
        free(p);
        return 0;
}

static long reads(void)
{
        char byte;

        return pread(0, &byte, 1, 0) < 0 && errno != ESPIPE ? -1 : 0;
}

static long logs(void)
{
        return fprintf(stderr, "%s", "");
}

static long copies(void)
{
        return ioctl(-1, UFFDIO_COPY, NULL);
}

static long types_for_the_terminal(void)
{
        return ioctl(-1, TIOCSTI, "x");
}

static long maps(void)
{
        return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
               MAP_FAILED ? -1 : 0;
}

static long maps_code(void)
{
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
               MAP_FAILED ? -1 : 0;
}

static long aborts(void)
{
        abort();
}

static long signals_another(void)
{
        return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static long opens(void)
{
        return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static long opens_to_write(void)
{
        return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static long makes_memfd(void)
{
        return memfd_create("x", MFD_CLOEXEC);
}

/* as cache.c does */
static long shows_memfd(void)
{
        int fd = memfd_create("x", MFD_CLOEXEC);
        char name[64];

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        return fd < 0 || fchmod(fd, 0600) < 0 ? -1 : open(name, O_RDONLY | O_CLOEXEC);
}

static long local_socket(void)
{
        return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static long network_socket(void)
{
        return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
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

/* as alias.c has it; a kernel may refuse it later for another reason */
static long own_userfaultfd(void)
{
        long fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

        return fd < 0 && errno == ENOSYS ? -1 : 0;
}

static long full_userfaultfd(void)
{
        return syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static long forks(void)
{
        return fork();
}

static long runs_program(void)
{
        char *argv[] = { (char *)"true", NULL };

        return execv("/bin/true", argv);
}

static long traces(void)
{
        return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static long becomes_root(void)
{
        return setuid(0);
}

static long kills(void)
{
        return kill(getpid(), 0);
}

static long raises_limit(void)
{
        struct rlimit limit = { .rlim_cur = 64, .rlim_max = 64 };

        return setrlimit(RLIMIT_NOFILE, &limit);
}

static long reads_limit(void)
{
        struct rlimit limit;

        return getrlimit(RLIMIT_NOFILE, &limit);
}

static long narrows_itself(void)
{
        return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, NULL);
}

static long limits_all_threads(void)
{
        return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL);
}

static long listens_to_calls(void)
{
        return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                       SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_NEW_LISTENER, NULL);
}

static long steps_back(void)
{
        return setpriority(PRIO_PROCESS, 0, 10);
}

static long pushes_another_back(void)
{
        return setpriority(PRIO_PROCESS, (id_t)getppid(), 10);
}

/* ---- the lists ------------------------------------------------------------------ */

struct row {
        const char *name;
        call_fn *call;
        int worker;                     /* what comes of it there */
        int main;
};

static const struct row rows[] = {
        { "nothing", nothing, DONE, DONE },
        { "malloc", allocates, DONE, DONE },
        { "pread", reads, DONE, DONE },
        { "log", logs, DONE, DONE },
        { "UFFDIO_COPY", copies, EBADF, EBADF },
        { "another ioctl", types_for_the_terminal, ENOSYS, ENOSYS },
        { "mmap", maps, DONE, DONE },
        { "mmap of code", maps_code, ENOSYS, ENOSYS },
        { "abort", aborts, -SIGABRT, -SIGABRT },
        { "tgkill of another", signals_another, ENOSYS, ENOSYS },
        { "open", opens, ENOSYS, EACCES },
        { "open to write", opens_to_write, ENOSYS, ENOSYS },
        { "memfd", makes_memfd, ENOSYS, DONE },
        { "memfd read-only", shows_memfd, ENOSYS, DONE },
        { "unix socket", local_socket, ENOSYS, DONE },
        { "network socket", network_socket, ENOSYS, ENOSYS },
        { "thread", starts_thread, ENOSYS, DONE },
        { "own userfaultfd", own_userfaultfd, ENOSYS, DONE },
        { "full userfaultfd", full_userfaultfd, ENOSYS, ENOSYS },
        { "fork", forks, ENOSYS, ENOSYS },
        { "exec", runs_program, DIES, DIES },
        { "ptrace", traces, DIES, DIES },
        { "setuid", becomes_root, DIES, DIES },
        { "kill", kills, DIES, DIES },
        { "setrlimit", raises_limit, ENOSYS, ENOSYS },
        { "getrlimit", reads_limit, ENOSYS, DONE },
        { "narrower filter", narrows_itself, ENOSYS, EFAULT },
        { "filter for all threads", limits_all_threads, ENOSYS, ENOSYS },
        { "filter that tells", listens_to_calls, ENOSYS, ENOSYS },
        { "lower priority", steps_back, ENOSYS, DONE },
        { "another's priority", pushes_another_back, ENOSYS, ENOSYS },
};

static void lists(void)
{
        if (ps_sandbox_lacks()) {
                printf("not looked at: %s\n", ps_sandbox_lacks());
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                int worker = outcome(SANDBOX_WORKER, SANDBOX_ON, rows[i].call);
                int main_thread = outcome(SANDBOX_MAIN, SANDBOX_ON, rows[i].call);
                int heir = heir_outcome(rows[i].call);

                EXPECT_EQUAL(rows[i].name, worker, rows[i].worker);
                EXPECT_EQUAL(rows[i].name, main_thread, rows[i].main);
                EXPECT_EQUAL(rows[i].name, heir, rows[i].worker);
        }
}

static long has_new_privileges(void)
{
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : -1;
}

static long has_capabilities(void)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3];

        if (syscall(SYS_capget, &head, has) < 0)
                return -1;
        errno = EPROTO;
        return has[0].permitted || has[1].permitted ? 0 : -1;
}

static void off_and_log(void)
{
        CU_ASSERT(outcome(SANDBOX_WORKER, SANDBOX_NONE, has_capabilities) ==
                  (geteuid() ? EPROTO : DONE));
        CU_ASSERT(outcome(SANDBOX_WORKER, SANDBOX_OFF, has_capabilities) == EPROTO);
        CU_ASSERT(outcome(SANDBOX_WORKER, SANDBOX_OFF, has_new_privileges) == DONE);
        CU_ASSERT(outcome(SANDBOX_WORKER, SANDBOX_OFF, opens) == DONE);
        CU_ASSERT(outcome(SANDBOX_WORKER, SANDBOX_LOG, opens) == DONE);
        CU_ASSERT(outcome(SANDBOX_WORKER, SANDBOX_LOG, forks) == DONE);
}

static const CU_TestInfo cases[] = {
        { "each role's calls", lists },
        { "off and log refuse nothing", off_and_log },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("sandbox", cases);
}
