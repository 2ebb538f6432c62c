/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever a guest does with its memory, and whatever happens to its server and
 *       its image meanwhile, each page holds what it must: the image's bytes, what
 *       was written last, or zeros after it was given back (INV-REMOVED, INV-ONE,
 *       INV-LOSTWAKE, INV-REATTACH, INV-VERIFIED).
 * Method: actors (ps-model-actor.h) read, write, give back and unmap pages at random
 *       and compare all they see with a model; bystanders touch pages that others
 *       give back; beside them prefetch goes on and off,
 *       clusters go bad and good, the server is killed. What wakes all threads would
 *       hide a wake-up that was lost: so some rounds do without. PS_MODEL_SECONDS
 *       (5) in all; PS_MODEL_SEED and PS_MODEL_ROUND bring a round again, as far as
 *       threads allow. */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-model-actor.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_S 30
#define ROUND_NS (300 * NS_PER_MS)
#define SERVER_WORKERS 3
#define SMALL 4096u
#define HUGE (2u << 20)
#define HUGE_PAGES 14           /* of such a guest */

enum {
        REMOVES = 1,            /* the guest reports what it gives back  */
        UNMAPS = 2,
        BADS = 4,               /* clusters go bad and good, with RETRY  */
        KILLS = 8,              /* a private server, killed and replaced */
        STEADY = 16,            /* prefetch stays as it is               */
};

struct round {
        const char *name;
        enum ps_lane lane;
        uint32_t page_bytes;
        uint32_t cluster_bits;
        unsigned flags;
        uint64_t prefetch;
        unsigned actors;
        uint32_t slow_us;
};

static const struct round rounds[] = {
        { "copy, 16 KiB, removes",
          PS_LANE_COPY, SMALL, 14, REMOVES, PS_PREFETCH_OFF, 6, 0 },
        { "copy, 64 KiB, removes, demand only",
          PS_LANE_COPY, SMALL, 16, REMOVES | STEADY, PS_PREFETCH_OFF, 6, 0 },
        { "copy, 16 KiB, removes, unmaps",
          PS_LANE_COPY, SMALL, 14, REMOVES | UNMAPS, 64ull << 20, 6, 0 },
        { "copy, 4 KiB, removes, slow",
          PS_LANE_COPY, SMALL, 12, REMOVES, 8ull << 20, 6, 200 },
        { "copy, 16 KiB, removes, bad clusters",
          PS_LANE_COPY, SMALL, 14, REMOVES | BADS, PS_PREFETCH_OFF, 6, 50 },
        { "copy, 16 KiB, removes, server killed",
          PS_LANE_COPY, SMALL, 14, REMOVES | KILLS, 16ull << 20, 6, 20 },
        { "copy, 64 KiB, everything",
          PS_LANE_COPY, SMALL, 16, REMOVES | UNMAPS | BADS | KILLS, 16ull << 20, 6, 20 },
        { "copy, 16 KiB, removes, more threads than a read takes",
          PS_LANE_COPY, SMALL, 14, REMOVES | STEADY, PS_PREFETCH_OFF, ACTORS_MAX, 0 },
        { "copy, 2 MiB clusters, removes",
          PS_LANE_COPY, SMALL, 21, REMOVES, PS_PREFETCH_OFF, 6, 0 },
        { "copy, 16 KiB, silent",
          PS_LANE_COPY, SMALL, 14, 0, 64ull << 20, 6, 0 },
        { "copy, 16 KiB, silent, unmaps, demand only",
          PS_LANE_COPY, SMALL, 14, UNMAPS | STEADY, PS_PREFETCH_OFF, 6, 0 },
        { "shared, 16 KiB",
          PS_LANE_SHARED, SMALL, 14, 0, 64ull << 20, 6, 0 },
        { "shared, 64 KiB, slow, prefetch only",
          PS_LANE_SHARED, SMALL, 16, STEADY, PS_PREFETCH_UNLIMITED, 6, 500 },
        { "shared, 64 KiB, unmaps, demand only",
          PS_LANE_SHARED, SMALL, 16, UNMAPS | STEADY, PS_PREFETCH_OFF, 6, 0 },
        { "shared, 16 KiB, everything",
          PS_LANE_SHARED, SMALL, 14, UNMAPS | BADS | KILLS, 16ull << 20, 6, 20 },
        { "huge pages, 16 KiB, removes",
          PS_LANE_COPY, HUGE, 14, REMOVES, PS_PREFETCH_OFF, 4, 0 },
        { "huge pages, 16 KiB, removes, unmaps, demand only",
          PS_LANE_COPY, HUGE, 14, REMOVES | UNMAPS | STEADY, PS_PREFETCH_OFF, 4, 0 },
        { "huge pages, 64 KiB, everything",
          PS_LANE_COPY, HUGE, 16, REMOVES | UNMAPS | BADS | KILLS, 128ull << 20, 4, 0 },
};

