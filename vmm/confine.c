/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/confine.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/landlock.h"

int confine_add(struct confine *c, const char *folder, struct err *e)
{
        AUTO_FREE char *real = realpath(folder, NULL);
        struct stat st;

        if (!real || stat(real, &st) < 0)
                return err_set(e, errno, "confine a VM to '%s'", folder);
        if (!S_ISDIR(st.st_mode))
                return err_msg(e, ENOTDIR, "a VM is confined to folders: '%s' is a file", folder);
        if (c->n == CONFINE_MAX)
                return err_msg(e, EINVAL, "a VM is confined to %d folders at most: name one "
                               "above several of them", CONFINE_MAX);
        c->folder[c->n++] = ptr_take(&real);
        return 0;
}

void confine_fini(struct confine *c)
{
        while (c->n)
                free(c->folder[--c->n]);
}

int confine_can_be(const struct confine *c, enum sandbox_mode mode, struct err *e)
{
        if (!c || !c->n)
                return 0;
        if (mode != SANDBOX_ON)
                return err_msg(e, EINVAL, "--confine needs the sandbox: leave out --sandbox %s",
                               sandbox_mode_name(mode));
        /* a build with sanitizers limits nothing, and has to be tested */
        if (!SANITIZED && !landlock_abi())
                return err_msg(e, EOPNOTSUPP, "--confine needs Landlock, which this kernel lacks: "
                               "boot one of Linux 5.13 or later with landlock in lsm=, or leave "
                               "out --confine");
        return 0;
}

static bool is_beneath(const char *path, const char *folder)
{
        size_t n = strlen(folder);

        return !strcmp(folder, "/") ||
               (!strncmp(path, folder, n) && (path[n] == '\0' || path[n] == '/'));
}

/* as "'/a', '/b'" */
static void name_folders(const struct confine *c, char *buf, size_t room)
{
        size_t at = 0;

        buf[0] = '\0';
        for (unsigned i = 0; i < c->n && at < room; i++)
                at += (size_t)snprintf(buf + at, room - at, "%s'%s'", i ? ", " : "",
                                       c->folder[i]);
}

int confine_check(const struct confine *c, const char *name, const char *path, struct err *e)
{
        const char *slash = strrchr(path, '/');
        AUTO_FREE char *folder = !slash ? strdup(".")
                                        : strndup(path, slash == path ? 1 : (size_t)(slash - path));
        AUTO_FREE char *real = folder ? realpath(folder, NULL) : NULL;
        char folders[256];

        if (!c || c->n == 0)
                return 0;
        if (!folder)
                return err_msg(e, ENOMEM, "no memory for the name of a folder");
        if (!real)
                return err_set(e, errno, "find folder '%s'", folder);
        for (unsigned i = 0; i < c->n; i++) {
                if (is_beneath(real, c->folder[i]))
                        return 0;
        }
        name_folders(c, folders, sizeof(folders));
        return err_msg(e, EACCES, "VM '%s' makes no files in '%s': it is confined to %s; name a "
                       "file beneath that, or start the VM with --confine %s besides", name, real,
                       folders, real);
}

int confine_explain(const struct confine *c, int rc, struct err *e)
{
        size_t n;

        if (rc != -EACCES || !c || c->n == 0 || !e || strstr(e->text, "--confine"))
                return rc;
        n = strlen(e->text);
        snprintf(e->text + n, sizeof(e->text) - n, " (the VM is confined to %s%s: see --confine)",
                 c->folder[0], c->n > 1 ? " and others" : "");
        return rc;
}
