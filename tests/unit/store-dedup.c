/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: equal clusters are stored once, in a layout that does not depend on
 *       timing (INV-ORDER); keys cannot be planted; counts stay below their
 *       limit (INV-COUNT); what is forgotten is not found, and all else is.
 * Method: memory in which few contents come again and again is saved by
 *       different numbers of threads with one seed, and what was written is
 *       compared; a pair of pages that collides under seeded XXH3-128, in one file
 *       and in two tags of a pool. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/dedup.h"
#include "qcowstore/layout.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define RAM_BYTES (24u << 20)
#define PAGE 4096u
#define CONTENTS 60
#define SEED 12345

/* Pages of few contents: runs of one, copies of stretches, and noise. */
static uint8_t *make_ram(void)
{
        uint8_t *ram = calloc(1, RAM_BYTES);
        uint8_t (*content)[PAGE] = calloc(CONTENTS, PAGE);
        uint64_t state = 99;

        ASSERT(ram && content);
        for (unsigned i = 1; i < CONTENTS; i++)
                store_ram_page(content[i], PAGE, 1 + i % 2, &state);
        for (size_t at = 0; at < RAM_BYTES;) {
                unsigned what = (unsigned)(store_random(&state) % CONTENTS);
                bool run = store_random(&state) % 2;

                for (uint64_t n = 1 + store_random(&state) % 40; n > 0 && at < RAM_BYTES; n--) {
                        memcpy(ram + at, content[what], PAGE);
                        at += PAGE;
                        if (!run)
                                what = (what + 1) % CONTENTS;
                }
        }
        free(content);
        return ram;
}

struct saved {
        uint8_t *bytes;                 /* of the file, as far as RAM goes */
        uint64_t used;
        uint32_t refs_top;
        struct qs_writer_stats stats;
};

static int save(const char *path, const struct qs_writer_options *o, uint8_t *bytes,
                uint32_t refs_max, struct saved *ret)
{
        struct kit_ram ram = { .bytes = bytes, .ranges = 1, .range = { { 0, RAM_BYTES } } };
        struct qs_ram_source source = kit_source(&ram);
        struct qs_writer *w = NULL;
        int rc = qs_writer_new(path, o, &w, NULL);

        if (rc == 0) {
                w->seed = SEED;
                if (refs_max)
                        w->refs_max = refs_max;
                rc = qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL);
        }
        if (rc == 0) {
                *ret = (struct saved){ .used = w->space.end };
                for (uint64_t i = 0; i < w->space.end; i++)
                        ret->refs_top = MAX(ret->refs_top, w->space.refs[i]);
                ret->bytes = malloc(w->space.end << w->cluster_bits);
                ASSERT(ret->bytes);
                rc = io_pread_full(publish_fd(w->publish), ret->bytes,
                                   w->space.end << w->cluster_bits, 0);
        }
        if (rc == 0)
                rc = qs_writer_publish(w, NULL);
        if (rc == 0)
                qs_writer_stats(w, &ret->stats);
        qs_writer_free(w);
        return rc;
}

/* the file reads as the memory and is in order */
static void look_at(const char *path, const uint8_t *bytes)
{
        AUTO_FD fd = kit_open(path);
        struct qs_image *image;

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, path, NULL, &image, NULL), 0);
        CU_ASSERT_EQUAL(kit_compare(image, bytes), 0);
        qs_image_close(image);
        CU_ASSERT_EQUAL(kit_check(fd, 1), 0);
}

static struct qs_writer_options options(unsigned bits, enum qs_compress compress,
                                        unsigned threads)
{
        return (struct qs_writer_options){
                .cluster_bits = bits, .compress = compress, .zstd_level = 1, .threads = threads,
                .disk_bytes = RAM_BYTES, .force = true,
        };
}

