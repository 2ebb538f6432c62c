/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pageserver-path.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int pageserver_path(char *buf, size_t room, struct err *e)
{
        const char *chosen = getenv("SNAPBACK_PAGESERVER");
        char self[PATH_MAX];
        ssize_t n;

        if (chosen && *chosen) {
                if ((size_t)snprintf(buf, room, "%s", chosen) >= room || access(buf, X_OK) < 0)
                        return err_msg(e, ENOENT, "SNAPBACK_PAGESERVER='%s' is not a program", chosen);
                return 0;
        }
        n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (n > 0) {
                self[n] = '\0';
                if ((size_t)snprintf(buf, room, "%s/pageserver", dirname(self)) < room &&
                    access(buf, X_OK) == 0)
                        return 0;
        }
        if ((size_t)snprintf(buf, room, "%s", SNAPBACK_SBINDIR "/pageserver") >= room ||
            access(buf, X_OK) < 0)
                return err_msg(e, ENOENT, "the pageserver program is not at '%s': install it or set "
                               "SNAPBACK_PAGESERVER", SNAPBACK_SBINDIR "/pageserver");
        return 0;
}
