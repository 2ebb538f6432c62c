/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"

static bool is_there(int folder, const char *name, int fd)
{
        struct stat opened, there;

        return fstat(fd, &opened) == 0 &&
               fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
               opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

int image_folder_open(const char *image, int image_fd, struct image_folder *ret, struct err *e)
{
        AUTO_FREE char *path = realpath(image, NULL);
        char *slash = path ? strrchr(path, '/') : NULL;
        AUTO_FREE char *name = slash ? strdup(slash + 1) : NULL;

        if (!name)
                return err_set(e, errno, "find the folder of '%s'", image);
        slash[slash == path] = '\0';

        AUTO_FD fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return err_set(e, errno, "open the folder of '%s'", image);
        if (image_fd >= 0 && !is_there(fd, name, image_fd))
                return err_msg(e, ESTALE, "'%s' was moved or replaced just now: try again", image);
        *ret = (struct image_folder){ ptr_take(&path), fd_take(&fd) };
        return 0;
}

void image_folder_close(struct image_folder *f)
{
        free(f->path);
        fd_close(&f->fd);
}
