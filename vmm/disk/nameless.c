/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/nameless.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

#define MODE 0600
#define DIR_LAST "/var/tmp"

/* Where there is no O_TMPFILE it has a name for a moment. */
static int open_and_unlink(const char *dir)
{
        AUTO_FREE char *name = NULL;
        int fd;

        if (asprintf(&name, "%s/.vmm-XXXXXX", dir) < 0) {
                name = NULL;
                errno = ENOMEM;
                return -1;
        }
        fd = mkostemp(name, O_CLOEXEC);         /* 0600 */
        if (fd >= 0)
                unlink(name);
        return fd;
}

static int open_in(const char *dir)
{
        int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, MODE);

        if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
                return open_and_unlink(dir);
        return fd;
}

static char *folder_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

/* Where another folder may do: this one is full of rights, not of data. */
static bool is_elsewhere_better(int errnum)
{
        return errnum == EACCES || errnum == EROFS || errnum == EPERM || errnum == ENOENT;
}

int nameless_file(const char *path, const char *dir, int *ret_fd, struct err *e)
{
        AUTO_FREE char *folder = folder_of(path);
        const char *const dirs[] = { dir ? dir : folder, getenv("TMPDIR"), DIR_LAST };
        int fd = -1;

        if (!folder)
                return err_msg(e, ENOMEM, "no memory for the name of a folder");
        for (unsigned i = 0; i < (dir ? 1 : ARRAY_SIZE(dirs)); i++) {
                if (!dirs[i] || !dirs[i][0])
                        continue;
                fd = open_in(dirs[i]);
                if (fd >= 0 || !is_elsewhere_better(errno))
                        break;
        }
        if (fd < 0)
                return err_set(e, errno, "make a file without a name in '%s'",
                               dir ? dir : folder);
        *ret_fd = fd;
        return 0;
}
