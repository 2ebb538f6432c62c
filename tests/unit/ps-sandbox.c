/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a confined thread can do its work and nothing that its list does not name;
 *       what only an intruder would call ends the process; a process that was isolated
 *       has no privileges, no dumps and no way back, and can still show a cache
 *       read-only (INV-READONLY). Names of accounts.
 * Method: one child for each call, which enters and then calls: its exit status is the
 *       errno, or the signal that ended it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
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
#include "pageserver/isolate.h"
#include "pageserver/sandbox.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

/* errnos are positive, signals negative */
#define DIES (-SIGSYS)
#define DONE 0

typedef long call_fn(void);

/* the child's whole life: 0 or the errno of the call */
static int outcome(enum sandbox_role role, enum sandbox sandbox, call_fn *call)
{
        struct err e;
        int status;
        pid_t child = fork();

        if (child == 0) {
                if (sandbox_enter(role, sandbox, &e) < 0) {
                        fprintf(stderr, "%s\n", e.text);
                        _exit(255);
                }
                _exit(call() < 0 ? errno : 0);
        }
        CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child);
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
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
};

static void lists(void)
{
        if (sandbox_lacks()) {
                printf("not looked at: %s\n", sandbox_lacks());
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                int worker = outcome(SANDBOX_WORKER, SANDBOX_ON, rows[i].call);
                int main_thread = outcome(SANDBOX_MAIN, SANDBOX_ON, rows[i].call);

                EXPECT_EQUAL(rows[i].name, worker, rows[i].worker);
                EXPECT_EQUAL(rows[i].name, main_thread, rows[i].main);
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

/* ---- the process ------------------------------------------------------------------ */

static const struct account someone = { .uid = 4711, .gid = 4712 };

static long isolated_as(const struct account *account)
{
        static const char *const none[] = { "CapPrm:\t0000000000000000\n",
                                            "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n" };
        char status[8192];
        struct rlimit core;
        struct err e;
        FILE *f = fopen("/proc/self/status", "re");

        if (isolate_process(account, &e) < 0 || isolate_thread(&e) < 0 || !f)
                return -1;

        size_t n = fread(status, 1, sizeof(status) - 1, f);

        status[n] = '\0';
        fclose(f);
        errno = EPROTO;
        for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
                if (!strstr(status, none[i]))
                        return -1;
        }
        if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 || getrlimit(RLIMIT_CORE, &core) < 0 ||
            core.rlim_max != 0)
                return -1;
        return shows_memfd();
}

static long isolated(void)
{
        return isolated_as(&ACCOUNT_OWN);
}

static long someone_else(void)
{
        gid_t group[1];

        if (isolated_as(&someone) < 0)
                return -1;
        errno = EPROTO;
        if (getuid() != someone.uid || geteuid() != someone.uid || getgid() != someone.gid ||
            getgroups(1, group) != 0)
                return -1;
        return setresuid(0, 0, 0) < 0 && errno == EPERM ? 0 : -1;
}

static long isolate_fails(void)
{
        struct err e;
        int rc = isolate_process(&someone, &e);

        errno = -rc;
        return rc;
}

static void process(void)
{
        CU_ASSERT(outcome(SANDBOX_MAIN, SANDBOX_NONE, isolated) == DONE);
        CU_ASSERT(outcome(SANDBOX_MAIN, SANDBOX_NONE, geteuid() ? isolate_fails : someone_else) ==
                  (geteuid() ? EPERM : DONE));
}

static void accounts(void)
{
        static const char *const wrong[] = {
                "", ":", "nobody-of-this-name", "root:", "root:no-such-group", "4294967295",
                "-1", "0x10:0", "12345678901234567890:1", "root:-1", "3999999999",
        };
        struct account a;
        struct err e;

        CU_ASSERT(account_parse("root", &a, &e) == 0 && a.uid == 0 && a.gid == 0);
        CU_ASSERT(account_parse("0", &a, &e) == 0 && a.uid == 0 && a.gid == 0);
        CU_ASSERT(account_parse("root:17", &a, &e) == 0 && a.uid == 0 && a.gid == 17);
        CU_ASSERT(account_parse("3999999999:root", &a, &e) == 0 && a.uid == 3999999999u &&
                  a.gid == 0);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                a.uid = 1;
                CU_ASSERT(account_parse(wrong[i], &a, &e) == -EINVAL && a.uid == 1);
                CU_ASSERT(strlen(e.text) > 0);
        }
}

static const CU_TestInfo cases[] = {
        { "each role's calls", lists },
        { "off and log refuse nothing", off_and_log },
        { "a process without privileges", process },
        { "names of accounts", accounts },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("sandbox", cases);
}
