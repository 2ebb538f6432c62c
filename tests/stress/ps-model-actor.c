/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/ps-model-actor.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"

#define SMALL 4096u
/* given back or unmapped in one call */
#define RUN_MAX 24u
/* Of all pages so many may be unmapped: the rest has to be worth looking at. */
#define LOST_PART 4u

uint64_t model_random(uint64_t *state)
{
        uint64_t x = *state += 0x9e3779b97f4a7c15ull;

        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        return x ^ x >> 31;
}

const char *page_is_name(enum page_is is)
{
        static const char *const names[] = {
                [PAGE_IMAGE] = "as in the image", [PAGE_FILLED] = "filled",
                [PAGE_GIVEN] = "given back", [PAGE_LOST] = "lost",
        };

        return names[is];
}

/* Three kinds of neighbourhood: every page another's, three pages each, long runs. */
static unsigned owner(const struct model *m, uint64_t page)
{
        static const unsigned run[] = { 1, 3, 64 };
        uint64_t zone = page / 256;

        return (unsigned)((page / run[zone % ARRAY_SIZE(run)] + zone) % m->actors);
}

static uint64_t page_bytes(const struct model *m)
{
        return m->guest->page_bytes;
}

static char *address(const struct model *m, uint64_t page)
{
        return m->guest->ram + page * page_bytes(m);
}

void model_init(struct model *m, struct guest *g, uint64_t seed, struct actor *actor,
                unsigned actors, bool unmaps)
{
        *m = (struct model){
                .guest = g, .seed = seed, .pages = g->image.disk_bytes / g->page_bytes,
                .actors = actors, .actor = actor, .unmaps = unmaps,
        };
        TEST(actors <= ACTORS_MAX);
        m->page = calloc(m->pages, sizeof(m->page[0]));
        TEST(m->page != NULL);
        for (uint64_t p = 0; p < m->pages; p++) {
                m->page[p].actor = (uint16_t)owner(m, p);
                if (!guest_has(g, p * g->page_bytes))
                        m->page[p].is = PAGE_LOST;
        }
}

void model_fini(struct model *m)
{
        for (uint64_t p = 0; p < m->pages; p++) {
                if (m->page[p].is != PAGE_LOST || !guest_has(m->guest, p * page_bytes(m)))
                        TEST(munmap(address(m, p), page_bytes(m)) == 0);
        }
        m->guest->ram = NULL;           /* others may live in the holes by now */
        free(m->page);
}

/* ---- what a page must hold ------------------------------------------------- */

static unsigned words(const struct model *m)
{
        return (unsigned)(page_bytes(m) / sizeof(uint64_t));
}

static unsigned patch_of(const struct model *m, uint64_t page)
{
        uint64_t state = m->seed ^ page;

        return (unsigned)(model_random(&state) % words(m));
}

static uint64_t filled_word(uint64_t value, unsigned word)
{
        return value + word * 0x9e3779b97f4a7c15ull;
}

static uint64_t want(const struct model *m, uint64_t page, unsigned word)
{
        const struct model_page *p = &m->page[page];

        if (p->patched && word == patch_of(m, page))
                return p->patch;
        switch (p->is) {
        case PAGE_IMAGE:
                return fake_word(&m->guest->image, page * page_bytes(m) + word * 8);
        case PAGE_FILLED:
                return filled_word(p->value, word);
        case PAGE_GIVEN:
        case PAGE_LOST:
                break;
        }
        return 0;
}

static void report(struct actor *a, uint64_t page, unsigned word, uint64_t got)
{
        const struct model *m = a->model;

        a->is_wrong = true;
        a->wrong = (struct wrong){
                .page = page, .word = word, .got = got, .want = want(m, page, word),
                .is = m->page[page].is, .after = atomic_load(&a->doing),
        };
        usleep(20000);
        a->wrong.later = ((volatile uint64_t *)(void *)address(m, page))[word];
}

static bool look_at_word(struct actor *a, uint64_t page, unsigned word)
{
        uint64_t got = ((volatile uint64_t *)(void *)address(a->model, page))[word];

        if (got == want(a->model, page, word))
                return true;
        report(a, page, word, got);
        return false;
}

/* all of a small page; of a huge one all of one part and a word of each */
static void look(struct actor *a, uint64_t page)
{
        const struct model *m = a->model;
        unsigned part_words = SMALL / sizeof(uint64_t);
        unsigned parts = words(m) / part_words;
        unsigned part = (unsigned)(model_random(&a->random) % parts);

        for (unsigned i = 0; i < part_words; i++) {
                if (!look_at_word(a, page, part * part_words + i))
                        return;
        }
        for (unsigned i = 0; i < parts; i++) {
                if (!look_at_word(a, page, i * part_words + part))
                        return;
        }
        look_at_word(a, page, patch_of(m, page));
}

/* ---- steps ------------------------------------------------------------------ */

typedef void step_fn(struct actor *a, uint64_t page);

