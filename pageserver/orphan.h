/* SPDX-License-Identifier: Apache-2.0 */
/* orphan.h - image caches that an earlier server process has left behind.
 *
 * Its clients live on and are mapped from them. All that is known of an orphan is
 * whose it was (the name it was stored under) and what its filled map says; it
 * becomes a cache again when a client comes back for it (cache_rejoin()).
 *
 * INV-CLAIM: an orphan is given only to a client of the uid it was stored for who
 *            holds a descriptor of that very memfd, and only for the image that its
 *            filled map names. Who has neither mapped it nor opened that image
 *            learns nothing of it.
 *
 * Ownership: the list owns its descriptors; orphan_find() lends them.
 * Threads:   main thread.
 */
#ifndef PAGESERVER_ORPHAN_H
#define PAGESERVER_ORPHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "pageserver/fdstore.h"

struct orphan;
struct orphan_list {
        struct orphan *first;
        size_t n;
};

/* The names a cache is stored under: its two descriptors apart, tied by uid and inode. */
struct cache_names {
        char cache[64];
        char filled[64];
};
struct cache_names cache_names(uid_t uid, ino_t ino);

/* Takes one that was given at the start. False when it is no part of a cache, or
 * not the one that its name says: it is the caller's still. */
bool orphan_take(struct orphan_list *list, const char *name, int *fd);
/* Those whose other half is missing go. */
void orphan_match(struct orphan_list *list, struct fdstore *store);

struct orphan_files {
        int cache_fd;
        int filled_fd;
};

/* INV-CLAIM: of this uid, and st is of the memfd */
bool orphan_find(const struct orphan_list *list, uid_t uid, const struct stat *st,
                 struct orphan_files *ret);
/* It is a cache now: forgotten here, not in the store. */
void orphan_adopted(struct orphan_list *list, const struct orphan_files *files);
/* All that are left go, also from the store. store may be NULL: they stay there. */
void orphan_drop_all(struct orphan_list *list, struct fdstore *store);

#endif
