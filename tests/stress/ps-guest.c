/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/ps-guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/uffd.h"

#define PAGE 4096u
#define KIB 1024u

void guest_must(bool ok, const char *what, const char *file, int line)
{
        if (ok)
                return;
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
        exit(1);
}

void guest_need_uffd(void)
{
        struct err e;
        int fd;

        if (uffd_open(0, &fd, &e) < 0) {
                printf("skipped: %s\n", e.text);
                exit(77);
        }
        close(fd);
}

/* Like a PC: conventional memory, a hole, below 1 MiB if pages are small, the rest in
 * three parts, whose borders are no cluster's. */
static void lay_out(struct guest *g)
{
        uint64_t end = g->image.disk_bytes;
        uint64_t page = g->page_bytes;
        uint64_t third = ALIGN_DOWN(end / 3, page) + page;
        uint64_t cut[][2] = {
                { 0, MAX(640 * KIB, page) }, { MAX(1024 * KIB, 2 * page), third },
                { third, 2 * third }, { 2 * third, end },
        };

        g->regions = ARRAY_SIZE(cut);
        for (size_t i = 0; i < g->regions; i++)
                g->region[i] = (struct ps_region){
                        .hva = (uintptr_t)g->ram + cut[i][0], .bytes = cut[i][1] - cut[i][0],
                        .gpa = cut[i][0], .uffd = i % GUEST_UFFDS,
                };
}

/* INV-HOLE: nothing is accessible before it is registered */
static void map_ram(struct guest *g)
{
        bool shared = g->welcome.lane == PS_LANE_SHARED;
        int huge = g->page_bytes > PAGE ? MAP_HUGETLB : 0;
        struct err e;

        g->ram = mmap(NULL, g->image.disk_bytes, PROT_NONE,
                      MAP_PRIVATE | (shared ? 0 : MAP_ANONYMOUS) | huge, g->welcome.map_fd, 0);
        TEST(g->ram != MAP_FAILED);
        TEST(madvise(g->ram, g->image.disk_bytes, MADV_DONTFORK) == 0);
        lay_out(g);
        for (size_t i = 0; i < GUEST_UFFDS; i++)
                MUST(uffd_open(g->removes ? UFFD_FEATURE_EVENT_REMOVE : 0, &g->uffd[i], &e), &e);
        for (size_t i = 0; i < g->regions; i++) {
                struct ps_region *r = &g->region[i];

                MUST(uffd_register_missing(g->uffd[r->uffd], r->hva, r->bytes, &e), &e);
                TEST(mprotect((void *)r->hva, r->bytes, PROT_READ | PROT_WRITE) == 0);
        }
}

/* old: what the last server left, NULL = this is the first */
static void hello(struct guest *g, enum ps_lane lane, uint64_t prefetch, unsigned hold_percent,
                  const struct ps_welcome *old)
{
        bool shared = old && lane != PS_LANE_COPY;
        struct err e;
        struct ps_hello h = {
                .image_fds = &g->image_fd, .nimages = 1, .image_path = "fake image", .lane = lane,
                .prefetch_rate = prefetch, .hold_percent = hold_percent,
                .page_bytes = g->page_bytes, .removes = g->removes,
                .cache_fd = shared ? old->cache_fd : -1,
                .filled_fd = shared ? old->filled_fd : -1,
                .map_fd = -1, .removed_fd = old ? old->removed_fd : -1,
        };

        MUST(ps_client_hello(g->client, &h, &g->welcome, &e), &e);
        TEST((g->welcome.removed_fd >= 0) == g->removes);
        TEST(g->welcome.disk_bytes == g->image.disk_bytes);
        TEST(g->welcome.cluster_bytes == 1u << g->image.cluster_bits);
}

void guest_map(struct guest *g, enum ps_lane lane, uint64_t prefetch, unsigned hold_percent)
{
        if (!g->page_bytes)
                g->page_bytes = PAGE;
        hello(g, lane, prefetch, hold_percent, NULL);
        TEST(lane == PS_LANE_AUTO || g->welcome.lane == lane);
        map_ram(g);
}

