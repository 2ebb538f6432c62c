/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sandbox.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "common/check.h"
#include "common/landlock.h"
#include "pageserver/isolate.h"
#include "pageserver/sandbox-filters.h"

/* as in the makefile, which has sandbox_filters made */
#define FILTERS (HAVE_SECCOMP && !SANITIZED)

/* what to do about it is the same */
#define CANNOT_FILES "cannot give up files (--sandbox off does without)"

struct sandbox {
        enum sandbox_mode mode;
        struct landlock files;
        struct sock_fprog filter[SANDBOX_ROLES]; /* len 0 = calls are not limited */
};

/* ---- files by name ---------------------------------------------------------------- */

/* All that Landlock had from the start, without REMOVE_*: the server removes its socket. A
 * ruleset without rules: nothing may be opened, run or made. Sanitizers read /proc. */
#define NAMED_FILES (LANDLOCK_EXECUTE | LANDLOCK_WRITE_FILE | LANDLOCK_READ_FILE | \
                     LANDLOCK_READ_DIR | LANDLOCK_MAKE_CHAR | LANDLOCK_MAKE_DIR | \
                     LANDLOCK_MAKE_REG | LANDLOCK_MAKE_SOCK | LANDLOCK_MAKE_FIFO | \
                     LANDLOCK_MAKE_BLOCK | LANDLOCK_MAKE_SYM)

static int make_ruleset(struct landlock *ret, struct err *e)
{
        int rc = SANITIZED ? 0 : landlock_new(NAMED_FILES, false, ret, e);

        return rc < 0 ? err_in(e, rc, CANNOT_FILES) : 0;
}

static int deny_files(const struct sandbox *s, struct err *e)
{
        int rc = landlock_enter(&s->files, e);

        return rc < 0 ? err_in(e, rc, CANNOT_FILES) : 0;
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

int ps_sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e)
{
        struct sandbox *s = calloc(1, sizeof(*s));
        int rc = 0;

        if (!s)
                return err_set(e, ENOMEM, "sandbox");
        s->mode = mode;
        s->files = LANDLOCK_NONE;
        if (mode == SANDBOX_ON)
                rc = make_ruleset(&s->files, e);
        if (rc == 0 && mode >= SANDBOX_LOG)
                rc = make_filter(s, SANDBOX_WORKER, e);
        if (rc == 0 && mode >= SANDBOX_LOG)
                rc = make_filter(s, SANDBOX_MAIN, e);
        if (rc < 0) {
                ps_sandbox_free(s);
                return rc;
        }
        *ret = s;
        return 0;
}

void ps_sandbox_free(struct sandbox *s)
{
        if (!s)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(s->filter); i++)
                free(s->filter[i].filter);
        landlock_close(&s->files);
        free(s);
}

int ps_sandbox_enter(const struct sandbox *s, enum sandbox_role role, struct err *e)
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

int ps_sandbox_narrow(const struct sandbox *s, struct err *e)
{
        return filter_load(&s->filter[SANDBOX_WORKER], e);
}

const char *ps_sandbox_lacks(void)
{
        if (SANITIZED)
                return "system calls and files are not limited, because this build has "
                       "sanitizers, which need others";
        if (!FILTERS)
                return "system calls are not limited: this build lacks libseccomp";
        if (!landlock_abi())
                return "files are not out of reach: this kernel lacks Landlock";
        return NULL;
}
