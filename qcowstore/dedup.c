/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/dedup.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "common/check.h"
#include "qcowstore/xxh3.h"

#define SECRET_WORDS 24
static_assert(SECRET_WORDS * 8 >= XXH3_SECRET_SIZE_MIN, "XXH3 takes such secrets");

/* a third of the slots stays free, so that a search is short */
#define SLOTS_FOR(contents) ((contents) + (contents) / 2 + 1)

struct dedup {
        /* constant */
        uint64_t secret[2][SECRET_WORDS];
        uint64_t slots;
        uint64_t contents_max;
        uint32_t refs_max;
        /* one thread at a time */
        uint64_t contents;
        /* see there */
        struct dedup_slot *slot;
};

/* splitmix64: what one word is says nothing of the next to who does not know
 * the seed */
static uint64_t next_word(uint64_t *state)
{
        uint64_t x = *state += 0x9e3779b97f4a7c15;

        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        return x ^ x >> 31;
}

struct dedup *dedup_new(uint64_t seed, uint64_t contents_max, uint32_t refs_max)
{
        struct dedup *d = calloc(1, sizeof(*d));

        if (!d)
                return NULL;
        for (unsigned i = 0; i < SECRET_WORDS; i++) {
                d->secret[0][i] = next_word(&seed);
                d->secret[1][i] = next_word(&seed);
        }
        d->contents_max = contents_max;
        d->slots = SLOTS_FOR(d->contents_max);
        d->refs_max = refs_max;
        d->slot = calloc(d->slots, sizeof(*d->slot));
        if (!d->slot) {
                dedup_free(d);
                return NULL;
        }
        return d;
}

void dedup_free(struct dedup *d)
{
        if (!d)
                return;
        free(d->slot);
        free(d);
}

uint32_t dedup_limit(const struct dedup *d)
{
        return d->refs_max;
}

struct dedup_key dedup_key(const struct dedup *d, const void *plain, size_t bytes)
{
        struct dedup_key key;

        for (unsigned i = 0; i < 2; i++)
                key.word[i] = XXH3_64bits_withSecret(plain, bytes, d->secret[i],
                                                     sizeof(d->secret[i]));
        if (key.word[0] == 0)
                key.word[0] = 1;
        return key;
}

/* Where the search for a key begins; the upper bits of a product: a number below
 * slots, evenly spread. */
static uint64_t home(const struct dedup *d, uint64_t first_word)
{
        return (first_word >> 32) * d->slots >> 32;
}

/* The slot of the key; not *ret_there: the free one where it would go, which
 * may be another key's by now unless the caller is the one who claims. */
static struct dedup_slot *search(const struct dedup *d, const struct dedup_key *key,
                                 bool *ret_there)
{
        uint64_t i = home(d, key->word[0]);

        for (;; i = i + 1 < d->slots ? i + 1 : 0) {
                struct dedup_slot *s = &d->slot[i];
                uint64_t first = atomic_load_explicit(&s->word[0], memory_order_acquire);

                *ret_there = first == key->word[0] &&
                             atomic_load_explicit(&s->word[1], memory_order_relaxed) ==
                                     key->word[1];
                if (*ret_there || first == 0)
                        return s;
        }
}

bool dedup_known(const struct dedup *d, const struct dedup_key *key)
{
        bool there;

        search(d, key, &there);
        return there;
}

struct dedup_slot *dedup_claim(struct dedup *d, const struct dedup_key *key)
{
        bool there;
        struct dedup_slot *s = search(d, key, &there);

        ASSERT(key->word[0] != 0);
        if (there)
                return s;
        if (d->contents == d->contents_max)
                return NULL;
        d->contents++;
        atomic_store_explicit(&s->word[1], key->word[1], memory_order_relaxed);
        atomic_store_explicit(&s->word[0], key->word[0], memory_order_release);
        return s;
}

bool dedup_preload(struct dedup *d, const struct dedup_key *key, uint64_t entry, uint32_t refs)
{
        struct dedup_slot *s = dedup_claim(d, key);

        if (s && s->refs == 0) {
                s->entry = entry;
                s->refs = MAX(refs, 1u);
        }
        return s != NULL;
}

static uint64_t word_at(const struct dedup *d, uint64_t i, unsigned word)
{
        return atomic_load_explicit(&d->slot[i].word[word], memory_order_relaxed);
}

static void copy_slot(struct dedup_slot *to, const struct dedup_slot *from)
{
        for (unsigned i = 0; i < 2; i++)
                atomic_store_explicit(&to->word[i],
                                      atomic_load_explicit(&from->word[i], memory_order_relaxed),
                                      memory_order_relaxed);
        to->entry = from->entry;
        to->refs = from->refs;
        to->owner = from->owner;
        to->fresh = from->fresh;
}

bool dedup_reserve(struct dedup *d, uint64_t more)
{
        struct dedup larger = *d;
        bool there;

        larger.contents_max = MIN(d->contents + more, DEDUP_CONTENTS_MAX);
        if (larger.contents_max <= d->contents_max)
                return true;
        larger.slots = SLOTS_FOR(larger.contents_max);
        larger.slot = calloc(larger.slots, sizeof(*larger.slot));
        if (!larger.slot)
                return false;
        for (uint64_t i = 0; i < d->slots; i++) {
                struct dedup_key key = { { word_at(d, i, 0), word_at(d, i, 1) } };

                if (key.word[0])
                        copy_slot(search(&larger, &key, &there), &d->slot[i]);
        }
        free(d->slot);
        *d = larger;
        return true;
}

/* Empties a slot. What lies behind it, up to the next free one, and began its search
 * at it or before would not be found any more: that moves up. */
static void empty(struct dedup *d, uint64_t gap)
{
        uint64_t i = gap;

        for (;;) {
                i = i + 1 < d->slots ? i + 1 : 0;
                if (word_at(d, i, 0) == 0)
                        break;

                uint64_t searched = (i + d->slots - home(d, word_at(d, i, 0))) % d->slots;

                if (searched < (i + d->slots - gap) % d->slots)
                        continue;
                copy_slot(&d->slot[gap], &d->slot[i]);
                gap = i;
        }
        d->slot[gap] = (struct dedup_slot){ 0 };
        d->contents--;
}

void dedup_forget(struct dedup *d, bool (*gone)(const void *ctx, uint64_t entry),
                  const void *ctx)
{
        for (uint64_t i = 0; i < d->slots;) {
                /* another one may have taken its place */
                if (word_at(d, i, 0) && gone(ctx, d->slot[i].entry))
                        empty(d, i);
                else
                        i++;
        }
}

const struct dedup_slot *dedup_next_fresh(const struct dedup *d, uint64_t *cursor)
{
        while (*cursor < d->slots) {
                const struct dedup_slot *s = &d->slot[(*cursor)++];

                if (s->fresh)
                        return s;
        }
        return NULL;
}

const struct dedup_slot *dedup_find(const struct dedup *d, const struct dedup_key *key)
{
        bool there;
        const struct dedup_slot *s = search(d, key, &there);

        return there ? s : NULL;
}
