/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/check.h"
#include "vmm/privileges.h"
#include "vmm/sandbox-files.h"
#include "vmm/sandbox-filters.h"

/* as in the makefile, which has role_filters made */
#define FILTERS (HAVE_SECCOMP && !SANITIZED)

struct sandbox {
        enum sandbox_mode mode;
        struct sandbox_files *files;            /* NULL = not limited */
        struct sock_fprog filter[SANDBOX_ROLES]; /* len 0 = calls are not limited */
};

static const char *const modes[] = { "off", "log", "on" };

static int make_filter(struct sandbox *s, enum sandbox_role role, struct err *e)
{
#if FILTERS
        return filter_copy(&role_filters[s->mode][role], &s->filter[role], e);
#else
        (void)s, (void)role, (void)e;
        return 0;
#endif
}

int sandbox_mode_parse(const char *text, enum sandbox_mode *ret, struct err *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
                if (strcmp(text, modes[i]))
                        continue;
                *ret = (enum sandbox_mode)i;
                return 0;
        }
        return err_msg(e, EINVAL, "sandbox '%s' is neither 'on' nor 'off' nor 'log'", text);
}

const char *sandbox_mode_name(enum sandbox_mode mode)
{
        return modes[mode];
}

int sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e)
{
        struct sandbox *s = calloc(1, sizeof(*s));
        int rc = 0;

        if (!s)
                return err_set(e, ENOMEM, "sandbox");
        s->mode = mode;
        for (unsigned role = 0; rc == 0 && role < SANDBOX_ROLES; role++)
                rc = make_filter(s, (enum sandbox_role)role, e);
        if (rc == 0 && mode == SANDBOX_ON)
                rc = sandbox_files_new(&s->files, e);
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
        sandbox_files_free(s->files);
        free(s);
}

int sandbox_enter(const struct sandbox *s, enum sandbox_role role, struct err *e)
{
        if (!s || s->mode == SANDBOX_OFF)
                return 0;
        ASSERT(role < SANDBOX_ROLES);
        /* seccomp and Landlock ask for it of who has no privileges */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_set(e, errno, "cannot give up new privileges");

        int rc = privileges_drop(role, e);

        if (rc == 0 && s->files)
                rc = sandbox_files_enter(s->files, role, e);
        return rc == 0 ? filter_load(&s->filter[role], e) : rc;
}

void sandbox_confine(struct sandbox *s, const struct confine *confine)
{
        if (s->files)
                sandbox_files_confine(s->files, confine);
}

int sandbox_settle(struct sandbox *s, const struct vm *vm, struct err *e)
{
        return s->files ? sandbox_files_settle(s->files, vm, e) : 0;
}

int sandbox_narrow(const struct sandbox *s, struct err *e)
{
        int rc = s->mode == SANDBOX_OFF ? 0 : privileges_drop(SANDBOX_JOB, e);

        return rc == 0 && s->files ? sandbox_files_enter(s->files, SANDBOX_JOB, e) : rc;
}

const char *sandbox_lacks(void)
{
        if (SANITIZED)
                return "system calls are not limited, because this build has sanitizers, which "
                       "need others";
        if (!FILTERS)
                return "system calls are not limited: this build lacks libseccomp";
        return sandbox_files_lack();
}
