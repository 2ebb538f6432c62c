/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/isolate.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

/* ---- who ---------------------------------------------------------------------- */

/* -1 is "no change" to the kernel, so nobody's number */
static bool parse_id(const char *text, unsigned *ret)
{
        char *end;

        if (*text < '0' || *text > '9')
                return false;
        errno = 0;

        unsigned long n = strtoul(text, &end, 10);

        if (*end || errno || n >= UINT32_MAX)
                return false;
        *ret = (unsigned)n;
        return true;
}

static int find_user(const char *name, struct account *ret, struct err *e)
{
        const struct passwd *user;

        *ret = ACCOUNT_OWN;
        user = parse_id(name, &ret->uid) ? getpwuid(ret->uid) : getpwnam(name);
        if (user)
                *ret = (struct account){ .uid = user->pw_uid, .gid = user->pw_gid };
        return ret->uid == (uid_t)-1 ? err_msg(e, EINVAL, "there is no user '%s'", name) : 0;
}

static int find_group(const char *name, gid_t *ret, struct err *e)
{
        if (parse_id(name, ret))
                return 0;

        const struct group *group = getgrnam(name);

        if (!group)
                return err_msg(e, EINVAL, "there is no group '%s'", name);
        *ret = group->gr_gid;
        return 0;
}

int account_parse(const char *text, struct account *ret, struct err *e)
{
        AUTO_FREE char *user = strdup(text);
        struct account found;

        if (!user)
                return err_set(e, ENOMEM, "user '%s'", text);

        char *group = strchr(user, ':');

        if (group)
                *group++ = '\0';

        int rc = find_user(user, &found, e);

        if (rc == 0 && group)
                rc = find_group(group, &found.gid, e);
        if (rc < 0)
                return rc;
        if (found.gid == (gid_t)-1)
                return err_msg(e, EINVAL, "user %s is in no list of users: say its group as well, "
                               "as in %s:%s", user, user, user);
        *ret = found;
        return 0;
}

/* ends behind the last capability, or at the first where it may not */
void isolate_bounds(void)
{
        for (int cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
                ;
}

static int become(const struct account *a, struct err *e)
{
        if (a->uid == (uid_t)-1 || (a->uid == geteuid() && a->gid == getegid() && geteuid() != 0))
                return 0;
        if (geteuid() != 0)
                return err_msg(e, EPERM, "only root can become user %u: start the server as root, "
                               "or as that user", (unsigned)a->uid);
        if (a->uid != 0)
                isolate_bounds();               /* while it may */
        if (setgroups(0, NULL) < 0 || setresgid(a->gid, a->gid, a->gid) < 0 ||
            setresuid(a->uid, a->uid, a->uid) < 0)
                return err_set(e, errno, "cannot become user %u, group %u", (unsigned)a->uid,
                               (unsigned)a->gid);
        return 0;
}

/* ---- what it may ---------------------------------------------------------------- */

int isolate_thread(struct err *e)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

        if (syscall(SYS_capset, &head, none) < 0)
                return err_set(e, errno, "cannot give up capabilities");
        return 0;
}

static int close_process(struct err *e)
{
        static const struct rlimit no_core;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_set(e, errno, "cannot give up new privileges");
        /* after the change of user, which sets it anew */
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0)
                return err_set(e, errno, "cannot forbid dumps of guests' memory");
        return 0;
}

/* Each client brings many descriptors, and its image cache is a file to the kernel: one
 * that exceeds an inherited limit shall be an error of that client, no signal. */
static void raise_limits(void)
{
        static const int wanted[] = { RLIMIT_NOFILE, RLIMIT_FSIZE };
        struct rlimit limit;

        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
                if (getrlimit(wanted[i], &limit) == 0) {
                        limit.rlim_cur = limit.rlim_max;
                        setrlimit(wanted[i], &limit);
                }
        }
        signal(SIGXFSZ, SIG_IGN);
}

int isolate_process(const struct account *account, struct err *e)
{
        raise_limits();

        int rc = become(account, e);

        return rc < 0 ? rc : close_process(e);
}
