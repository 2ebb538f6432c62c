/* SPDX-License-Identifier: Apache-2.0 */
/* program-path.h - where the other programs are that a command starts.
 *
 * The one that an environment variable names, else the one beside our own program (a
 * build tree, or all in one folder), else the installed one. Absolute, but for what a
 * variable says. -ENOENT and a sentence with the remedy.
 */
#ifndef VMM_PROGRAM_PATH_H
#define VMM_PROGRAM_PATH_H

#include <stddef.h>

#include "common/err.h"

/* $SNAPBACK_PAGESERVER */
int pageserver_path(char *buf, size_t room, struct err *e);
/* $SNAPBACK_QEMU_SNAPSHOT */
int qemu_snapshot_path(char *buf, size_t room, struct err *e);

#endif
