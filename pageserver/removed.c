/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/removed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "pageserver/bits.h"

/* The file: a head on a page of its own, the slots, a bit for each page. */
#define FILE_MAGIC "SNAPGONE"
#define FILE_VERSION 1u
#define SLOTS_AT 4096u
#define SLOT_BYTES (REMOVED_SLOT_MESSAGES * sizeof(struct uffd_msg))
#define BITS_AT (SLOTS_AT + REMOVED_SLOTS * SLOT_BYTES)
#define FILE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

struct file_head {
        char magic[8];
        uint32_t version;
        uint32_t page_bits;
        uint64_t pages;
};

static_assert(sizeof(struct uffd_msg) == 32, "the kernel's messages");
static_assert(sizeof(struct file_head) == 24, "the layout outlives a process");
static_assert(BITS_AT % 4096 == 0, "bits begin on a page");

struct removed {
        /* set at the start, constant after */
        char *file;
        size_t file_bytes;
        int fd;
        unsigned page_bits;
        pthread_rwlock_t change;
        /* set alone, read by any */
        struct bits marked;
        _Atomic uint64_t marked_pages;
};

static size_t bytes_of(uint64_t pages)
{
        return BITS_AT + bits_bytes(pages);
}

static int make_file(const struct file_head *head, int *ret_fd, struct err *e)
{
        AUTO_FD fd = memfd_create("removed-map", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0)
                return err_set(e, errno, "cannot make a memfd");
        if (ftruncate(fd, (off_t)bytes_of(head->pages)) < 0 ||
            fcntl(fd, F_ADD_SEALS, FILE_SEALS) < 0)
                return err_set(e, errno, "cannot size the removed map");

        int rc = io_pwrite_full(fd, head, sizeof(*head), 0);

        if (rc < 0)
                return err_set(e, -rc, "cannot write the removed map");
        *ret_fd = fd_take(&fd);
        return 0;
}

/* Of huge pages, of which there may be none when the server touches one that its client
 * has given back: a SIGBUS, for all clients. Sealed files are memfds, of either kind. */
static bool can_lack_pages(int fd)
{
        struct statfs fs;

        return fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC;
}

/* The client hands it in. What it writes there concerns its own memory alone. */
static int take_file(const struct file_head *want, int given, int *ret_fd, struct err *e)
{
        AUTO_FD fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
        struct file_head have;
        struct stat st;

        if (fd < 0)
                return err_set(e, errno, "cannot duplicate the removed map");

        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || (seals & FILE_SEALS) != FILE_SEALS || fstat(fd, &st) < 0 ||
            (uint64_t)st.st_size != bytes_of(want->pages) || can_lack_pages(fd))
                return err_msg(e, EBADMSG, "the removed map is not a sealed memfd of its size");
        if (io_pread_full(fd, &have, sizeof(have), 0) < 0 || memcmp(&have, want, sizeof(have)))
                return err_msg(e, EBADMSG, "the removed map belongs to another image");
        *ret_fd = fd_take(&fd);
        return 0;
}

/* A flood of installs must not keep a REMOVE from being read: its client sleeps. */
static void init_change(struct removed *r)
{
        pthread_rwlockattr_t attr;

        pthread_rwlockattr_init(&attr);
        pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);

        int rc = pthread_rwlock_init(&r->change, &attr);

        ASSERT(rc == 0);
        pthread_rwlockattr_destroy(&attr);
}

static void count_marked(struct removed *r)
{
        const struct bits *marked = &r->marked;

        r->marked_pages = bits_count_any(&marked, 1, 0, r->marked.n);
}

int removed_open(uint64_t pages, unsigned page_bits, int fd, struct removed **ret,
                 struct err *e)
{
        const struct file_head head = {
                .magic = FILE_MAGIC, .version = FILE_VERSION, .page_bits = page_bits,
                .pages = pages,
        };
        struct removed *r = calloc(1, sizeof(*r));

        if (!r)
                return err_set(e, ENOMEM, "removed map");
        init_change(r);
        r->fd = -1;
        r->page_bits = page_bits;
        r->file_bytes = bytes_of(pages);

        int rc = fd < 0 ? make_file(&head, &r->fd, e) : take_file(&head, fd, &r->fd, e);

