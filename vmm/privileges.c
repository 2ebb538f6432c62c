/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/check.h"

/* the files of a chain, its disks, sockets of the console, vsock and control; a server's
 * pipes, which inherits this */
#define FILES_MAX 4096

#define CAP(number) (1u << (number))
/* all below 32 */
#define FILES_OF_OTHERS (CAP(CAP_DAC_OVERRIDE) | CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER))

/* What root may keep. Before Linux 6.1 saves need another to watch writes: there is no
 * /dev/userfaultfd. */
static uint32_t needed(enum sandbox_role role)
{
        switch (role) {
        case SANDBOX_STARTER:
                return UINT32_MAX;
        case SANDBOX_JOB:
                return FILES_OF_OTHERS | CAP(CAP_SYS_PTRACE);
        case SANDBOX_LOOP:
                return FILES_OF_OTHERS;
        default:
                return 0;
        }
}

int privileges_drop(enum sandbox_role role, struct err *e)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct has[_LINUX_CAPABILITY_U32S_3] = { 0 };
        uint32_t keep = needed(role);

        if (keep == UINT32_MAX)
                return 0;
        if (syscall(SYS_capget, &head, has) < 0)
                return err_set(e, errno, "ask for capabilities");
        if (!has[1].permitted && !(has[0].permitted & ~keep))
                return 0;
        has[0] = (struct __user_cap_data_struct){
                .effective = has[0].effective & keep, .permitted = has[0].permitted & keep,
        };
        has[1] = (struct __user_cap_data_struct){ 0 };
        return syscall(SYS_capset, &head, has) < 0 ? err_set(e, errno, "give up capabilities") : 0;
}

int privileges_become(const char *user, struct err *e)
{
        const struct passwd *p = getpwnam(user);

        if (!p)
                return err_msg(e, EINVAL, "there is no user '%s'", user);
        if (p->pw_uid == geteuid() && geteuid() != 0)
                return 0;
        if (geteuid() != 0)
                return err_msg(e, EPERM, "only root can become user '%s': leave out --user, or "
                               "start as root", user);
        if (initgroups(user, p->pw_gid) < 0 || setresgid(p->pw_gid, p->pw_gid, p->pw_gid) < 0 ||
            setresuid(p->pw_uid, p->pw_uid, p->pw_uid) < 0)
                return err_set(e, errno, "become user '%s'", user);
        /* a change of user takes away our own /proc/self, by which files get their names */
        if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
                return err_set(e, errno, "become user '%s'", user);
        return 0;
}

int privileges_limit(struct err *e)
{
        static const struct rlimit no_core;
        struct rlimit files;

        if (setrlimit(RLIMIT_CORE, &no_core) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
                return err_set(e, errno, "forbid dumps of the guest's memory");
        files.rlim_max = MIN(files.rlim_max, FILES_MAX);
        files.rlim_cur = files.rlim_max;
        return setrlimit(RLIMIT_NOFILE, &files) < 0
               ? err_set(e, errno, "limit the number of open files") : 0;
}