static void one_layout(unsigned bits, enum qs_compress compress, uint32_t refs_max)
{
        static const unsigned threads[] = { 1, 2, 7 };
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        AUTO_FREE uint8_t *ram = make_ram();
        struct saved first = { 0 };

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
                struct qs_writer_options o = options(bits, compress, threads[i]);
                struct saved s;

                CU_ASSERT_EQUAL_FATAL(save(path, &o, ram, refs_max, &s), 0);
                look_at(path, ram);
                if (i == 0) {
                        first = s;
                        continue;
                }
                CU_ASSERT_EQUAL_FATAL(s.used, first.used);              /* INV-ORDER */
                CU_ASSERT_EQUAL(s.refs_top, first.refs_top);
                CU_ASSERT_EQUAL(memcmp(s.bytes, first.bytes, s.used << bits), 0);
                CU_ASSERT_EQUAL(s.stats.clusters_shared, first.stats.clusters_shared);
                free(s.bytes);
        }
        free(first.bytes);
        unlink(path);
        CU_ASSERT(kit_gone(folder));
}

static void any_threads(void)
{
        one_layout(12, QS_COMPRESS_NONE, 0);
        one_layout(12, QS_COMPRESS_ZSTD, 0);
        one_layout(14, QS_COMPRESS_ZSTD, 0);
        one_layout(12, QS_COMPRESS_ZSTD, 5);
}

static void stored_once(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        AUTO_FREE uint8_t *ram = make_ram();
        struct qs_writer_options o = options(12, QS_COMPRESS_NONE, 3);
        struct saved s;

        kit_folder(folder);
        CU_ASSERT_EQUAL_FATAL(save(kit_path(folder, "image", path), &o, ram, 0, &s), 0);
        CU_ASSERT_EQUAL(s.used, 1 + CONTENTS - 1);      /* header; content 0 is zero */
        CU_ASSERT_EQUAL(s.stats.clusters_raw, CONTENTS - 1);
        CU_ASSERT_EQUAL(s.stats.clusters_shared + s.stats.clusters_zero,
                        RAM_BYTES / PAGE - (CONTENTS - 1));
        free(s.bytes);

        /* INV-COUNT: more copies, none with more references */
        CU_ASSERT_EQUAL_FATAL(save(path, &o, ram, 7, &s), 0);
        CU_ASSERT_EQUAL(s.refs_top, 2 * 7);
        CU_ASSERT(s.stats.clusters_raw >= (RAM_BYTES / PAGE - s.stats.clusters_zero) / 7);
        look_at(path, ram);
        free(s.bytes);
        unlink(path);
        CU_ASSERT(kit_gone(folder));
}

/* The limits by themselves: a host cluster full of streams of one byte. */
static void count_limit(void)
{
        for (unsigned bits = QS_CLUSTER_BITS_MIN; bits <= QS_CLUSTER_BITS_MAX; bits++)
                CU_ASSERT(2ull * dedup_refs_max(bits) * layout_cluster_bytes(bits) <= UINT32_MAX);
}

/* Pages that differ in the top bits of two words which XXH3 adds to the same
 * accumulator, multiplied by their lower halves. The words of the secret that
 * are mixed in are a constant plus the seed, so for one seed in 64 the lower
 * halves become equal and the two differences cancel out. */
static void plant(uint8_t one[PAGE], uint8_t other[PAGE])
{
        const size_t first = 0;
        const size_t second = 12 * 64;
        uint64_t a = 0x1111111122222222;
        uint64_t b = a ^ 0x060a0410;
        uint64_t state = 5;

        store_ram_page(one, PAGE, 2, &state);
        memcpy(one + first, &a, sizeof(a));
        memcpy(one + second, &b, sizeof(b));
        memcpy(other, one, PAGE);
        other[first + 7] ^= 0x80;
        other[second + 7] ^= 0x80;
}