        if (rc == 0) {
                void *p = mmap(NULL, r->file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);

                if (p == MAP_FAILED)
                        rc = err_set(e, errno, "cannot map the removed map");
                else
                        r->file = p;
        }
        if (rc < 0) {
                removed_free(r);
                return rc;
        }
        /* INV-UNREAD: the kernel takes a message off its queue before it copies it. Where it
         * had to fault a slot in, a killed reader or one without memory would lose it. */
        (void)madvise(r->file + SLOTS_AT, REMOVED_SLOTS * SLOT_BYTES, MADV_POPULATE_WRITE);
        bits_over(&r->marked, r->file + BITS_AT, pages);
        count_marked(r);
        *ret = r;
        return 0;
}

void removed_free(struct removed *r)
{
        if (!r)
                return;
        if (r->file)
                munmap(r->file, r->file_bytes);
        fd_close(&r->fd);
        pthread_rwlock_destroy(&r->change);
        free(r);
}

int removed_fd(const struct removed *r)
{
        return r->fd;
}

struct uffd_msg *removed_slot(struct removed *r, unsigned worker)
{
        ASSERT(worker < REMOVED_SLOTS);
        return (struct uffd_msg *)(void *)(r->file + SLOTS_AT + worker * SLOT_BYTES);
}

/* A slot holds what was read last, and behind it what is older: all of it was said by
 * this client about its own memory. */
void removed_replay(struct removed *r, const struct regions *regions)
{
        removed_lock_alone(r);
        for (unsigned slot = 0; slot < REMOVED_SLOTS; slot++) {
                for (unsigned i = 0; i < REMOVED_SLOT_MESSAGES; i++) {
                        const struct uffd_msg m = removed_slot(r, slot)[i];

                        if (m.event == UFFD_EVENT_REMOVE)
                                removed_mark(r, regions, m.arg.remove.start, m.arg.remove.end);
                }
        }
        removed_unlock_alone(r);
}

void removed_lock_alone(struct removed *r)
{
        int rc = pthread_rwlock_wrlock(&r->change);

        ASSERT(rc == 0);
}

void removed_unlock_alone(struct removed *r)
{
        pthread_rwlock_unlock(&r->change);
}

void removed_lock_shared(struct removed *r)
{
        int rc = pthread_rwlock_rdlock(&r->change);

        ASSERT(rc == 0);
}

bool removed_trylock_shared(struct removed *r)
{
        return pthread_rwlock_tryrdlock(&r->change) == 0;
}

void removed_unlock_shared(struct removed *r)
{
        pthread_rwlock_unlock(&r->change);
}

/* A page that is given back in part (the kernel's page may be smaller than the
 * client's) is not given back. */
static void mark_piece(struct removed *r, const struct piece *p)
{
        uint64_t first = DIV_ROUND_UP(p->gpa, 1ull << r->page_bits);
        uint64_t end = (p->gpa + p->bytes) >> r->page_bits;

        for (uint64_t page = first; page < MIN(end, r->marked.n); page++) {
                if (bits_set(&r->marked, page))
                        atomic_fetch_add(&r->marked_pages, 1);
        }
}

void removed_mark(struct removed *r, const struct regions *regions, uint64_t hva,
                  uint64_t end_hva)
{
        struct piece p;

        for (uint64_t at = hva; regions_piece_at(regions, at, end_hva, &p); at = p.hva + p.bytes)
                mark_piece(r, &p);
}

bool removed_test(const struct removed *r, uint64_t gpa)
{
        return bits_test(&r->marked, gpa >> r->page_bits);
}

bool removed_next_kept(const struct removed *r, uint64_t gpa, uint64_t end_gpa,
                       uint64_t *ret_gpa, uint64_t *ret_end_gpa)
{
        const struct bits *marked = &r->marked;
        uint64_t end = MIN(DIV_ROUND_UP(end_gpa, 1ull << r->page_bits), r->marked.n);
        uint64_t first = bits_next_unset(&marked, 1, gpa >> r->page_bits, end);

        if (gpa >= end_gpa || first >= end)
                return false;

        uint64_t last = first;

        while (last + 1 < end && !bits_test(&r->marked, last + 1))
                last++;
        *ret_gpa = MAX(gpa, first << r->page_bits);
        *ret_end_gpa = MIN(end_gpa, (last + 1) << r->page_bits);
        return true;
}

uint64_t removed_bytes(const struct removed *r)
{
        return atomic_load(&r->marked_pages) << r->page_bits;
}