/* pages from the given one on that are the actor's, too, and mapped */
static uint64_t own_run(const struct actor *a, uint64_t page, uint64_t max)
{
        const struct model *m = a->model;
        uint64_t n = 1;

        while (n < max && page + n < m->pages && m->page[page + n].actor == a->index &&
               m->page[page + n].is != PAGE_LOST)
                n++;
        return n;
}

static void do_look(struct actor *a, uint64_t page)
{
        look(a, page);
}

/* one word: the rest must come from wherever it is, and is looked at the next time */
static void do_patch(struct actor *a, uint64_t page)
{
        struct model_page *p = &a->model->page[page];
        unsigned word = patch_of(a->model, page);

        p->patch = model_random(&a->random);
        p->patched = true;
        ((volatile uint64_t *)(void *)address(a->model, page))[word] = p->patch;
}

static void do_fill(struct actor *a, uint64_t page)
{
        struct model_page *p = &a->model->page[page];
        volatile uint64_t *w = (volatile uint64_t *)(void *)address(a->model, page);

        p->value = model_random(&a->random);
        p->is = PAGE_FILLED;
        p->patched = false;
        for (unsigned i = 0; i < words(a->model); i++)
                w[i] = filled_word(p->value, i);
}

static void do_give(struct actor *a, uint64_t page)
{
        struct model *m = a->model;
        uint64_t n = own_run(a, page, 1 + model_random(&a->random) % RUN_MAX);

        TEST(madvise(address(m, page), n * page_bytes(m), MADV_DONTNEED) == 0);
        for (uint64_t i = 0; i < n; i++) {
                m->page[page + i].is = m->guest->removes ? PAGE_GIVEN : PAGE_IMAGE;
                m->page[page + i].patched = false;
        }
        if (model_random(&a->random) % 2)
                look(a, page + model_random(&a->random) % n);
}

static void do_unmap(struct actor *a, uint64_t page)
{
        struct model *m = a->model;
        uint64_t n = own_run(a, page, 1 + model_random(&a->random) % RUN_MAX);

        if (!m->unmaps || atomic_load(&m->lost) > m->pages / LOST_PART)
                return;
        atomic_fetch_add(&m->lost, n);
        for (uint64_t i = 0; i < n; i++)
                m->page[page + i].is = PAGE_LOST;
        TEST(munmap(address(m, page), n * page_bytes(m)) == 0);
}

static const struct step {
        const char *name;
        unsigned weight;
        step_fn *run;
} steps[] = {
        { "looking", 45, do_look },
        { "patching", 15, do_patch },
        { "filling", 10, do_fill },
        { "giving back", 25, do_give },
        { "unmapping", 5, do_unmap },
};

static const struct step *pick_step(struct actor *a)
{
        unsigned sum = 0;

        for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
                sum += steps[i].weight;

        unsigned at = (unsigned)(model_random(&a->random) % sum);
        const struct step *s = steps;

        while (at >= s->weight)
                at -= s++->weight;
        return s;
}

static void take_step(struct actor *a, const struct step *s, uint64_t page)
{
        const struct model_page *p = &a->model->page[page];

        if (p->actor != a->index || p->is == PAGE_LOST)
                return;
        atomic_store(&a->at_page, page);
        atomic_store(&a->doing, s->name);
        s->run(a, page);
        atomic_fetch_add(&a->steps, 1);
}

static void *act(void *arg)
{
        static const struct step last = { "looking at the end", 0, do_look };
        struct actor *a = arg;
        struct model *m = a->model;

        while (!a->is_wrong && !atomic_load(&m->stop))
                take_step(a, pick_step(a), model_random(&a->random) % m->pages);
        while (!atomic_load(&m->sweep))
                usleep(1000);
        for (uint64_t p = 0; p < m->pages && !a->is_wrong; p++)
                take_step(a, &last, p);
        return NULL;
}

/* Any page, or one that an actor is at. */
static uint64_t pick_page(struct actor *a)
{
        struct model *m = a->model;
        uint64_t dice = model_random(&a->random);
        uint64_t page = atomic_load(&m->actor[dice % m->actors].at_page) + dice / 64 % 8;

        return dice / 512 % 2 && page < m->pages ? page : dice / 1024 % m->pages;
}

/* Populating says how it went where the page is unmapped meanwhile, and TSan does not
 * take it for a look at what the page's actor writes. */
static void *stand_by(void *arg)
{
        struct actor *a = arg;
        struct model *m = a->model;

        atomic_store(&a->doing, "touching");
        while (!atomic_load(&m->stop)) {
                uint64_t page = pick_page(a);

                if (!guest_has(m->guest, page * page_bytes(m)))
                        continue;
                atomic_store(&a->at_page, page);
                madvise(address(m, page), page_bytes(m), MADV_POPULATE_READ);
                atomic_fetch_add(&a->steps, 1);
        }
        return NULL;
}

void actor_start(struct actor *a, struct model *m, unsigned index)
{
        *a = (struct actor){ .model = m, .index = index, .random = m->seed * 1000 + index };
        TEST(pthread_create(&a->thread, NULL, index < m->actors ? act : stand_by, a) == 0);
}