void guest_attach(struct guest *g, bool reattach)
{
        struct err e;

        MUST(ps_client_attach(g->client, g->region, g->regions, g->uffd, GUEST_UFFDS, reattach,
                              &e), &e);
}

static void close_welcome(struct ps_welcome *w)
{
        fd_close(&w->map_fd);
        fd_close(&w->cache_fd);
        fd_close(&w->filled_fd);
        fd_close(&w->removed_fd);
}

void guest_lose_server(struct guest *g)
{
        ps_client_free(g->client);
        g->client = NULL;
}

void guest_reattach(struct guest *g, enum ps_lane lane, uint64_t prefetch)
{
        struct ps_welcome old = g->welcome;

        hello(g, lane, prefetch, 0, &old);
        close_welcome(&old);
        guest_attach(g, true);
}

void guest_free(struct guest *g)
{
        guest_lose_server(g);
        if (g->ram)
                munmap(g->ram, g->image.disk_bytes);
        for (size_t i = 0; i < GUEST_UFFDS; i++)
                close(g->uffd[i]);
        close_welcome(&g->welcome);
}

bool guest_has(const struct guest *g, uint64_t gpa)
{
        for (size_t i = 0; i < g->regions; i++) {
                if (gpa >= g->region[i].gpa && gpa - g->region[i].gpa < g->region[i].bytes)
                        return true;
        }
        return false;
}

static void touch(struct toucher *t, uint64_t page)
{
        struct guest *g = t->guest;
        uint64_t gpa = page * PAGE;

        if (!guest_has(g, gpa))
                return;
        if (!fake_page_ok(&g->image, gpa, (volatile uint64_t *)(g->ram + gpa)))
                t->wrong++;
        atomic_fetch_add(&t->touched, 1);
}

static void *touch_all(void *arg)
{
        struct toucher *t = arg;
        uint64_t pages = t->guest->image.disk_bytes / PAGE;
        uint64_t x = t->seed * 2 + 1;

        for (uint64_t i = 0; i < (t->pages ? t->pages : pages); i++) {
                x = x * 6364136223846793005ull + 1442695040888963407ull;
                /* every page once: a walk by a step that has no factor in common */
                touch(t, t->pages ? (x >> 20) % pages : (i * 7919 + t->seed * 131) % pages);
        }
        return NULL;
}

void toucher_start(struct toucher *t)
{
        t->wrong = 0;
        atomic_store(&t->touched, 0);
        TEST(pthread_create(&t->thread, NULL, touch_all, t) == 0);
}

bool toucher_join(struct toucher *t, unsigned ms)
{
        uint64_t end = clock_wall_ns() + ms * NS_PER_MS;
        struct timespec ts = { .tv_sec = (time_t)(end / NS_PER_SEC),
                               .tv_nsec = (long)(end % NS_PER_SEC) };

        return pthread_timedjoin_np(t->thread, NULL, &ts) == 0;
}

void guest_wait(struct guest *g, enum ps_event_type type, struct ps_event *ret)
{
        struct err e;

        do
                MUST(ps_client_event(g->client, ret, &e), &e);
        while (ret->type != type);
}

void guest_stats(struct guest *g, struct ps_stats *ret)
{
        struct ps_event event;
        struct err e;

        MUST(ps_client_ask_stats(g->client, &e), &e);
        guest_wait(g, PS_EVENT_STATS, &event);
        *ret = event.stats;
}

pid_t guest_run_self(const char *role, const char *arg, int keep_fd)
{
        char *argv[] = { (char *)"self", (char *)role, (char *)arg, NULL };
        posix_spawn_file_actions_t files;
        pid_t pid;

        posix_spawn_file_actions_init(&files);
        if (keep_fd >= 0)
                posix_spawn_file_actions_adddup2(&files, keep_fd, 4);
        posix_spawn_file_actions_addclosefrom_np(&files, 5);

        int rc = posix_spawn(&pid, "/proc/self/exe", &files, NULL, argv, environ);

        posix_spawn_file_actions_destroy(&files);
        TEST(rc == 0);
        return pid;
}
