/* SPDX-License-Identifier: Apache-2.0 */
/* When memory that a page server fills becomes huge pages (2 MiB), and that no hole is
 * ever closed by it: a hole that the kernel fills is a page that nobody served.
 * MADV_COLLAPSE (6.1) does at once what khugepaged does in its own time. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/uffd.h"
#include "tests/assumptions/uffd-kit.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define HUGE ((size_t)2 << 20)
#define HUGE_PAGES 4u

static uint8_t source[2u << 20] __attribute__((aligned(4096)));

/* address space that begins on a huge page */
static char *reserve(void)
{
        char *p = mmap(NULL, (HUGE_PAGES + 1) * HUGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        HOLDS(p != MAP_FAILED);
        return p + (ALIGN_UP((uintptr_t)p, HUGE) - (uintptr_t)p);
}

static char *map_at(char *where, int flags, int fd)
{
        char *p = mmap(where, HUGE_PAGES * HUGE, PROT_READ | PROT_WRITE, MAP_FIXED | flags, fd, 0);

        HOLDS(p == where);
        return p;
}

static int register_missing(const char *map)
{
        struct err e;
        int fd;

        HOLDS(uffd_open(0, &fd, &e) == 0);
        HOLDS(uffd_register_missing(fd, (uintptr_t)map, HUGE_PAGES * HUGE, &e) == 0);
        return fd;
}

static void copy_in(int uffd, char *to, size_t bytes)
{
        HOLDS(uffd_copy(uffd, (uintptr_t)to, source, bytes, KIT_PAGE) == UFFD_DONE);
}

static bool collapses(char *at)
{
        return madvise(at, HUGE, MADV_COLLAPSE) == 0;
}

static bool is_missing(char *at)
{
        unsigned char in_core;

        HOLDS(mincore(at, KIT_PAGE, &in_core) == 0);
        return !(in_core & 1);
}

/* exits with 77 where the kernel makes no huge page even of plain memory */
static void need_collapse(void)
{
        char *p = map_at(reserve(), MAP_PRIVATE | MAP_ANONYMOUS, -1);

        memset(p, 1, HUGE);
        if (!collapses(p)) {
                printf("skipped: MADV_COLLAPSE: %m (Linux 6.1 with transparent huge pages)\n");
                exit(77);
        }
        munmap(p, HUGE_PAGES * HUGE);
}

/* Copy lane: whole ranges only. A zero page counts as a hole, as long as it is
 * registered; advice for khugepaged changes nothing about it. */
static void anonymous_memory(void)
{
        char *p = map_at(reserve(), MAP_PRIVATE | MAP_ANONYMOUS, -1);
        int uffd = register_missing(p);
        struct kit_touch t;

        memset(source, 0x29, sizeof(source));
        HOLDS(madvise(p, HUGE_PAGES * HUGE, MADV_HUGEPAGE) == 0);
        copy_in(uffd, p, HUGE);
        copy_in(uffd, p + HUGE, HUGE - KIT_PAGE);
        copy_in(uffd, p + 2 * HUGE, HUGE - KIT_PAGE);
        HOLDS(uffd_zero(uffd, (uintptr_t)p + 3 * HUGE - KIT_PAGE, KIT_PAGE) == UFFD_DONE);
        HOLDS(collapses(p));
        HOLDS(!collapses(p + HUGE) && !collapses(p + 2 * HUGE) && !collapses(p + 3 * HUGE));
        HOLDS(kit_smaps_kib(p, "AnonHugePages:") == 2048);
        HOLDS(is_missing(p + 2 * HUGE - KIT_PAGE) && is_missing(p + 3 * HUGE));

        struct kit k = { .uffd = uffd };

        /* what is missing is asked for page by page, advised or not */
        kit_touch_start(&t, p + 3 * HUGE + 5 * KIT_PAGE);
        kit_await_fault(&k, p + 3 * HUGE + 5 * KIT_PAGE);
        copy_in(uffd, p + 3 * HUGE + 5 * KIT_PAGE, KIT_PAGE);
        HOLDS(kit_touch_join(&t) == 0x29);

        /* and what is given back of a huge page is one page */
        HOLDS(madvise(p, KIT_PAGE, MADV_DONTNEED) == 0);
        HOLDS(is_missing(p) && p[KIT_PAGE] == 0x29);
        munmap(p, HUGE_PAGES * HUGE);
        close(uffd);
}

static int cache_new(void)
{
        int fd = memfd_create("cache", MFD_CLOEXEC);

        HOLDS(fd >= 0 && ftruncate(fd, HUGE_PAGES * HUGE) == 0);
        HOLDS(pwrite(fd, source, HUGE, 0) == (ssize_t)HUGE);
        HOLDS(pwrite(fd, source, HUGE - KIT_PAGE, HUGE) == (ssize_t)(HUGE - KIT_PAGE));
        return fd;
}

static bool is_hole(int fd, off_t at)
{
        return lseek(fd, at, SEEK_HOLE) == at;
}

/* Shared lane: the server makes huge pages of the cache, whatever shmem_enabled says,
 * and clones map them huge when they read; a write costs one page and its range the
 * huge mapping. */
static void cache_memory(void)
{
        int fd = cache_new();
        char *server = map_at(reserve(), MAP_SHARED, fd);
        char *clone = map_at(reserve(), MAP_PRIVATE, fd);
        int uffd = register_missing(clone);

        HOLDS(collapses(server));
        HOLDS(clone[0] == 0x29 && kit_smaps_kib(clone, "ShmemPmdMapped:") == 2048);
        clone[0] = 1;
        HOLDS(clone[KIT_PAGE] == 0x29 && server[0] == 0x29);
        HOLDS(kit_smaps_kib(clone, "ShmemPmdMapped:") == 0);
        HOLDS(kit_smaps_kib(clone, "Anonymous:") == 4);

        /* INV-HOLE: while a clone is registered, holes are respected */
        HOLDS(!collapses(server + HUGE) && is_hole(fd, 2 * HUGE - KIT_PAGE));
        munmap(clone, HUGE_PAGES * HUGE);
        close(uffd);

        /* when none is, they are closed with zeros, for all who come later: so nobody may
         * ask for it by what the kernel has there, only by the filled map */
        HOLDS(collapses(server + HUGE));
        HOLDS(!is_hole(fd, 2 * HUGE - KIT_PAGE) && server[2 * HUGE - KIT_PAGE] == 0);
        munmap(server, HUGE_PAGES * HUGE);
        close(fd);
}

int main(void)
{
        kit_need_uffd();
        need_collapse();
        anonymous_memory();
        cache_memory();
        return 0;
}
