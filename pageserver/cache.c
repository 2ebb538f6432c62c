/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

#define PAGE_BYTES 4096
/* more than the largest page that one write may bring with it */
#define PROBE_BYTES (4 << 20)

#define CACHE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

struct cache {
        /* main thread only */
        struct cache *next;
        unsigned refs;
        uint64_t idle_bytes;            /* once nobody uses it: it does not grow then */
        /* set at the start, constant after */
        uid_t uid;
        dev_t dev;                      /* of the memfd */
        ino_t ino;
        struct source *source;
        struct fillmap *map;
        struct alias *alias;            /* NULL = none */
        int fd;
        int map_fd;
        int filled_fd;
};

static uint64_t memfd_bytes(const struct source *source)
{
        struct fillmap_ident ident = source_ident(source);

        return ident.clusters << ident.cluster_bits;
}

bool cache_fills_alone(int fd)
{
        char page[PAGE_BYTES] = { 0 };
        bool alone = pwrite(fd, page, sizeof(page), PAGE_BYTES) == PAGE_BYTES &&
                     lseek(fd, 0, SEEK_DATA) == PAGE_BYTES &&
                     lseek(fd, PAGE_BYTES, SEEK_HOLE) == 2 * PAGE_BYTES;

        return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PROBE_BYTES) == 0 &&
               alone;
}

static int make_memfd(uint64_t bytes, int *ret_fd, struct err *e)
{
        AUTO_FD fd = memfd_create("image-cache", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0)
                return err_set(e, errno, "cannot make a memfd");
        if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, 0600) < 0 ||
            fcntl(fd, F_ADD_SEALS, CACHE_SEALS) < 0)
                return err_set(e, errno, "cannot set up the image cache");
        if (bytes >= 2 * PAGE_BYTES && !cache_fills_alone(fd))
                return err_msg(e, ENOTSUP, "this host backs shared memory with huge pages, whose "
                               "parts cannot be brought one by one: use the copy lane, or write "
                               "'never' to /sys/kernel/mm/transparent_hugepage/shmem_enabled");
        *ret_fd = fd_take(&fd);
        return 0;
}

static int check_memfd(int fd, uint64_t bytes, struct err *e)
{
        struct stat st;
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || (seals & ~F_SEAL_SEAL) != CACHE_SEALS)
                return err_msg(e, EBADMSG, "the image cache is not a memfd sealed as ours are");
        if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != bytes)
                return err_msg(e, EBADMSG, "the image cache has the wrong size");
        if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
                return err_msg(e, EBADMSG, "the image cache cannot be written");
        return 0;
}

/* INV-READONLY */
static int reopen_readonly(int fd, int *ret_fd, struct err *e)
{
        char name[64];

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        *ret_fd = open(name, O_RDONLY | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "cannot reopen the image cache") : 0;
}

static int take_files(struct cache *c, int given_fd, int given_filled_fd, struct err *e)
{
        struct fillmap_ident ident = source_ident(c->source);
        uint64_t bytes = memfd_bytes(c->source);
        int rc;

        if (given_fd >= 0) {
                c->fd = fcntl(given_fd, F_DUPFD_CLOEXEC, 0);
                c->filled_fd = fcntl(given_filled_fd, F_DUPFD_CLOEXEC, 0);
                if (c->fd < 0 || c->filled_fd < 0)
                        return err_set(e, errno, "cannot duplicate the image cache");
                rc = check_memfd(c->fd, bytes, e);
        } else {
                rc = make_memfd(bytes, &c->fd, e);
                if (rc == 0)
                        rc = fillmap_file_new(&ident, &c->filled_fd, e);
        }
        if (rc == 0)
                rc = reopen_readonly(c->fd, &c->map_fd, e);
        return rc < 0 ? rc : fillmap_open(&ident, c->filled_fd, &c->map, e);
}

static void cache_free(struct cache *c)
{
        alias_free(c->alias);
        fillmap_free(c->map);
        fd_close(&c->fd);
        fd_close(&c->map_fd);
        fd_close(&c->filled_fd);
        free(c);
}

/* ---- the list ------------------------------------------------------------------- */

static void link_first(struct cache_list *list, struct cache *c)
{
        c->next = list->first;
        list->first = c;
}

static void unlink_cache(struct cache_list *list, struct cache *c)
{
        struct cache **at = &list->first;

        while (*at != c)
                at = &(*at)->next;
        *at = c->next;
}

