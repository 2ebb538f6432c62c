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
        uid_t uid;
        /* set at the start, constant after */
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
        source_close(c->source);
        fd_close(&c->fd);
        fd_close(&c->map_fd);
        fd_close(&c->filled_fd);
        free(c);
}

/* With an open image and nothing else yet. */
static int cache_new(const struct cache_request *q, struct cache **ret, struct err *e)
{
        struct cache *c = calloc(1, sizeof(*c));

        if (!c)
                return err_set(e, ENOMEM, "image cache");
        c->fd = c->map_fd = c->filled_fd = -1;
        c->uid = q->uid;
        c->refs = 1;

        int rc = source_open(&q->files, q->workers, &c->source, e);

        if (rc < 0) {
                cache_free(c);
                return rc;
        }
        *ret = c;
        return 0;
}

static int cache_start(struct cache_list *list, struct cache *c, int given_fd,
                       int given_filled_fd, struct cache **ret, struct err *e)
{
        int rc = take_files(c, given_fd, given_filled_fd, e);

        if (rc < 0) {
                cache_free(c);
                return rc;
        }
        c->alias = alias_new(c->fd, memfd_bytes(c->source));
        c->next = list->first;
        list->first = c;
        *ret = c;
        return 0;
}

/* The image is opened before it is looked for: only then is it known what it is. That
 * costs a client whose image is served already a few reads of what is in the page
 * cache. */
int cache_get(struct cache_list *list, const struct cache_request *q, struct cache **ret,
              struct err *e)
{
        struct cache *own;
        int rc = cache_new(q, &own, e);

        if (rc < 0)
                return rc;
        for (struct cache *c = list->first; c; c = c->next) {
                if (c->uid == own->uid && source_same(c->source, own->source)) {
                        cache_free(own);        /* INV-SAMEUSER */
                        c->refs++;
                        *ret = c;
                        return 0;
                }
        }
        return cache_start(list, own, -1, -1, ret, e);
}

int cache_adopt(struct cache_list *list, const struct cache_request *q, int given_fd,
                int given_filled_fd, struct cache **ret, struct err *e)
{
        struct cache *own;
        int rc = cache_new(q, &own, e);

        ASSERT(given_fd >= 0 && given_filled_fd >= 0);
        return rc < 0 ? rc : cache_start(list, own, given_fd, given_filled_fd, ret, e);
}

void cache_put(struct cache_list *list, struct cache *cache)
{
        if (!cache)
                return;
        ASSERT(cache->refs > 0);
        if (--cache->refs > 0)
                return;

        struct cache **at = &list->first;

        while (*at != cache)
                at = &(*at)->next;
        *at = cache->next;
        cache_free(cache);
}

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
