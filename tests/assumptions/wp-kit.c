/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/assumptions/wp-kit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "vmm/pagemapscan.h"

#define CASE_SECONDS 30         /* a wrong assumption may hang */
#define MESSAGE_MS 5000

static char *reserve(void)
{
        char *p = mmap(NULL, WP_BYTES + WP_HUGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        HOLDS(p != MAP_FAILED);
        return p + (ALIGN_UP((uintptr_t)p, WP_HUGE) - (uintptr_t)p);
}

static const char *map_kind(struct wp *w)
{
        int flags = MAP_PRIVATE | MAP_FIXED;
        char *where = reserve();

        if (w->kind == WP_CACHE) {
                w->memfd = memfd_create("wp", MFD_CLOEXEC);
                HOLDS(w->memfd >= 0 && ftruncate(w->memfd, WP_BYTES) == 0);
        } else {
                flags |= MAP_ANONYMOUS | (w->kind == WP_HUGETLB ? MAP_HUGETLB : 0);
        }
        w->map = mmap(where, WP_BYTES, PROT_READ | PROT_WRITE, flags, w->memfd, 0);
        if (w->map == MAP_FAILED && w->kind == WP_HUGETLB)
                return "no four free pages of hugetlbfs (vm.nr_hugepages)";
        HOLDS(w->map == where);
        if (w->kind == WP_ANONYMOUS)
                (void)madvise(w->map, WP_BYTES, MADV_NOHUGEPAGE);
        if (w->kind == WP_THP) {
                if (madvise(w->map, WP_BYTES, MADV_HUGEPAGE) < 0)
                        return "no transparent huge pages";
                memset(w->map, 1, WP_BYTES);
                if (kit_smaps_kib(w->map, "AnonHugePages:") != WP_BYTES / 1024)
                        return "the kernel made no huge pages of 8 MiB";
        }
        return NULL;
}

static const char *open_wp(struct wp *w, const struct wp_case *c)
{
        bool of_file = c->kind == WP_CACHE || c->kind == WP_HUGETLB;
        uint64_t features = (of_file ? UFFD_PROTECT_FILE : UFFD_PROTECT_ANONYMOUS) | c->features;
        struct err e;

        *w = (struct wp){ .kind = c->kind, .memfd = -1, .uffd = -1 };
        if (uffd_open(features, &w->uffd, &e) < 0)
                return features & WP_ASYNC ? "no WP_ASYNC (Linux 6.7)" :
                       features & WP_UNPOPULATED ? "no WP_UNPOPULATED (Linux 6.4)" :
                       of_file ? "no protection of files' memory (Linux 5.19)" :
                       "no write-protection";
        return map_kind(w);
}

static void close_wp(struct wp *w)
{
        if (w->map && w->map != MAP_FAILED)
                munmap(w->map, WP_BYTES);
        if (w->uffd >= 0)
                close(w->uffd);
        if (w->memfd >= 0)
                close(w->memfd);
}

int wp_main(const struct wp_case *cases, size_t n)
{
        size_t held = 0;

        kit_need_uffd();
        setvbuf(stdout, NULL, _IOLBF, 0);
        for (size_t i = 0; i < n; i++) {
                const struct wp_case *c = &cases[i];
                struct wp w;

                alarm(CASE_SECONDS);
                printf("%s\n", c->name);
                w.skip = open_wp(&w, c);
                if (!w.skip)
                        c->run(&w);
                if (w.skip)
                        printf("  skipped: %s\n", w.skip);
                held += !w.skip;
                close_wp(&w);
        }
        return held ? 0 : 77;
}

void wp_cache_page(const struct wp *w, unsigned page, uint8_t value)
{
        uint8_t buf[KIT_PAGE];

        memset(buf, value, sizeof(buf));
        HOLDS(pwrite(w->memfd, buf, sizeof(buf), (off_t)page * KIT_PAGE) == sizeof(buf));
}

void wp_register(const struct wp *w, uint64_t mode)
{
        struct uffdio_register r = {
                .range = { .start = (uintptr_t)w->map, .len = WP_BYTES }, .mode = mode,
        };

        HOLDS(ioctl(w->uffd, UFFDIO_REGISTER, &r) == 0);
}

int wp_change(const struct wp *w, const char *at, size_t bytes, uint64_t mode)
{
        struct uffdio_writeprotect p = {
                .range = { .start = (uintptr_t)at, .len = bytes }, .mode = mode,
        };

        return ioctl(w->uffd, UFFDIO_WRITEPROTECT, &p) < 0 ? errno : 0;
}

void wp_protect(const struct wp *w, const char *at, size_t bytes)
{
        HOLDS(wp_change(w, at, bytes, UFFDIO_WRITEPROTECT_MODE_WP) == 0);
}

void wp_unprotect(const struct wp *w, const char *at, size_t bytes)
{
        HOLDS(wp_change(w, at, bytes, 0) == 0);
}

void wp_fill(const struct wp *w, const char *at, uint8_t value, uint64_t mode)
{
        uint8_t buf[KIT_PAGE] __attribute__((aligned(KIT_PAGE)));
        struct uffdio_copy c = {
                .dst = (uintptr_t)at, .src = (uintptr_t)buf, .len = KIT_PAGE, .mode = mode,
        };

        memset(buf, value, sizeof(buf));
        HOLDS(ioctl(w->uffd, UFFDIO_COPY, &c) == 0 && c.copy == KIT_PAGE);
}

void wp_await(const struct wp *w, const char *at, bool protection)
{
        size_t page_bytes = w->kind == WP_HUGETLB ? WP_HUGE : KIT_PAGE;
        struct pollfd p = { .fd = w->uffd, .events = POLLIN };
        struct uffd_msg m;

        HOLDS(poll(&p, 1, MESSAGE_MS) == 1);
        HOLDS(read(w->uffd, &m, sizeof(m)) == sizeof(m));
        HOLDS(m.event == UFFD_EVENT_PAGEFAULT);
        HOLDS(m.arg.pagefault.address / page_bytes == (uintptr_t)at / page_bytes);
        HOLDS(protection == !!(m.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP));
}

bool wp_quiet(const struct wp *w)
{
        struct pollfd p = { .fd = w->uffd, .events = POLLIN };

        return poll(&p, 1, 0) == 0;
}

static void *write_it(void *arg)
{
        struct wp_writer *t = arg;

        t->result = 0;
        if (t->from_fd < 0)
                *t->at = t->value;
        else if (read(t->from_fd, (void *)(uintptr_t)t->at, 1) != 1)
                t->result = errno;
        atomic_store(&t->done, true);
        return NULL;
}

void wp_write_start(struct wp_writer *t, char *at, uint8_t value, int from_fd)
{
        t->at = (volatile uint8_t *)at;
        t->value = value;
        t->from_fd = from_fd;
        atomic_store(&t->done, false);
        HOLDS(pthread_create(&t->thread, NULL, write_it, t) == 0);
}

bool wp_write_sleeps(struct wp_writer *t)
{
        struct timespec moment = { .tv_nsec = 20000000 };

        nanosleep(&moment, NULL);
        return !atomic_load(&t->done);
}

void wp_write_trapped(const struct wp *w, struct wp_writer *t)
{
        wp_await(w, (const char *)(uintptr_t)t->at, true);
        HOLDS(wp_write_sleeps(t));
}

void wp_write_done(struct wp_writer *t)
{
        HOLDS(pthread_join(t->thread, NULL) == 0);
        HOLDS(t->result == 0 && *t->at == t->value);
}

void wp_write_passes(const struct wp *w, char *at, uint8_t value)
{
        struct wp_writer t;

        wp_write_start(&t, at, value, -1);
        wp_write_done(&t);
        HOLDS(wp_quiet(w));
}

void wp_write_traps(const struct wp *w, char *at, uint8_t value)
{
        size_t bytes = w->kind == WP_HUGETLB ? WP_HUGE : KIT_PAGE;
        char *page = (char *)((uintptr_t)at & ~((uintptr_t)bytes - 1));
        struct wp_writer t;

        wp_write_start(&t, at, value, -1);
        wp_write_trapped(w, &t);
        wp_unprotect(w, page, bytes);
        wp_write_done(&t);
        HOLDS(wp_quiet(w));
}

uint64_t wp_entry(const char *at)
{
        int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        uint64_t entry;

        HOLDS(fd >= 0);
        HOLDS(pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)at / KIT_PAGE * 8)) == 8);
        close(fd);
        return entry;
}

int wp_scan(const char *at, uint64_t flags, uint64_t *ret_categories)
{
        const uint64_t all = PAGE_CAN_BE_TRACKED | PAGE_WRITTEN | PAGE_OF_FILE | PAGE_PRESENT |
                             PAGE_SWAPPED | PAGE_ZERO | PAGE_HUGE;
        int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        struct pagemapscan_region region = { .categories = 0 };
        struct pagemapscan s = {
                .size = sizeof(s), .flags = flags, .start_hva = (uintptr_t)at,
                .end_hva = (uintptr_t)at + KIT_PAGE, .regions = (uintptr_t)&region,
                .regions_max = 1, .any_of = all, .report = all,
        };

        HOLDS(fd >= 0);

        int n = ioctl(fd, PAGEMAPSCAN, &s);
        int rc = n < 0 ? -errno : n;

        close(fd);
        *ret_categories = region.categories;
        return rc;
}