static struct cache *referenced(struct cache_list *list, struct cache *c)
{
        c->refs++;
        unlink_cache(list, c);
        link_first(list, c);
        return c;
}

static int know_inode(struct cache *c, struct err *e)
{
        struct stat st;

        if (fstat(c->fd, &st) < 0)
                return err_set(e, errno, "cannot stat the image cache");
        c->dev = st.st_dev;
        c->ino = st.st_ino;
        return 0;
}

/* given_fd: -1 = a new one */
static int cache_start(struct cache_list *list, uid_t uid, struct source **own, int given_fd,
                       int given_filled_fd, struct cache **ret, struct err *e)
{
        struct cache *c = calloc(1, sizeof(*c));

        if (!c)
                return err_set(e, ENOMEM, "image cache");
        *c = (struct cache){
                .uid = uid, .refs = 1, .source = *own, .fd = -1, .map_fd = -1, .filled_fd = -1,
        };

        int rc = take_files(c, given_fd, given_filled_fd, e);

        if (rc == 0)
                rc = know_inode(c, e);
        if (rc < 0) {
                cache_free(c);
                return rc;
        }
        *own = NULL;
        c->alias = alias_new(c->fd, memfd_bytes(c->source));
        link_first(list, c);
        *ret = c;
        return 0;
}

/* INV-STORED */
static int store_put(struct cache_list *list, const struct cache *c, struct err *e)
{
        struct cache_names n = cache_names(c->uid, c->ino);
        int rc = 0;

        if (list->store)
                rc = fdstore_put(list->store, n.cache, c->fd, e);
        if (rc == 0 && list->store)
                rc = fdstore_put(list->store, n.filled, c->filled_fd, e);
        return rc;
}

static void store_drop(struct cache_list *list, const struct cache *c)
{
        struct cache_names n = cache_names(c->uid, c->ino);

        if (!list->store)
                return;
        fdstore_drop(list->store, n.cache);
        fdstore_drop(list->store, n.filled);
}

static void drop(struct cache_list *list, struct cache *c)
{
        ASSERT(c->refs == 0);
        unlink_cache(list, c);
        store_drop(list, c);
        source_let_go(c->source, list->host);
        cache_free(c);
}

static int start_new(struct cache_list *list, uid_t uid, struct source **own,
                     struct cache **ret, struct err *e)
{
        struct cache *c;
        int rc = cache_start(list, uid, own, -1, -1, &c, e);

        if (rc < 0)
                return rc;
        rc = store_put(list, c, e);
        if (rc < 0) {
                *own = ptr_take(&c->source);
                c->refs = 0;
                drop(list, c);
                return rc;
        }
        *ret = c;
        return 0;
}

/* INV-SAMEUSER */
static bool serves(const struct cache *c, uid_t uid, const struct source *own)
{
        return c->uid == uid && source_same(c->source, own);
}

/* another reads the same already */
static struct cache *join(struct cache_list *list, struct cache *c, struct source **own)
{
        source_let_go(ptr_take(own), list->host);
        return referenced(list, c);
}

/* That the image is opened before it is looked for costs a client whose image is served
 * already a few reads of what is in the page cache. */
int cache_get(struct cache_list *list, uid_t uid, struct source **own, struct cache **ret,
              struct err *e)
{
        for (struct cache *c = list->first; c; c = c->next) {
                if (serves(c, uid, *own)) {
                        *ret = join(list, c, own);
                        return 0;
                }
        }
        return start_new(list, uid, own, ret, e);
}

int cache_adopt(struct cache_list *list, uid_t uid, struct source **own, int given_fd,
                int given_filled_fd, struct cache **ret, struct err *e)
{
        ASSERT(given_fd >= 0 && given_filled_fd >= 0);
        return cache_start(list, uid, own, given_fd, given_filled_fd, ret, e);
}

/* ---- after a restart ---------------------------------------------------------------- */

static int stale(struct err *e)
{
        return err_msg(e, ESTALE, "the image cache that this client is mapped from did not outlive "
                       "its server: ask for the copy lane");
}

/* What is in place but not in the map: clusters that the dead process was writing,
 * and zeros where a client died after it (INV-HOLE). They are made holes again, which
 * their readers ask for anew. */
