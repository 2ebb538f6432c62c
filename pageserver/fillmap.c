/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/fillmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/lock.h"

/* The file is read by the next server of the same build or a later one. Bits
 * start on a page of their own. */
#define FILE_MAGIC "SNAPFILL"
#define FILE_VERSION 2u
#define FILE_HEAD_BYTES 4096u
#define FILE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

struct file_head {
        char magic[8];
        uint32_t version;
        uint32_t cluster_bits;
        uint64_t clusters;
        uint8_t image[16];
        char tag[FILLMAP_TAG_BYTES];
};

static_assert(sizeof(struct file_head) == 104, "the layout outlives a process");

struct waiter {
        void *who;
        uint64_t cluster;
};

struct fillmap {
        /* set at the start, constant after */
        void *file;                             /* mapped, or NULL */
        size_t file_bytes;
        /* any thread, atomic */
        struct bits filled;
        struct bits claimed;                    /* cleared under the lock only */
        struct bits ahead;                      /* claimed without haste */

        struct lock lock;
        struct waiter waiter[FILLMAP_WAITERS_MAX] GUARDED_BY(lock);
        size_t waiters GUARDED_BY(lock);
};

static uint64_t file_bytes(const struct fillmap_ident *ident)
{
        return FILE_HEAD_BYTES + bits_bytes(ident->clusters);
}

static struct file_head head_of(const struct fillmap_ident *ident)
{
        struct file_head h = {
                .magic = FILE_MAGIC,
                .version = FILE_VERSION,
                .cluster_bits = ident->cluster_bits,
                .clusters = ident->clusters,
        };

        memcpy(h.image, ident->image, sizeof(h.image));
        memcpy(h.tag, ident->tag, sizeof(h.tag));
        return h;
}

int fillmap_file_new(const struct fillmap_ident *ident, int *ret_fd, struct err *e)
{
        struct file_head head = head_of(ident);
        AUTO_FD fd = memfd_create("filled-map", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0)
                return err_set(e, errno, "cannot make a memfd");
        if (ftruncate(fd, (off_t)file_bytes(ident)) < 0 ||
            fcntl(fd, F_ADD_SEALS, FILE_SEALS) < 0)
                return err_set(e, errno, "cannot size the filled map");

        int rc = io_pwrite_full(fd, &head, sizeof(head), 0);

        if (rc < 0)
                return err_set(e, -rc, "cannot write the filled map");
        *ret_fd = fd_take(&fd);
        return 0;
}

/* A monitor hands it in: nothing is believed before it has been looked at. The
 * seals keep the mapping from being cut under us. */
static int check_file(const struct fillmap_ident *ident, int fd, struct err *e)
{
        struct file_head want = head_of(ident);
        struct file_head have;
        struct stat st;
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || (seals & FILE_SEALS) != FILE_SEALS)
                return err_msg(e, EBADMSG, "the filled map is not a sealed memfd");
        if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != file_bytes(ident))
                return err_msg(e, EBADMSG, "the filled map has the wrong size");
        if (io_pread_full(fd, &have, sizeof(have), 0) < 0 || memcmp(&have, &want, sizeof(have)))
                return err_msg(e, EBADMSG, "the filled map belongs to another image");
        return 0;
}

static int map_file(struct fillmap *m, const struct fillmap_ident *ident, int fd, struct err *e)
{
        int rc = check_file(ident, fd, e);

        if (rc < 0)
                return rc;

        size_t bytes = file_bytes(ident);
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (p == MAP_FAILED)
                return err_set(e, errno, "cannot map the filled map");
        m->file = p;
        m->file_bytes = bytes;
        bits_over(&m->filled, (char *)p + FILE_HEAD_BYTES, ident->clusters);
        return 0;
}

int fillmap_open(const struct fillmap_ident *ident, int filled_fd, struct fillmap **ret,
                 struct err *e)
{
        struct fillmap *m = calloc(1, sizeof(*m));
        int rc = 0;

        if (!m)
                return err_set(e, ENOMEM, "filled map");
        lock_init(&m->lock);
        if (filled_fd >= 0)
                rc = map_file(m, ident, filled_fd, e);
        else if (bits_init(&m->filled, ident->clusters) < 0)
                rc = err_set(e, ENOMEM, "filled map");
        if (rc == 0 && (bits_init(&m->claimed, ident->clusters) < 0 ||
                        bits_init(&m->ahead, ident->clusters) < 0))
                rc = err_set(e, ENOMEM, "filled map");
        if (rc < 0) {
                fillmap_free(m);
                return rc;
        }
        *ret = m;
        return 0;
}

