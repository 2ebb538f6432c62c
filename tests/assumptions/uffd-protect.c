/* SPDX-License-Identifier: Apache-2.0 */
/* What the reader lease rests on: write-protect faults of a range come on the descriptor that
 * its missing pages are told on, protection can be added to a range that is registered for
 * missing pages, and a writer that is only woken faults anew, so that its message goes to
 * whoever reads next. Of anonymous memory and of a private mapping of a memfd alike. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/uffd.h"
#include "tests/assumptions/uffd-kit.h"

struct memory {
        const char *name;
        bool of_file;
        uint64_t missing;
        uint64_t protect;

        int memfd;
        int uffd;
        uint8_t *map;
};

struct writer {
        pthread_t thread;
        volatile uint8_t *at;
        _Atomic bool done;
};

static void *write_one(void *arg)
{
        struct writer *w = arg;

        *w->at = 0x77;
        atomic_store(&w->done, true);
        return NULL;
}

static void writer_start(struct writer *w, uint8_t *at)
{
        w->at = at;
        atomic_store(&w->done, false);
        HOLDS(pthread_create(&w->thread, NULL, write_one, w) == 0);
}

static bool still_waits(struct writer *w)
{
        usleep(20000);
        return !atomic_load(&w->done);
}

static uint64_t await(const struct memory *m, const void *at)
{
        struct pollfd p = { .fd = m->uffd, .events = POLLIN };
        struct uffd_msg msg;

        HOLDS(poll(&p, 1, -1) == 1);
        HOLDS(uffd_read(m->uffd, &msg, sizeof(msg)) == sizeof(msg));
        HOLDS(msg.event == UFFD_EVENT_PAGEFAULT);
        HOLDS(msg.arg.pagefault.address / KIT_PAGE == (uintptr_t)at / KIT_PAGE);
        return msg.arg.pagefault.flags;
}

static uint64_t hva(const struct memory *m, unsigned page)
{
        return (uintptr_t)m->map + page * KIT_PAGE;
}

static void fill(const struct memory *m, unsigned page, uint8_t value)
{
        static uint8_t source[KIT_PAGE] __attribute__((aligned(4096)));

        memset(source, value, sizeof(source));
        HOLDS(uffd_copy(m->uffd, hva(m, page), source, KIT_PAGE, KIT_PAGE) == UFFD_DONE);
}

static bool memory_open(struct memory *m)
{
        struct err e;
        int rc = uffd_open(m->missing | m->protect, &m->uffd, &e);

        if (rc == -ENOTSUP) {
                printf("%s: %s\n", m->name, e.text);
                return false;
        }
        HOLDS(rc == 0);
        m->memfd = m->of_file ? memfd_create("protect", MFD_CLOEXEC) : -1;
        HOLDS(!m->of_file || ftruncate(m->memfd, KIT_BYTES) == 0);
        m->map = mmap(NULL, KIT_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | (m->of_file ? 0 : MAP_ANONYMOUS), m->memfd, 0);
        HOLDS(m->map != MAP_FAILED);
        HOLDS(uffd_register_missing(m->uffd, hva(m, 0), KIT_BYTES, &e) == 0);
        return true;
}

static void memory_close(struct memory *m)
{
        munmap(m->map, KIT_BYTES);
        close(m->uffd);
        if (m->memfd >= 0)
                close(m->memfd);
}

static void both_on_one_descriptor(struct memory *m)
{
        struct writer w, late;
        struct err e;

        fill(m, 1, 0x11);
        HOLDS(uffd_protect(m->uffd, hva(m, 1), KIT_PAGE, true) == UFFD_GONE);
        HOLDS(uffd_register_protect(m->uffd, hva(m, 0), KIT_BYTES, true, &e) == 0);
        HOLDS(uffd_protect(m->uffd, hva(m, 1), KIT_PAGE, true) == UFFD_DONE);

        writer_start(&w, &m->map[KIT_PAGE]);
        HOLDS(await(m, &m->map[KIT_PAGE]) & UFFD_PAGEFAULT_FLAG_WP);
        writer_start(&late, &m->map[2 * KIT_PAGE]);
        HOLDS(!(await(m, &m->map[2 * KIT_PAGE]) & UFFD_PAGEFAULT_FLAG_WP));
        fill(m, 2, 0x22);
        HOLDS(pthread_join(late.thread, NULL) == 0 && m->map[2 * KIT_PAGE] == 0x77);

        HOLDS(uffd_wake(m->uffd, hva(m, 1), KIT_PAGE) == UFFD_DONE);
        HOLDS(await(m, &m->map[KIT_PAGE]) & UFFD_PAGEFAULT_FLAG_WP);
        HOLDS(still_waits(&w) && m->map[KIT_PAGE] == 0x11);

        HOLDS(uffd_protect(m->uffd, hva(m, 1), KIT_PAGE, false) == UFFD_DONE);
        HOLDS(pthread_join(w.thread, NULL) == 0 && m->map[KIT_PAGE] == 0x77);
}

/* Registering again for less changes nothing. */
static void no_way_back(struct memory *m)
{
        struct err e;

        HOLDS(uffd_register_missing(m->uffd, hva(m, 0), KIT_BYTES, &e) == 0);
        HOLDS(uffd_protect(m->uffd, hva(m, 1), KIT_PAGE, true) == UFFD_DONE);
        HOLDS(uffd_protect(m->uffd, hva(m, 1), KIT_PAGE, false) == UFFD_DONE);
}

/* Not of anonymous memory: there is nothing that could be protected. */
static void absent_pages(struct memory *m)
{
        struct writer w;

        HOLDS(uffd_protect(m->uffd, hva(m, 3), KIT_PAGE, true) == UFFD_DONE);
        fill(m, 3, 0x33);       /* a plain copy takes the mark away, wherever it was */
        m->map[3 * KIT_PAGE] = 0x44;

        HOLDS(uffd_protect(m->uffd, hva(m, 4), KIT_PAGE, true) == UFFD_DONE);
        if (!m->of_file)
                return;
        memset(&w, 0, sizeof(w));
        HOLDS(pwrite(m->memfd, "x", 1, 4 * KIT_PAGE) == 1);
        writer_start(&w, &m->map[4 * KIT_PAGE]);
        HOLDS(await(m, &m->map[4 * KIT_PAGE]) & UFFD_PAGEFAULT_FLAG_WP);
        HOLDS(uffd_protect(m->uffd, hva(m, 4), KIT_PAGE, false) == UFFD_DONE);
        HOLDS(pthread_join(w.thread, NULL) == 0 && m->map[4 * KIT_PAGE] == 0x77);
}

int main(void)
{
        struct memory kinds[] = {
                { .name = "anonymous memory", .protect = UFFD_PROTECT_ANONYMOUS },
                { .name = "a memfd", .of_file = true, .missing = UFFD_FEATURE_MISSING_SHMEM,
                  .protect = UFFD_PROTECT_FILE },
        };
        bool any = false;

        kit_need_uffd();
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                if (!memory_open(&kinds[i]))
                        continue;
                any = true;
                both_on_one_descriptor(&kinds[i]);
                no_way_back(&kinds[i]);
                absent_pages(&kinds[i]);
                memory_close(&kinds[i]);
        }
        return any ? 0 : 77;
}