struct play {
        const struct round *round;
        uint64_t seed;
        uint64_t random;
        struct test_server server;      /* not with KILLS */
        struct fake_image good;
        struct guest guest;
        struct model model;
        struct actor actor[ACTORS_MAX + BYSTANDERS];
        bool retry_due;                 /* a page is waited for that was bad */
        unsigned kills;
};

/* ---- the server and the image, by the main thread --------------------------- */

static void start_server(struct play *p)
{
        struct err e;

        if (p->round->flags & KILLS)
                MUST(ps_client_spawn("/proc/self/exe", &p->guest.client, &e), &e);
        else
                MUST(ps_client_connect(p->server.path, &p->guest.client, &e), &e);
}

static void kill_server(struct play *p)
{
        pid_t pid = ps_client_pid(p->guest.client);

        TEST(kill(pid, SIGKILL) == 0);
        TEST(waitpid(pid, NULL, 0) == pid);
        guest_lose_server(&p->guest);
        start_server(p);
        guest_reattach(&p->guest, p->round->lane, p->round->prefetch);
        p->kills++;
}

static void take_event(struct play *p, const struct ps_event *event)
{
        if (event->type == PS_EVENT_BAD_PAGE)
                p->retry_due = true;
}

/* what the server has said so far */
static void take_events(struct play *p)
{
        struct pollfd fd = { .fd = ps_client_fd(p->guest.client), .events = POLLIN };
        struct ps_event event;
        struct err e;

        while (poll(&fd, 1, 0) > 0) {
                MUST(ps_client_event(p->guest.client, &event, &e), &e);
                take_event(p, &event);
        }
}

static void spoil(struct play *p)
{
        struct fake_image bad = p->good;
        uint64_t clusters = bad.disk_bytes >> bad.cluster_bits;

        for (unsigned i = 0; i < FAKE_BAD_MAX; i++)
                bad.bad[bad.bads++] = model_random(&p->random) % clusters;
        fake_image_update(p->guest.image_fd, &bad);
}

static void heal(struct play *p)
{
        fake_image_update(p->guest.image_fd, &p->good);
}

static void retry(struct play *p)
{
        struct err e;

        p->retry_due = false;
        MUST(ps_client_retry(p->guest.client, &e), &e);
}

static void change_prefetch(struct play *p)
{
        static const uint64_t rates[] = {
                PS_PREFETCH_OFF, 4ull << 20, 64ull << 20, PS_PREFETCH_UNLIMITED,
        };
        struct err e;

        MUST(ps_client_prefetch(p->guest.client,
                                rates[model_random(&p->random) % ARRAY_SIZE(rates)], &e), &e);
}

static void look_at_stats(struct play *p)
{
        struct ps_event event;
        struct err e;

        MUST(ps_client_ask_stats(p->guest.client, &e), &e);
        do {
                MUST(ps_client_event(p->guest.client, &event, &e), &e);
                take_event(p, &event);
        } while (event.type != PS_EVENT_STATS);
        TEST(event.stats.present_bytes <= event.stats.total_bytes);
}

