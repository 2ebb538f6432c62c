/* SPDX-License-Identifier: Apache-2.0 */
/* What a live save's pause is made of, on this machine: finding what is RAM's own
 * (vmm/ownmap.h) and protecting it, and what releasing it unit by unit takes afterwards.
 * Prints milliseconds per GiB, the best of three; there is no limit. WP_COST_MIB=N: of so
 * much memory, 256 MiB unless told. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "tests/assumptions/wp-kit.h"
#include "vmm/ownmap-priv.h"

#define ROUNDS 3
#define UNIT ((size_t)64 << 10)
/* gaps up to this many pages are protected with what is around them */
#define GAP_PAGES 0

struct memory {
        const char *name;
        enum wp_kind kind;
        unsigned own_of_100;
        size_t unit_bytes;
};

static const struct memory memories[] = {
        { "huge pages", WP_THP, 100, WP_HUGE },
        { "small pages", WP_ANONYMOUS, 100, UNIT },
        { "small pages, 1 in 100 own", WP_ANONYMOUS, 1, UNIT },
        { "cache, 1 page in 100 own", WP_CACHE, 1, UNIT },
};

static void fill(const struct memory *m, struct ram *ram)
{
        uint8_t *hva = ram->slots[0].hva;
        volatile uint8_t sum = 0;

        if (m->kind == WP_ANONYMOUS)
                (void)madvise(hva, ram->bytes, MADV_NOHUGEPAGE);
        for (uint64_t at = 0; at < ram->bytes; at += KIT_PAGE) {
                if (at / KIT_PAGE % 100 < m->own_of_100)
                        *(volatile uint8_t *)(hva + at) = 1;
                else if (m->kind == WP_CACHE)
                        sum = *(volatile uint8_t *)(hva + at);
        }
        (void)sum;
}

static void map_cache(struct ram *ram)
{
        AUTO_FD fd = memfd_create("cost", MFD_CLOEXEC);

        HOLDS(fd >= 0 && ftruncate(fd, (off_t)ram->bytes) == 0);
        for (uint64_t at = 0; at < ram->bytes; at += KIT_PAGE)
                HOLDS(pwrite(fd, "x", 1, (off_t)at) == 1);
        HOLDS(ram_map_cache(ram, fd, NULL) == 0 && ram_unlock(ram, NULL) == 0);
}

static void map_memory(const struct memory *m, struct ram *ram, uint64_t bytes)
{
        HOLDS(ram_init(ram, bytes, NULL) == 0);
        if (m->kind == WP_CACHE)
                map_cache(ram);
        else
                HOLDS(ram_map_anonymous(ram, false, m->kind == WP_THP ? RAM_THP : RAM_SMALL,
                                        NULL) == 0);
        fill(m, ram);
}

static struct wp watch(const struct memory *m, const struct ram *ram)
{
        struct wp w = {
                .kind = m->kind, .map = (char *)ram->slots[0].hva, .memfd = -1, .uffd = -1,
        };
        uint64_t features = m->kind == WP_CACHE ? UFFD_PROTECT_FILE : UFFD_PROTECT_ANONYMOUS;

        if (uffd_open(features, &w.uffd, NULL) < 0 ||
            uffd_register_protect(w.uffd, (uintptr_t)w.map, ram->bytes, true, NULL) < 0)
                w.skip = "cannot be write-protected here";
        return w;
}

static double ms_per_gib(uint64_t ns, uint64_t bytes)
{
        return (double)ns / (double)NS_PER_MS * (double)(1ull << 30) / (double)bytes;
}

static double scan_cost(const struct ownmap_way *way, const struct ram *ram)
{
        uint64_t best = UINT64_MAX;
        struct ownmap *map;

        if (ownmap_new_by(way, ram, &map, NULL) < 0)
                return -1;
        for (unsigned i = 0; i < ROUNDS; i++) {
                uint64_t start = clock_now_ns();

                HOLDS(ownmap_scan(map, 0, 0, ram->bytes, NULL) == 0);
                best = MIN(best, clock_now_ns() - start);
        }
        ownmap_free(map);
        return ms_per_gib(best, ram->bytes);
}