static void planted(void)
{
        uint8_t one[PAGE];
        uint8_t other[PAGE];
        unsigned seeded = 0;
        unsigned ours = 0;
        uint64_t state = 77;

        plant(one, other);
        for (unsigned i = 0; i < 5000; i++) {
                uint64_t seed = store_random(&state);
                struct dedup *d = dedup_new(seed, 1, 1);
                struct dedup_key a = dedup_key(d, one, PAGE);
                struct dedup_key b = dedup_key(d, other, PAGE);

                seeded += XXH128_isEqual(XXH3_128bits_withSeed(one, PAGE, seed),
                                         XXH3_128bits_withSeed(other, PAGE, seed));
                /* not even one half */
                ours += a.word[0] == b.word[0] || a.word[1] == b.word[1];
                dedup_free(d);
        }
        CU_ASSERT(seeded > 20);         /* else the pair shows nothing */
        CU_ASSERT_EQUAL(ours, 0);
}

/* for which XXH3-128 takes the two for the same */
static uint64_t colliding_seed(const uint8_t one[PAGE], const uint8_t other[PAGE])
{
        uint64_t state = 77;
        uint64_t seed;

        do
                seed = store_random(&state);
        while (!XXH128_isEqual(XXH3_128bits_withSeed(one, PAGE, seed),
                               XXH3_128bits_withSeed(other, PAGE, seed)));
        return seed;
}

static int save_page(const char *path, const char *tag, uint8_t page[PAGE], uint64_t seed)
{
        struct qs_writer_options o = {
                .cluster_bits = 12, .threads = 1, .disk_bytes = PAGE, .append = true,
        };
        struct kit_ram ram = { .bytes = page, .ranges = 1, .range = { { 0, PAGE } } };
        struct qs_ram_source source = kit_source(&ram);
        struct qs_writer *w = NULL;

        strcpy(o.tag, tag);

        int rc = qs_writer_new(path, &o, &w, NULL);

        if (rc == 0) {
                CU_ASSERT(!w->pool || w->seed == seed);
                w->seed = seed;
                rc = qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL);
        }
        if (rc == 0)
                rc = qs_writer_publish(w, NULL);
        qs_writer_free(w);
        return rc;
}

static void look_at_tag(const char *path, const char *tag, const uint8_t page[PAGE])
{
        AUTO_FD fd = kit_open(path);
        struct qs_image *image;

        CU_ASSERT_EQUAL_FATAL(qs_image_open(fd, path, tag, &image, NULL), 0);
        CU_ASSERT_EQUAL(kit_compare(image, page), 0);
        qs_image_close(image);
}

/* One guest plants the first page, another one the second: through the index that
 * is made of the first tag, and through the one that is read. */
static void planted_in_pool(void)
{
        static const char *const tags[] = { "a", "b", "c", "d" };
        uint8_t page[2][PAGE];
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];

        plant(page[0], page[1]);

        uint64_t seed = colliding_seed(page[0], page[1]);

        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned i = 0; i < ARRAY_SIZE(tags); i++)
                CU_ASSERT_EQUAL(save_page(path, tags[i], page[i % 3 == 1], seed), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(tags); i++)
                look_at_tag(path, tags[i], page[i % 3 == 1]);
        unlink(path);
        CU_ASSERT(kit_gone(folder));
}

static void index_limit(void)
{
        struct dedup *d = dedup_new(1, 3, 9);
        struct dedup_slot *slot[3];

        for (uint64_t i = 0; i < 3; i++) {
                struct dedup_key key = { { i + 1, i } };

                CU_ASSERT(!dedup_known(d, &key));
                slot[i] = dedup_claim(d, &key);
                CU_ASSERT_PTR_NOT_NULL_FATAL(slot[i]);
                CU_ASSERT(dedup_known(d, &key));
        }

        struct dedup_key half = { { 3, 3 } };           /* another second word */
        struct dedup_key key = { { 2, 1 } };

        CU_ASSERT(!dedup_known(d, &half));
        CU_ASSERT_PTR_NULL(dedup_claim(d, &half));
        CU_ASSERT_PTR_EQUAL(dedup_claim(d, &key), slot[1]);             /* INV-KNOWN */
        dedup_free(d);
}