static void interfere(struct play *p)
{
        unsigned flags = p->round->flags;
        unsigned dice = (unsigned)(model_random(&p->random) % 64);

        if (dice < 8 && !(flags & STEADY))
                change_prefetch(p);
        else if (dice < 16)
                look_at_stats(p);
        else if (dice < 24 && flags & BADS)
                spoil(p);
        else if (dice < 36 && flags & BADS)
                heal(p);
        else if (dice < 44 && p->retry_due)
                retry(p);
        else if (dice < 48 && flags & KILLS)
                kill_server(p);
}

/* ---- a round ----------------------------------------------------------------- */

static void pause_us(uint64_t us)
{
        struct timespec ts = { .tv_nsec = (long)(us * 1000) };

        nanosleep(&ts, NULL);
}

static void print_wrong(const struct actor *a)
{
        const struct wrong *w = &a->wrong;

        fprintf(stderr, "actor %u, %s: page %llu (%s), word %u: %#llx, not %#llx; later %#llx\n",
                a->index, w->after, (unsigned long long)w->page, page_is_name(w->is), w->word,
                (unsigned long long)w->got, (unsigned long long)w->want,
                (unsigned long long)w->later);
}

static void print_stuck(const struct actor *a)
{
        uint64_t page = atomic_load(&a->at_page);

        fprintf(stderr, "actor %u sleeps, %s at page %llu (%s) after %llu steps\n", a->index,
                atomic_load(&a->doing), (unsigned long long)page,
                page_is_name(a->model->page[page].is),
                (unsigned long long)atomic_load(&a->steps));
}

static bool joined(const struct actor *a)
{
        uint64_t end = clock_wall_ns() + 5 * NS_PER_MS;
        struct timespec ts = { .tv_sec = (time_t)(end / NS_PER_SEC),
                               .tv_nsec = (long)(end % NS_PER_SEC) };

        return pthread_timedjoin_np(a->thread, NULL, &ts) == 0;
}

/* Nothing is bad any more. Who waits for what was bad was said, and is woken by RETRY;
 * nothing else wakes anybody here who was forgotten. */
static unsigned join_some(struct play *p, unsigned first, unsigned end)
{
        uint64_t end_ns = clock_now_ns() + PATIENCE_S * NS_PER_SEC;
        unsigned failures = 0;

        for (unsigned i = first; i < end; i++) {
                struct actor *a = &p->actor[i];
                bool done;

                while (!(done = joined(a)) && clock_now_ns() < end_ns) {
                        take_events(p);
                        if (p->retry_due)
                                retry(p);
                }
                if (done && a->is_wrong)
                        print_wrong(a);
                else if (!done)
                        print_stuck(a);
                failures += !done || a->is_wrong;
        }
        return failures;
}

/* Bystanders first: whom nobody woke would be woken by the actors' looking. */
static void join_all(struct play *p)
{
        unsigned actors = p->model.actors;

        atomic_store(&p->model.stop, true);
        TEST(join_some(p, actors, actors + BYSTANDERS) == 0);
        atomic_store(&p->model.sweep, true);
        TEST(join_some(p, 0, actors) == 0);
}

static void begin(struct play *p)
{
        const struct round *r = p->round;
        uint64_t pages = 1500 + model_random(&p->random) % 3000;

        if (r->page_bytes == HUGE)
                pages = HUGE_PAGES;
        p->good = (struct fake_image){
                .seed = p->seed, .disk_bytes = pages * r->page_bytes,
                .cluster_bits = r->cluster_bits, .slow_us = r->slow_us,
        };
        p->guest = (struct guest){
                .image = p->good, .image_fd = fake_image_file(&p->good),
                .page_bytes = r->page_bytes, .removes = r->flags & REMOVES,
        };
        if (!(r->flags & KILLS))
                test_server_start(&p->server, SERVER_WORKERS);
        start_server(p);
        guest_map(&p->guest, r->lane, r->prefetch, 0);
        guest_attach(&p->guest, false);
        model_init(&p->model, &p->guest, p->seed, p->actor, r->actors,
                   r->flags & UNMAPS);
        for (unsigned i = 0; i < r->actors + BYSTANDERS; i++)
                actor_start(&p->actor[i], &p->model, i);
}

