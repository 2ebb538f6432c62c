/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sandbox.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/isolate.h"

#if HAVE_SECCOMP && !SANITIZED
#define FILTERS 1
#include "pageserver/sandbox-calls.h"
#else
#define FILTERS 0
#endif

/* ---- files by name ---------------------------------------------------------------- */

/* linux/landlock.h is younger than the kernels that we build on */
struct ruleset {
        uint64_t handled_access_fs;
};

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif
#define LANDLOCK_VERSION_ONLY 1u
/* EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, MAKE_*: the bits of version 1 without
 * REMOVE_*, because the server removes its socket */
#define NAMED_FILES 0x1fcfu

static bool has_landlock(void)
{
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION_ONLY) > 0;
}

/* A ruleset without rules: nothing may be opened, run or made. Sanitizers read /proc. */
static int deny_files(struct err *e)
{
        const struct ruleset none = { .handled_access_fs = NAMED_FILES };

        if (SANITIZED || !has_landlock())
                return 0;

        AUTO_FD fd = (int)syscall(SYS_landlock_create_ruleset, &none, sizeof(none), 0);

        if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
                return err_set(e, errno, "cannot give up files (--sandbox off does without)");
        return 0;
}

/* ---- system calls ------------------------------------------------------------------- */

#if FILTERS

static int add_groups(scmp_filter_ctx filter, uint32_t action, const struct sandbox_group *group)
{
        for (; group->reason; group++) {
                for (size_t i = 0; i < group->n; i++) {
                        const struct sandbox_call *c = &group->call[i];
                        int rc = seccomp_rule_add_array(filter, action, c->number, c->limits,
                                                        &c->limit);

                        if (rc < 0)
                                return rc;
                }
        }
        return 0;
}

static int fill(scmp_filter_ctx filter, enum sandbox_role role, bool deadly)
{
        int rc = add_groups(filter, SCMP_ACT_ALLOW, sandbox_every);

        if (rc == 0 && role == SANDBOX_MAIN)
                rc = add_groups(filter, SCMP_ACT_ALLOW, sandbox_main);
        if (rc == 0 && deadly)
                rc = add_groups(filter, SCMP_ACT_KILL_PROCESS, sandbox_deadly);
        if (rc == 0)                    /* abort() */
                rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
        return rc;
}

/* Binary search instead of a list of comparisons, which kernels before 5.11 walk at
 * every call. And no mitigation against code of ours that speculates past stores: it
 * would slow down decompression on kernels before 5.16, and we run nobody's code. */
static void tune(scmp_filter_ctx filter)
{
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
        seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
}

static int limit_calls(enum sandbox_role role, enum sandbox sandbox, struct err *e)
{
        bool on = sandbox == SANDBOX_ON;
        scmp_filter_ctx filter = seccomp_init(on ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_LOG);

        if (!filter)
                return err_set(e, ENOMEM, "filter of system calls");
        tune(filter);

        int rc = fill(filter, role, on);

        if (rc == 0)
                rc = seccomp_load(filter);
        seccomp_release(filter);
        return rc < 0 ? err_set(e, -rc, "cannot limit system calls (--sandbox off does without)")
                      : 0;
}

#else

static int limit_calls(enum sandbox_role role, enum sandbox sandbox, struct err *e)
{
        (void)role;
        (void)sandbox;
        (void)e;
        return 0;
}

#endif

int sandbox_enter(enum sandbox_role role, enum sandbox sandbox, struct err *e)
{
        if (sandbox == SANDBOX_NONE)
                return 0;

        int rc = isolate_thread(e);

        if (rc < 0 || sandbox == SANDBOX_OFF)
                return rc;
        /* both ask for it of who has no privileges */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_set(e, errno, "cannot give up new privileges");

        rc = sandbox == SANDBOX_ON ? deny_files(e) : 0;
        return rc < 0 ? rc : limit_calls(role, sandbox, e);
}

const char *sandbox_lacks(void)
{
        if (SANITIZED)
                return "system calls and files are not limited, because this build has "
                       "sanitizers, which need others";
        if (!FILTERS)
                return "system calls are not limited: this build lacks libseccomp";
        if (!has_landlock())
                return "files are not out of reach: this kernel lacks Landlock";
        return NULL;
}
