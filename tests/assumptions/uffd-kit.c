/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/assumptions/uffd-kit.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pageserver/uffd.h"

void kit_holds(bool ok, const char *what, const char *file, int line)
{
        if (ok)
                return;
        fprintf(stderr, "%s:%d: this kernel differs: %s\n", file, line, what);
        exit(1);
}

void kit_need_uffd(void)
{
        struct err e;
        int fd;

        alarm(30);              /* a wrong assumption may hang */
        if (uffd_open(0, &fd, &e) < 0) {
                printf("skipped: %s\n", e.text);
                exit(77);
        }
        close(fd);
}

long kit_smaps_kib(const char *at, const char *key)
{
        FILE *f = fopen("/proc/self/smaps", "re");
        unsigned long first, end;
        bool here = false;
        long kib = -1;
        char line[256];

        HOLDS(f != NULL);
        while (fgets(line, sizeof(line), f)) {
                if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
                        here = first <= (uintptr_t)at && (uintptr_t)at < end;
                else if (here && strncmp(line, key, strlen(key)) == 0)
                        kib = atol(line + strlen(key));
        }
        fclose(f);
        return kib;
}

void kit_open(struct kit *k)
{
        struct err e;

        k->memfd = memfd_create("kit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        HOLDS(k->memfd >= 0 && ftruncate(k->memfd, KIT_BYTES) == 0);
        k->map = mmap(NULL, KIT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, k->memfd, 0);
        HOLDS(k->map != MAP_FAILED);
        HOLDS(uffd_open(0, &k->uffd, &e) == 0);
        HOLDS(uffd_register_missing(k->uffd, (uintptr_t)k->map, KIT_BYTES, &e) == 0);
}

void kit_close(struct kit *k)
{
        munmap(k->map, KIT_BYTES);
        close(k->uffd);
        close(k->memfd);
}

void kit_write_page(struct kit *k, unsigned page, uint8_t value)
{
        uint8_t buf[KIT_PAGE];

        memset(buf, value, sizeof(buf));
        HOLDS(pwrite(k->memfd, buf, sizeof(buf), (off_t)page * KIT_PAGE) == sizeof(buf));
}

unsigned kit_memfd_pages(const struct kit *k)
{
        struct stat st;

        HOLDS(fstat(k->memfd, &st) == 0);
        return (unsigned)(st.st_blocks * 512 / KIT_PAGE);
}

static void *touch(void *arg)
{
        struct kit_touch *t = arg;

        t->value = *t->at;
        atomic_store(&t->done, true);
        return NULL;
}

void kit_touch_start(struct kit_touch *t, const void *at)
{
        t->at = at;
        atomic_store(&t->done, false);
        HOLDS(pthread_create(&t->thread, NULL, touch, t) == 0);
}

void kit_await_fault(const struct kit *k, const void *at)
{
        struct pollfd p = { .fd = k->uffd, .events = POLLIN };
        struct uffd_msg m;

        HOLDS(poll(&p, 1, -1) == 1);
        HOLDS(read(k->uffd, &m, sizeof(m)) == sizeof(m));
        HOLDS(m.event == UFFD_EVENT_PAGEFAULT);
        HOLDS(m.arg.pagefault.address / KIT_PAGE == (uintptr_t)at / KIT_PAGE);
}

uint8_t kit_touch_join(struct kit_touch *t)
{
        HOLDS(pthread_join(t->thread, NULL) == 0);
        return t->value;
}

bool kit_touch_sleeps(struct kit_touch *t)
{
        struct timespec moment = { .tv_nsec = 20000000 };

        nanosleep(&moment, NULL);
        return !atomic_load(&t->done);
}
