/* SPDX-License-Identifier: Apache-2.0 */
/* publish.h - a new file appears under its name complete and durable, or not
 * at all.
 *
 * The file has no name while it is written (O_TMPFILE); where the file system
 * cannot do that, one of the form .NAME.XXXXXX.tmp in the same folder. Its
 * mode is 0600 whatever the umask: what we write holds the memory of guests.
 *
 * Threads: publish_fd() may be used by many; the rest by one at a time.
 * Errors:  a sentence that names the file.
 */
#ifndef COMMON_PUBLISH_H
#define COMMON_PUBLISH_H

#include <stdbool.h>

#include "common/err.h"

struct publish;

/* -EEXIST when path exists and !force; force replaces regular files only. */
int publish_new(const char *path, bool force, struct publish **ret, struct err *e);
int publish_fd(const struct publish *p);
const char *publish_path(const struct publish *p);
/* fdatasync, name, fsync of the folder. Once. */
int publish_commit(struct publish *p, struct err *e);
/* The first of these steps alone, where several files are to get their names together. */
int publish_settle(struct publish *p, struct err *e);
/* Takes a committed file's name away again, if it still has it. */
void publish_retract(struct publish *p);
/* Leaves nothing behind of a file that was not committed. */
void publish_free(struct publish *p);

/* "write 'PATH': why", with the remedy for a full disk */
int publish_write_error(const struct publish *p, int rc, struct err *e);

#endif