static void punch_unfilled(struct cache *c)
{
        unsigned bits = source_info(c->source)->cluster_bits;
        off_t bytes = 1ll << bits;
        off_t at = 0;

        while ((at = lseek(c->fd, at, SEEK_DATA)) >= 0) {
                at = (off_t)ALIGN_DOWN(at, bytes);
                if (!fillmap_filled(c->map, (uint64_t)at >> bits))
                        (void)fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
                                        bytes);
                at += bytes;
        }
}

static int rejoin_orphan(struct cache_list *list, uid_t uid, struct source **own,
                         const struct stat *st, struct cache **ret, struct err *e)
{
        struct orphan_files files;

        if (!orphan_find(&list->orphans, uid, st, &files))
                return stale(e);

        int rc = cache_start(list, uid, own, files.cache_fd, files.filled_fd, ret, e);

        if (rc == -EBADMSG)             /* of another image; its own client may come yet */
                return stale(e);
        if (rc < 0)
                return rc;
        orphan_adopted(&list->orphans, &files);
        punch_unfilled(*ret);
        return 0;
}

int cache_rejoin(struct cache_list *list, uid_t uid, struct source **own, int map_fd,
                 struct cache **ret, struct err *e)
{
        struct stat st;

        /* what has no seals is no memfd, and perhaps a file that does not answer */
        if (fcntl(map_fd, F_GET_SEALS) < 0 || fstat(map_fd, &st) < 0)
                return stale(e);
        for (struct cache *c = list->first; c; c = c->next) {
                if (c->dev == st.st_dev && c->ino == st.st_ino && serves(c, uid, *own)) {
                        *ret = join(list, c, own);
                        return 0;
                }
        }
        return rejoin_orphan(list, uid, own, &st, ret, e);
}

/* ---- keeping ------------------------------------------------------------------------- */

static uint64_t memory_bytes(const struct cache *c)
{
        struct stat st;

        return fstat(c->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static uint64_t idle_bytes(const struct cache_list *list)
{
        uint64_t sum = 0;

        for (const struct cache *c = list->first; c; c = c->next)
                sum += c->refs ? 0 : c->idle_bytes;
        return sum;
}

static struct cache *left_longest_ago(const struct cache_list *list)
{
        struct cache *last = NULL;

        for (struct cache *c = list->first; c; c = c->next) {
                if (c->refs == 0)
                        last = c;
        }
        return last;
}

void cache_put(struct cache_list *list, struct cache *cache)
{
        if (!cache)
                return;
        ASSERT(cache->refs > 0);
        if (--cache->refs > 0)
                return;
        cache->idle_bytes = memory_bytes(cache);
        if (list->keep_bytes == 0 || cache->idle_bytes > list->keep_bytes) {
                drop(list, cache);      /* it would push out all others, and then itself */
                return;
        }
        unlink_cache(list, cache);
        link_first(list, cache);
        while (idle_bytes(list) > list->keep_bytes)
                drop(list, left_longest_ago(list));
}

void cache_list_drop_idle(struct cache_list *list)
{
        struct cache *c;

        while ((c = left_longest_ago(list)))
                drop(list, c);
}

void cache_list_fini(struct cache_list *list)
{
        list->store = NULL;
        cache_list_drop_idle(list);
        orphan_drop_all(&list->orphans, NULL);
}

void cache_list_usage(const struct cache_list *list, struct cache_usage *ret)
{
        *ret = (struct cache_usage){ .used = 0 };
        for (const struct cache *c = list->first; c; c = c->next) {
                if (c->refs) {
                        ret->used++;
                        ret->used_bytes += memory_bytes(c);
                } else {
                        ret->idle++;
                        ret->idle_bytes += c->idle_bytes;
                }
        }
}

/* ---- getters --------------------------------------------------------------------------- */

const struct cache *cache_next(const struct cache *cache)
{
        return cache->next;
}

unsigned cache_clients(const struct cache *cache)
{
        return cache->refs;
}

uid_t cache_uid(const struct cache *cache)
{
        return cache->uid;
}

struct source *cache_source(const struct cache *cache)
{
        return cache->source;
}

struct fillmap *cache_map(const struct cache *cache)
{
        return cache->map;
}

int cache_fd(const struct cache *cache)
{
        return cache->fd;
}

const struct alias *cache_alias(const struct cache *cache)
{
        return cache->alias;
}

int cache_map_fd(const struct cache *cache)
{
        return cache->map_fd;
}

int cache_filled_fd(const struct cache *cache)
{
        return cache->filled_fd;
}
