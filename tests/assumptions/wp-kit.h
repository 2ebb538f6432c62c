/* SPDX-License-Identifier: Apache-2.0 */
/* wp-kit.h - memory of one kind under userfaultfd, to be write-protected, and threads that
 * write to it: what each rule about write-protection needs. A rule is a case with a name;
 * where this kernel or host cannot be asked, that case alone is skipped, with the reason. */
#ifndef TESTS_ASSUMPTIONS_WP_KIT_H
#define TESTS_ASSUMPTIONS_WP_KIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pageserver/uffd.h"
#include "tests/assumptions/uffd-kit.h"

/* newer than some headers */
#define WP_UNPOPULATED (1ull << 13)                     /* 6.4 */
#define WP_ASYNC (1ull << 15)                           /* 6.7 */

#define WP_HUGE ((size_t)2 << 20)
#define WP_BYTES (4 * WP_HUGE)

#define WP_MISSING UFFDIO_REGISTER_MODE_MISSING
#define WP_BOTH (UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP)

/* CACHE: private mapping of a memfd, all hole. THP: advised, full of ones, and huge. */
enum wp_kind { WP_ANONYMOUS, WP_CACHE, WP_THP, WP_HUGETLB };

struct wp {
        enum wp_kind kind;
        char *map;              /* WP_BYTES, 2 MiB aligned, not registered yet */
        int memfd;              /* CACHE */
        int uffd;
        const char *skip;       /* set by a case: what was missing on the way */
};

struct wp_case {
        const char *name;
        void (*run)(struct wp *w);
        enum wp_kind kind;
        uint64_t features;      /* beside those that the kind needs */
};

/* 0 when all that could be asked hold, 77 when none could be; the first that does not
 * hold ends the program with 1 */
int wp_main(const struct wp_case *cases, size_t n);

static inline char *wp_page(const struct wp *w, unsigned page)
{
        return w->map + (size_t)page * KIT_PAGE;
}

void wp_cache_page(const struct wp *w, unsigned page, uint8_t value);
void wp_register(const struct wp *w, uint64_t mode);
/* mode: UFFDIO_WRITEPROTECT_MODE_*, 0 = unprotect and wake. Returns errno. */
int wp_change(const struct wp *w, const char *at, size_t bytes, uint64_t mode);
void wp_protect(const struct wp *w, const char *at, size_t bytes);
void wp_unprotect(const struct wp *w, const char *at, size_t bytes);
/* UFFDIO_COPY of one page full of value; mode: 0 or UFFDIO_COPY_MODE_WP */
void wp_fill(const struct wp *w, const char *at, uint8_t value, uint64_t mode);

/* a message waits, of this page, because of protection or because it is missing */
void wp_await(const struct wp *w, const char *at, bool protection);
bool wp_quiet(const struct wp *w);

struct wp_writer {
        volatile uint8_t *at;
        uint8_t value;
        int from_fd;            /* read(2) does it; -1: an instruction */
        pthread_t thread;
        _Atomic bool done;
        int result;             /* 0 or errno of the read, once joined */
};

void wp_write_start(struct wp_writer *t, char *at, uint8_t value, int from_fd);
/* it waits for protection: its message was read and it sleeps */
void wp_write_trapped(const struct wp *w, struct wp_writer *t);
/* joined; the byte is there */
void wp_write_done(struct wp_writer *t);
bool wp_write_sleeps(struct wp_writer *t);
/* a whole write that nothing stops, and no message comes of it */
void wp_write_passes(const struct wp *w, char *at, uint8_t value);
/* a whole write that is trapped, and let go by unprotecting its page */
void wp_write_traps(const struct wp *w, char *at, uint8_t value);

/* /proc/self/pagemap */
#define WP_ENTRY_PROTECTED (1ull << 57)
#define WP_ENTRY_FILE (1ull << 61)
#define WP_ENTRY_SWAPPED (1ull << 62)
#define WP_ENTRY_PRESENT (1ull << 63)
uint64_t wp_entry(const char *at);

/* PAGEMAP_SCAN of one page (vmm/pagemapscan.h): all its categories. Returns 1, 0 when the
 * kernel reports nothing of it, or a negative errno: ENOTTY before Linux 6.7. */
int wp_scan(const char *at, uint64_t flags, uint64_t *ret_categories);

#endif