void fillmap_free(struct fillmap *map) NO_TSA
{
        if (!map)
                return;
        ASSERT(map->waiters == 0);
        bits_fini(&map->claimed);
        bits_fini(&map->ahead);
        bits_fini(&map->filled);
        if (map->file)
                munmap(map->file, map->file_bytes);
        lock_fini(&map->lock);
        free(map);
}

bool fillmap_filled(const struct fillmap *map, uint64_t cluster)
{
        return bits_test(&map->filled, cluster);
}

const struct bits *fillmap_bits(const struct fillmap *map)
{
        return &map->filled;
}

static enum claim queue_locked(struct fillmap *m, uint64_t cluster, void *who) REQUIRES(m->lock)
{
        for (size_t i = 0; i < m->waiters; i++) {
                if (m->waiter[i].who == who && m->waiter[i].cluster == cluster)
                        return CLAIM_BUSY;
        }
        if (m->waiters == FILLMAP_WAITERS_MAX)
                return CLAIM_FULL;
        m->waiter[m->waiters++] = (struct waiter){ .who = who, .cluster = cluster };
        return CLAIM_QUEUED;
}

/* What became of a cluster that somebody else had claimed. CLAIM_FULL also
 * stands for "he gave it back meanwhile": ask again. */
static enum claim lost_locked(struct fillmap *m, uint64_t cluster, void *who) REQUIRES(m->lock)
{
        if (bits_test(&m->filled, cluster))     /* INV-LOSTWAKE */
                return CLAIM_FILLED;
        if (!bits_test(&m->claimed, cluster))
                return CLAIM_FULL;
        return who ? queue_locked(m, cluster, who) : CLAIM_BUSY;
}

enum claim fillmap_claim(struct fillmap *map, uint64_t cluster, void *waiter)
{
        if (bits_test(&map->filled, cluster))
                return CLAIM_FILLED;
        if (bits_set(&map->claimed, cluster)) { /* INV-ONE */
                if (!bits_test(&map->filled, cluster))
                        return CLAIM_WON;
                /* an earlier claimant finished between our two looks */
                lock_acquire(&map->lock);
                bits_clear(&map->claimed, cluster);
                lock_release(&map->lock);
                return CLAIM_FILLED;
        }
        if (bits_test(&map->ahead, cluster))
                return CLAIM_AHEAD;
        lock_acquire(&map->lock);
        enum claim c = lost_locked(map, cluster, waiter);
        lock_release(&map->lock);
        return c;
}

/* Marked before it is claimed, so that no fault queues behind it. Where the claim is
 * lost the mark only makes others fetch for themselves once more than needed. */
bool fillmap_claim_ahead(struct fillmap *map, uint64_t cluster)
{
        if (bits_test(&map->filled, cluster) || bits_test(&map->claimed, cluster))
                return false;
        bits_set(&map->ahead, cluster);
        return fillmap_claim(map, cluster, NULL) == CLAIM_WON;
}

static void wake_locked(struct fillmap *m, uint64_t cluster, fillmap_wake_fn *wake)
        REQUIRES(m->lock)
{
        for (size_t i = 0; i < m->waiters;) {
                if (m->waiter[i].cluster != cluster) {
                        i++;
                        continue;
                }
                wake(m->waiter[i].who, cluster);
                m->waiter[i] = m->waiter[--m->waiters];
        }
}

void fillmap_finish(struct fillmap *map, uint64_t cluster, bool filled, fillmap_wake_fn *wake)
{
        ASSERT(bits_test(&map->claimed, cluster));
        ASSERT(!bits_test(&map->filled, cluster));
        if (filled)
                bits_set(&map->filled, cluster);        /* INV-FILLED */
        lock_acquire(&map->lock);
        bits_clear(&map->ahead, cluster);
        bits_clear(&map->claimed, cluster);
        wake_locked(map, cluster, wake);
        lock_release(&map->lock);
}

static void forget_locked(struct fillmap *m, const void *who) REQUIRES(m->lock)
{
        for (size_t i = 0; i < m->waiters;) {
                if (m->waiter[i].who == who)
                        m->waiter[i] = m->waiter[--m->waiters];
                else
                        i++;
        }
}

void fillmap_forget(struct fillmap *map, const void *waiter)
{
        lock_acquire(&map->lock);
        forget_locked(map, waiter);
        lock_release(&map->lock);
}
