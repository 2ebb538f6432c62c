/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - the image cache of the shared lane: a memfd that holds an image's
 * clusters at their guest-physical offsets, and the map of those in place.
 *
 * INV-WHOLE:    a page becomes visible only complete: clusters are put there by
 *               UFFDIO_COPY through an alias or written with pwrite, both of which
 *               are atomic per page for faults.
 * INV-READONLY: clients get only cache_map_fd(), reopened for reading; the file
 *               has mode 0600 and cannot shrink or grow. The writable descriptors
 *               go to the client of a private server alone, who keeps them for
 *               its successor.
 * INV-SAMEUSER: a cache is shared by clients of one uid that read the same snapshots
 *               of the same files (qs_image_same()). Other tags of a file, or
 *               other parents below it, have caches of their own; what is appended
 *               to a file changes nothing.
 * INV-STORED:   no client is mapped from a cache that the descriptor store was not
 *               given first: if this process dies, the next one finds the cache
 *               (INV-REATTACH) or there is no store.
 *
 * A cache that its last client has left is kept warm, with the image open, as long as
 * all such fit into keep_bytes; the one left longest ago goes first. One that is used
 * is never made smaller. If the file is replaced meanwhile nobody reads the same any
 * more, and the cache goes when its turn comes.
 *
 * Ownership: counted; cache_get(), cache_rejoin() and cache_adopt() give a reference,
 *            cache_put() takes it. The list owns those that nobody uses.
 * Threads:   main thread; the getters any.
 */
#ifndef PAGESERVER_CACHE_H
#define PAGESERVER_CACHE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/err.h"
#include "pageserver/alias.h"
#include "pageserver/fdstore.h"
#include "pageserver/fillmap.h"
#include "pageserver/orphan.h"
#include "pageserver/source.h"

struct cache;
struct cache_list {
        struct cache *first;            /* the latest asked for or left comes first */
        struct orphan_list orphans;
        uint64_t keep_bytes;            /* for caches that nobody uses; 0 = none is kept */
        struct fdstore *store;          /* NULL = nothing outlives this process */
        struct session_host *host;      /* of threads that close images; NULL = none */
};

/* Frees what the list owns. The store keeps all that it has: this process ends, and
 * the next one finds it there. */
void cache_list_fini(struct cache_list *list);
/* The host is short of memory: all that nobody uses go. */
void cache_list_drop_idle(struct cache_list *list);

struct cache_usage {
        unsigned used;
        unsigned idle;
        uint64_t used_bytes;            /* of memory, in the memfds */
        uint64_t idle_bytes;
};
void cache_list_usage(const struct cache_list *list, struct cache_usage *ret);

/* All of these: own is an open image, taken on success, and still the caller's on failure. It
 * says what the cache is of: only who has opened it knows that. */

/* The one that serves this image and uid already, or a new one. -ENOTSUP where
 * this host's memfds cannot be filled page by page. */
int cache_get(struct cache_list *list, uid_t uid, struct source **own, struct cache **ret,
              struct err *e);
/* The one that the client is mapped from already: map_fd, which an earlier process of
 * this daemon gave it. -ESTALE when that cache did not outlive the process, is another
 * user's, or of another image. */
int cache_rejoin(struct cache_list *list, uid_t uid, struct source **own, int map_fd,
                 struct cache **ret, struct err *e);
/* Of an earlier private server; the descriptors are duplicated. -EBADMSG when
 * they are not what such a server made of this image. */
int cache_adopt(struct cache_list *list, uid_t uid, struct source **own, int cache_fd,
                int filled_fd, struct cache **ret, struct err *e);
void cache_put(struct cache_list *list, struct cache *cache);

/* Whether what is written to a memfd (empty, of two pages or more, and left empty)
 * appears alone. Where the host backs shared memory with huge pages its
 * neighbours appear with it, as zeros, and no fault asks for them any more. */
bool cache_fills_alone(int fd);

/* main thread: the next of the list, NULL = none */
const struct cache *cache_next(const struct cache *cache);
unsigned cache_clients(const struct cache *cache);
uid_t cache_uid(const struct cache *cache);

struct source *cache_source(const struct cache *cache);
struct fillmap *cache_map(const struct cache *cache);
/* borrowed */
int cache_fd(const struct cache *cache);
const struct alias *cache_alias(const struct cache *cache);
int cache_map_fd(const struct cache *cache);
int cache_filled_fd(const struct cache *cache);

#endif
