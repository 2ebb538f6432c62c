/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "common/check.h"

struct sandbox {
        enum sandbox_mode mode;
};

int sandbox_new(enum sandbox_mode mode, struct sandbox **ret, struct err *e)
{
        struct sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                return err_set(e, ENOMEM, "sandbox");
        s->mode = mode;
        *ret = s;
        return 0;
}

void sandbox_free(struct sandbox *s)
{
        free(s);
}

int sandbox_enter(const struct sandbox *s, enum sandbox_role role, struct err *e)
{
        if (!s || s->mode == SANDBOX_OFF)
                return 0;
        ASSERT(role <= SANDBOX_STARTER);
        /* seccomp and Landlock ask for it of who has no privileges */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return err_set(e, errno, "cannot give up new privileges");
        return 0;
}

const char *sandbox_lacks(void)
{
        return NULL;
}
