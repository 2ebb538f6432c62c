/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a process that was isolated has no privileges, no dumps and no way back, and can
 *       still show a cache read-only (INV-READONLY); what a program of its could gain goes
 *       without what it has. Names of accounts.
 * Method: one child for each, whose exit status is an errno. What needs root is looked at
 *       where the test is root's. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/isolate.h"
#include "tests/unit/suite.h"

#define DONE 0

typedef long call_fn(void);

/* the child's whole life: 0 or its errno */
static int outcome(call_fn *call)
{
        int status = 0;
        pid_t child = fork();

        if (child == 0)
                _exit(call() < 0 ? errno : 0);
        CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
        return WEXITSTATUS(status);
}

/* as cache.c does */
static long shows_memfd(void)
{
        int fd = memfd_create("x", MFD_CLOEXEC);
        char name[64];

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        return fd < 0 || fchmod(fd, 0600) < 0 ? -1 : open(name, O_RDONLY | O_CLOEXEC);
}

static bool has_capabilities(void)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3];

        return syscall(SYS_capget, &head, has) == 0 && (has[0].permitted || has[1].permitted);
}

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
        CU_ASSERT(outcome(isolated) == DONE);
        CU_ASSERT(outcome(geteuid() ? isolate_fails : someone_else) == (geteuid() ? EPERM : DONE));
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

/* nothing is left that a program of root's could bring; what is there stays */
static long bounds(void)
{
        isolate_bounds();
        errno = EPROTO;
        for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
                if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) > 0 && geteuid() == 0)
                        return -1;
        }
        return geteuid() == 0 && !has_capabilities() ? -1 : 0;
}

static void programs(void)
{
        CU_ASSERT(outcome(bounds) == DONE);
}

static const CU_TestInfo cases[] = {
        { "a process without privileges", process },
        { "what a program could gain", programs },
        { "names of accounts", accounts },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("isolate", cases);
}
