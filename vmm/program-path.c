/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/program-path.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"

#define PLACES 3

struct program {
        const char *name;
        const char *variable;
        const char *beside[PLACES];     /* seen from the folder of our own program */
        const char *installed;
};

static const struct program pageserver = {
        "pageserver", "SNAPBACK_PAGESERVER",
        {
                "pageserver",                   /* all in one folder */
                "../pageserver/pageserver",     /* a build tree */
                "../sbin/pageserver",           /* installed, wherever that is */
        },
        SNAPBACK_SBINDIR "/pageserver",
};

static const struct program qemu_snapshot = {
        "qemu-snapshot", "SNAPBACK_QEMU_SNAPSHOT",
        {
                "qemu-snapshot",
                "../pageserver/adapters/qemu/qemu-snapshot",
                "../bin/qemu-snapshot",
        },
        SNAPBACK_BINDIR "/qemu-snapshot",
};

static bool is_program(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool find_beside(const struct program *p, char *buf, size_t room)
{
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (n <= 0)
                return false;
        self[n] = '\0';

        const char *folder = dirname(self);

        for (size_t i = 0; i < ARRAY_SIZE(p->beside); i++) {
                if ((size_t)snprintf(buf, room, "%s/%s", folder, p->beside[i]) < room &&
                    is_program(buf))
                        return true;
        }
        return false;
}

static int find(const struct program *p, char *buf, size_t room, struct err *e)
{
        const char *chosen = getenv(p->variable);

        if (chosen && *chosen) {
                if ((size_t)snprintf(buf, room, "%s", chosen) >= room || !is_program(chosen))
                        return err_msg(e, ENOENT, "%s='%s' is not a program", p->variable,
                                       chosen);
                return 0;
        }
        if (find_beside(p, buf, room))
                return 0;
        if ((size_t)snprintf(buf, room, "%s", p->installed) >= room || !is_program(buf))
                return err_msg(e, ENOENT, "the %s program is not at '%s': install it or set %s",
                               p->name, p->installed, p->variable);
        return 0;
}

int pageserver_path(char *buf, size_t room, struct err *e)
{
        return find(&pageserver, buf, room, e);
}

int qemu_snapshot_path(char *buf, size_t room, struct err *e)
{
        return find(&qemu_snapshot, buf, room, e);
}
