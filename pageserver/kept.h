/* SPDX-License-Identifier: Apache-2.0 */
/* kept.h - named descriptors that a supervisor keeps for its server.
 *
 * Ownership: the table's. A name may stand for several.
 * Threads:   one.
 */
#ifndef PAGESERVER_KEPT_H
#define PAGESERVER_KEPT_H

#include <stddef.h>
#include <sys/types.h>

#include "common/wire/fdnote.h"

struct kept_fd {
        int fd;
        char *name;
};

struct kept {
        struct kept_fd *of;
        size_t n;
        size_t room;
        size_t max;
};

/* takes *fd; -ENOSPC when there are max, -ENOMEM */
int kept_add(struct kept *k, const char *name, int *fd);
void kept_remove(struct kept *k, const char *name);
void kept_fini(struct kept *k);

/* In a process that was forked for it: becomes the program with the descriptors first
 * (names) and then all that is kept, from 3 on, as sd_listen_fds(3) says. Does not
 * return but when that fails: a negative errno. */
int kept_exec(const struct kept *k, const struct kept_fd *first, size_t n, const char *program,
              char *const *argv);

#endif
