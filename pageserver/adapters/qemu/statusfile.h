/* SPDX-License-Identifier: Apache-2.0 */
/* statusfile.h - name and locks of a status file, for both sides; see status.h. */
#ifndef PAGESERVER_ADAPTERS_QEMU_STATUSFILE_H
#define PAGESERVER_ADAPTERS_QEMU_STATUSFILE_H

#include <limits.h>
#include <stdbool.h>

#include "common/err.h"

/* Bytes of the file, by what their lock means. */
enum statusfile_lock {
        STATUSFILE_ALIVE = 0,           /* write-locked by a saver that lives */
        STATUSFILE_HEIR = 1,            /* write-locked by who replaces a dead one's file */
};

/* "IMAGE.status", ret has PATH_MAX bytes. -ENAMETOOLONG */
int statusfile_path(const char *image, char *ret, struct err *e);
/* fd: open for writing. -EAGAIN when somebody else has it */
int statusfile_lock(int fd, enum statusfile_lock lock);
bool statusfile_is_alive(int fd);
/* Does the path still name the file that was opened? */
bool statusfile_is_named(int fd, const char *path);
/* Opens what is there; a link or anything but a file is refused. -ENOENT without text. */
int statusfile_open(const char *path, int flags, int *ret_fd, struct err *e);

#endif