/* ---- what is known, next to a list of it ---- */

#define KEYS 700u
#define ROOM 300u

struct list {
        struct dedup *dedup;
        uint64_t room;
        uint64_t n;                     /* known */
        bool known[KEYS];
        uint64_t random;
        unsigned wrong;
};

/* Searches for many begin at the same places, the last ones among them. */
static struct dedup_key key_of(unsigned i)
{
        return (struct dedup_key){ { (UINT32_MAX - (uint64_t)(i % 7) * (UINT32_MAX / 29)) << 32 | 1,
                                     i } };
}

static void learn(struct list *l)
{
        unsigned i = (unsigned)(store_random(&l->random) % KEYS);
        struct dedup_key key = key_of(i);
        struct dedup_slot *slot = dedup_claim(l->dedup, &key);

        l->wrong += !slot != (!l->known[i] && l->n == l->room);
        if (!slot || l->known[i])
                return;
        l->wrong += slot->refs != 0;
        *slot = (struct dedup_slot){ { key.word[0], key.word[1] }, i, 1, i, i % 2 };
        l->known[i] = true;
        l->n++;
}

static bool is_third(const void *ctx, uint64_t entry)
{
        return entry % 3 == *(const uint64_t *)ctx;
}

static void forget(struct list *l)
{
        uint64_t third = store_random(&l->random) % 4;

        dedup_forget(l->dedup, is_third, &third);
        for (unsigned i = 0; i < KEYS; i++) {
                if (i % 3 == third && l->known[i]) {
                        l->known[i] = false;
                        l->n--;
                }
        }
}

static void reserve(struct list *l)
{
        uint64_t more = store_random(&l->random) % 40;

        CU_ASSERT(dedup_reserve(l->dedup, more));
        l->room = MAX(l->room, l->n + more);
}

static void compare_list(struct list *l)
{
        uint64_t cursor = 0;
        uint64_t fresh = 0;

        while (dedup_next_fresh(l->dedup, &cursor))
                fresh++;
        for (unsigned i = 0; i < KEYS; i++) {
                struct dedup_key key = key_of(i);
                const struct dedup_slot *slot = dedup_find(l->dedup, &key);

                l->wrong += !slot == l->known[i] || dedup_known(l->dedup, &key) != l->known[i];
                l->wrong += slot && (slot->entry != i || slot->refs != 1 || slot->owner != i);
                fresh -= l->known[i] && i % 2;
        }
        CU_ASSERT_EQUAL(fresh, 0);
        CU_ASSERT_EQUAL(l->wrong, 0);
}

static void forgotten(void)
{
        for (uint64_t seed = 1; seed <= 60; seed++) {
                struct list l = { .room = seed % ROOM, .random = seed * 2 + 1 };

                l.dedup = dedup_new(SEED, l.room, 1);
                CU_ASSERT_PTR_NOT_NULL_FATAL(l.dedup);
                for (unsigned i = 0; i < 3000; i++) {
                        uint64_t what = store_random(&l.random) % 300;

                        if (what == 0)
                                forget(&l);
                        else if (what == 1)
                                reserve(&l);
                        else
                                learn(&l);
                        if (what < 2)
                                compare_list(&l);
                }
                compare_list(&l);
                dedup_free(l.dedup);
        }
}

static const CU_TestInfo cases[] = {
        { "what is forgotten, and nothing else", forgotten },
        { "any number of threads, one layout", any_threads },
        { "equal clusters are stored once, up to the count", stored_once },
        { "counts of 32 bits suffice", count_limit },
        { "planted collisions of seeded XXH3 are told apart", planted },
        { "planted collisions of two tags are told apart", planted_in_pool },
        { "a full index keeps what it has", index_limit },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-dedup", cases);
}
