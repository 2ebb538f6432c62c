/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sandbox.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/isolate.h"
#include "pageserver/sandbox-filters.h"

/* as in the makefile, which has sandbox_filters made */
#define FILTERS (HAVE_SECCOMP && !SANITIZED)

/* what to do about it is the same */
#define CANNOT_FILES "cannot give up files (--sandbox off does without)"

struct sandbox {
        enum sandbox_mode mode;
        int ruleset_fd;                         /* Landlock's; -1 = files are not limited */
        struct sock_fprog filter[SANDBOX_ROLES]; /* len 0 = calls are not limited */
};

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

/* A ruleset without rules: nothing may be opened, run or made. Sanitizers read /proc.
 * -1 = not here. */
static int make_ruleset(int *ret_fd, struct err *e)
{
        const struct ruleset none = { .handled_access_fs = NAMED_FILES };

        *ret_fd = -1;
        if (SANITIZED || !has_landlock())
                return 0;
        *ret_fd = (int)syscall(SYS_landlock_create_ruleset, &none, sizeof(none), 0);
        return *ret_fd < 0 ? err_set(e, errno, CANNOT_FILES) : 0;
}

static int deny_files(const struct sandbox *s, struct err *e)
{
        if (s->ruleset_fd >= 0 && syscall(SYS_landlock_restrict_self, s->ruleset_fd, 0) < 0)
                return err_set(e, errno, CANNOT_FILES);
        return 0;
}

/* ---- system calls ------------------------------------------------------------------- */

static int make_filter(struct sandbox *s, enum sandbox_role role, struct err *e)
{
#if FILTERS
        return filter_copy(&sandbox_filters[s->mode][role], &s->filter[role], e);
#else
        (void)s, (void)role, (void)e;
        return 0;
#endif
}

/* ---- the whole ---------------------------------------------------------------------- */

int sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e)
{
        struct sandbox *s = calloc(1, sizeof(*s));
        int rc = 0;

        if (!s)
                return err_set(e, ENOMEM, "sandbox");
        s->mode = mode;
        s->ruleset_fd = -1;
        if (mode == SANDBOX_ON)
                rc = make_ruleset(&s->ruleset_fd, e);
        if (rc == 0 && mode >= SANDBOX_LOG)
                rc = make_filter(s, SANDBOX_WORKER, e);
        if (rc == 0 && mode >= SANDBOX_LOG)
                rc = make_filter(s, SANDBOX_MAIN, e);
        if (rc < 0) {
                sandbox_free(s);
                return rc;
        }
        *ret = s;
        return 0;
}

void sandbox_free(struct sandbox *s)
{
        if (!s)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(s->filter); i++)
                free(s->filter[i].filter);
        fd_close(&s->ruleset_fd);
        free(s);
}

int sandbox_enter(const struct sandbox *s, enum sandbox_role role, struct err *e)
{
        if (s->mode == SANDBOX_NONE)
                return 0;

        int rc = isolate_thread(e);

        if (rc < 0 || s->mode == SANDBOX_OFF)
                return rc;
        /* both ask for it of who has no privileges */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_set(e, errno, "cannot give up new privileges");
        rc = deny_files(s, e);
        return rc < 0 ? rc : filter_load(&s->filter[role], e);
}

int sandbox_narrow(const struct sandbox *s, struct err *e)
{
        return filter_load(&s->filter[SANDBOX_WORKER], e);
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
