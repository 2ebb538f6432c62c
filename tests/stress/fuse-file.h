/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-file.h - a file on a file system that answers when it is told to: FUSE without a
 * library, by a process of its own. Nothing of it is cached by the kernel. Reading it and
 * closing it are what hangs.
 *
 * Threads: none but the caller's yet when it is made.
 */
#ifndef TESTS_STRESS_FUSE_FILE_H
#define TESTS_STRESS_FUSE_FILE_H

#include <stdbool.h>

#include "common/err.h"

struct fuse_file;

/* Of the bytes of backing_fd, which is borrowed. An error where this user cannot mount. */
int fuse_file_new(int backing_fd, struct fuse_file **ret, struct err *e);
/* opened for reading; the caller closes it */
int fuse_file_open(struct fuse_file *f);
/* At first it does. What has waited for it is answered at once. */
void fuse_file_answers(struct fuse_file *f, bool answers);
/* Whatever waits for an answer fails. The end of this process does the same. */
void fuse_file_free(struct fuse_file *f);

#endif
