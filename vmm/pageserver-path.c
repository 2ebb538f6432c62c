/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pageserver-path.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"

#define INSTALLED SNAPBACK_SBINDIR "/pageserver"

/* Where a page server may lie, seen from the folder of our own program. */
static const char *const beside[] = {
        "pageserver",                   /* all in one folder */
        "../pageserver/pageserver",     /* a build tree */
        "../sbin/pageserver",           /* installed, wherever that is */
};

static bool is_program(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool find_beside(char *buf, size_t room)
{
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (n <= 0)
                return false;
        self[n] = '\0';

        const char *folder = dirname(self);

        for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
                if ((size_t)snprintf(buf, room, "%s/%s", folder, beside[i]) < room &&
                    is_program(buf))
                        return true;
        }
        return false;
}

int pageserver_path(char *buf, size_t room, struct err *e)
{
        const char *chosen = getenv("SNAPBACK_PAGESERVER");

        if (chosen && *chosen) {
                if ((size_t)snprintf(buf, room, "%s", chosen) >= room || !is_program(chosen))
                        return err_msg(e, ENOENT, "SNAPBACK_PAGESERVER='%s' is not a program",
                                       chosen);
                return 0;
        }
        if (find_beside(buf, room))
                return 0;
        if ((size_t)snprintf(buf, room, "%s", INSTALLED) >= room || !is_program(buf))
                return err_msg(e, ENOENT, "the pageserver program is not at '%s': install it or "
                               "set SNAPBACK_PAGESERVER", INSTALLED);
        return 0;
}