static void end(struct play *p)
{
        pid_t pid = ps_client_pid(p->guest.client);

        model_fini(&p->model);
        guest_free(&p->guest);
        close(p->guest.image_fd);
        if (p->round->flags & KILLS)
                TEST(kill(pid, SIGTERM) == 0 && waitpid(pid, NULL, 0) == pid);
        else
                test_server_stop(&p->server);
}

static void play(const struct round *r, uint64_t seed, uint64_t ns)
{
        static struct play p;           /* large */
        uint64_t steps = 0;

        printf("PS_MODEL_SEED=%llu PS_MODEL_ROUND=%u: %s\n", (unsigned long long)seed,
               (unsigned)(r - rounds), r->name);
        p = (struct play){ .round = r, .seed = seed, .random = seed };
        begin(&p);
        for (uint64_t end_ns = clock_now_ns() + ns; clock_now_ns() < end_ns;) {
                take_events(&p);
                interfere(&p);
                pause_us(model_random(&p.random) % 2000);
        }
        heal(&p);
        join_all(&p);
        for (unsigned i = 0; i < r->actors; i++)
                steps += atomic_load(&p.actor[i].steps);
        end(&p);
        printf("ok: %llu steps, %u kills\n", (unsigned long long)steps, p.kills);
}

/* ---- all of them ------------------------------------------------------------- */

static uint64_t number_from(const char *name, uint64_t otherwise)
{
        const char *text = getenv(name);

        return text ? strtoull(text, NULL, 0) : otherwise;
}

/* Lets the kernel make huge pages when they are asked for, if we may say so. Returns
 * how many it would make before; -1 = it is not ours to say. */
static int allow_huge(int pages)
{
        FILE *f = fopen("/proc/sys/vm/nr_overcommit_hugepages", "r+e");
        int before = -1;

        if (!f)
                return -1;
        if (fscanf(f, "%d", &before) == 1) {
                rewind(f);
                fprintf(f, "%d", pages);
        }
        fclose(f);
        return before;
}

static bool can_play(const struct round *r)
{
        size_t bytes = HUGE_PAGES * HUGE;

        if (r->page_bytes == SMALL)
                return true;

        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

        if (p == MAP_FAILED)
                return false;
        munmap(p, bytes);
        return true;
}

int main(int argc, char **argv)
{
        uint64_t seed = number_from("PS_MODEL_SEED", clock_wall_ns() / 1000);
        uint64_t only = number_from("PS_MODEL_ROUND", UINT64_MAX);
        uint64_t seconds = number_from("PS_MODEL_SECONDS", 5);
        uint64_t end_ns = clock_now_ns() + seconds * NS_PER_SEC;
        uint64_t i = 0;

        setbuf(stdout, NULL);
        test_server_role(argc, argv);
        guest_need_uffd();

        int allowed = allow_huge(HUGE_PAGES);

        for (; i < ARRAY_SIZE(rounds) || clock_now_ns() < end_ns; i++) {
                const struct round *r = &rounds[i % ARRAY_SIZE(rounds)];

                if (only < ARRAY_SIZE(rounds) && r != &rounds[only])
                        continue;
                if (!can_play(r)) {
                        printf("left out: %s: no huge pages "
                               "(vm.nr_overcommit_hugepages=%d gives some)\n", r->name,
                               HUGE_PAGES);
                        continue;
                }
                alarm(4 * PATIENCE_S);
                play(r, seed++, ROUND_NS);
        }
        if (allowed >= 0)
                allow_huge(allowed);
        return 0;
}