struct part {
        const struct wp *wp;
        const struct ownmap *map;
        uint64_t gpa, bytes;
};

static void *arm_part(void *arg)
{
        const struct part *p = arg;
        uint64_t gpa = p->gpa;
        struct ownmap_run run;

        while (ownmap_run(p->map, gpa, p->gpa + p->bytes, GAP_PAGES, &run)) {
                wp_protect(p->wp, p->wp->map + run.gpa, run.bytes);
                gpa = run.gpa + run.bytes;
        }
        return NULL;
}

static uint64_t arm(const struct wp *w, const struct ownmap *map, uint64_t bytes,
                    unsigned threads)
{
        struct part parts[2];
        pthread_t ids[2];
        uint64_t start = clock_now_ns();

        ASSERT(threads <= ARRAY_SIZE(parts));
        for (unsigned i = 0; i < threads; i++) {
                parts[i] = (struct part){ w, map, i * (bytes / threads), bytes / threads };
                HOLDS(pthread_create(&ids[i], NULL, arm_part, &parts[i]) == 0);
        }
        for (unsigned i = 0; i < threads; i++)
                pthread_join(ids[i], NULL);
        return clock_now_ns() - start;
}

static uint64_t release(const struct wp *w, const struct ownmap *map, uint64_t bytes,
                        size_t unit_bytes)
{
        uint64_t start = clock_now_ns();

        for (uint64_t at = 0; at < bytes; at += unit_bytes) {
                if (ownmap_any(map, at, unit_bytes))
                        wp_unprotect(w, w->map + at, unit_bytes);
        }
        return clock_now_ns() - start;
}

struct costs {
        uint64_t arm, arm_by_two, release;
};

static struct costs protection_costs(const struct memory *m, const struct wp *w,
                                     const struct ownmap *map, uint64_t bytes)
{
        struct costs c = { UINT64_MAX, UINT64_MAX, UINT64_MAX };

        for (unsigned i = 0; i < ROUNDS; i++) {
                c.arm = MIN(c.arm, arm(w, map, bytes, 1));
                c.release = MIN(c.release, release(w, map, bytes, m->unit_bytes));
                c.arm_by_two = MIN(c.arm_by_two, arm(w, map, bytes, 2));
                (void)release(w, map, bytes, m->unit_bytes);
        }
        return c;
}

static void measure(const struct memory *m, uint64_t bytes)
{
        struct ownmap *map;
        struct ram ram;
        struct wp w;

        map_memory(m, &ram, bytes);
        w = watch(m, &ram);
        printf("%-28s %8.2f %8.2f ", m->name, scan_cost(&ownmap_by_scan, &ram),
               scan_cost(&ownmap_by_pagemap, &ram));
        HOLDS(ownmap_new(&ram, &map, NULL) == 0);
        HOLDS(ownmap_scan(map, 0, 0, bytes, NULL) == 0);
        if (w.skip) {
                printf("%s\n", w.skip);
        } else {
                struct costs c = protection_costs(m, &w, map, bytes);

                printf("%8.2f %8.2f %8.2f   (%llu huge)\n", ms_per_gib(c.arm, bytes),
                       ms_per_gib(c.arm_by_two, bytes), ms_per_gib(c.release, bytes),
                       (unsigned long long)ownmap_count(map).huge_blocks);
        }
        ownmap_free(map);
        fd_close(&w.uffd);
        ram_unmap(&ram);
}

int main(void)
{
        const char *mib = getenv("WP_COST_MIB");
        uint64_t bytes = (mib ? strtoull(mib, NULL, 10) : 256) << 20;
        struct sysinfo host;

        kit_need_uffd();
        alarm(300);
        if (sysinfo(&host) < 0 || (uint64_t)host.freeram * host.mem_unit < 4 * bytes) {
                printf("skipped: less than four times %llu MiB of memory is free\n",
                       (unsigned long long)(bytes >> 20));
                return 77;
        }
        printf("ms per GiB                       SCAN  pagemap      arm   by two  release\n");
        for (size_t i = 0; i < ARRAY_SIZE(memories); i++)
                measure(&memories[i], bytes);
        return 0;
}
