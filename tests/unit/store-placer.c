/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the placer keeps INV-WRITTEN, INV-ROOM, INV-COUNT, counts what QCOW2
 *       counts, stores equal clusters once, and every stream lies whole where
 *       its entry says.
 * Method: random chunks of all mixtures; what is handed out is written into a
 *       flat file in memory and compared with a model, which remembers contents
 *       by their number. */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/placer.h"
#include "qcowstore/sum.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

/* sanitizers are slow where megabytes are looked at byte by byte */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHUNKS 60
#else
#define CHUNKS 300
#endif

/* contents that come again and again; all others come once */
#define COMMON 200

/* what the store should know of a common content */
struct known {
        uint64_t entry;                 /* 0 = of cluster owner of this chunk */
        uint32_t refs;                  /* 0 = not remembered */
        unsigned owner;
};

/* of a cluster of a chunk */
struct expected {
        uint32_t content;
        uint32_t bytes;                 /* of the stream, whether it was made or not */
        uint64_t at;                    /* of the stream; 0 = none of its own */
        struct known of;                /* SHARED: with what */
};

struct model {
        unsigned bits;
        uint64_t room;
        uint64_t contents_max;
        uint32_t refs_max;
        uint8_t *file;
        uint32_t *refs;                 /* as they should be */
        uint8_t *written;               /* times, per host cluster */
        struct expected (*expected)[CHUNK_CLUSTERS_MAX];
        uint64_t contents;
        struct known known[COMMON];
        unsigned wrong;
        unsigned shared;
};

/* streams are runs of one non-zero byte, so that stray bytes are seen */
static uint8_t mark(uint32_t content)
{
        return (uint8_t)(1 + content % 255);
}

/* what one of a kind may be when it comes to the placer */
static const enum chunk_kind kinds[] = {
        CHUNK_ZERO, CHUNK_RAW, CHUNK_PACKED, CHUNK_SAME, CHUNK_BLANK,
};

/* All that a content is follows from its number. */
static enum chunk_kind content_kind(uint32_t content, enum chunk_kind other)
{
        return content < COMMON ? CHUNK_RAW + content % 2 : other;
}

static void fill_cluster(struct model *m, struct chunk *c, unsigned i, struct expected *x,
                         enum chunk_kind other, uint64_t *state)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);
        struct chunk_cluster *k = &c->cluster[i];
        enum chunk_kind kind = content_kind(x->content, other);

        *k = (struct chunk_cluster){ .kind = kind };
        if (!chunk_stores(kind))
                return;
        k->key = (struct dedup_key){ { (x->content + 1) * 0x9e3779b97f4a7c15, x->content } };
        /* what is known need not be compressed */
        if (x->content < COMMON && m->known[x->content].refs && store_random(state) % 2) {
                k->kind = CHUNK_SHARED;
                return;
        }
        if (kind != CHUNK_PACKED)
                return;
        k->at = (uint32_t)c->stream_bytes;
        k->bytes = x->bytes = 1 + (uint32_t)(x->content * 7919ull % (cluster - 1));
        memset(c->streams + k->at, mark(x->content), k->bytes);
        c->stream_bytes += k->bytes;
}

static void fill_chunk(struct model *m, struct chunk *c, uint64_t n, uint64_t *state)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);
        /* of one kind, or of all */
        unsigned mix = (unsigned)(store_random(state) % (ARRAY_SIZE(kinds) + 1));

        c->n = (unsigned)(1 + store_random(state) % (c->bytes / cluster));
        c->stream_bytes = 0;
        memset(c->count, 0, sizeof(c->count));
        for (unsigned i = 0; i < c->n; i++) {
                struct expected *x = &m->expected[n][i];

                *x = (struct expected){
                        .content = (uint32_t)(COMMON + n * CHUNK_CLUSTERS_MAX + i),
                };
                if (store_random(state) % 4 == 0)
                        x->content = (uint32_t)(store_random(state) % COMMON);

                unsigned kind = mix < ARRAY_SIZE(kinds)
                                ? mix : (unsigned)(store_random(state) % ARRAY_SIZE(kinds));

                fill_cluster(m, c, i, x, kinds[kind], state);
                c->count[c->cluster[i].kind]++;
        }
}

static void write_run(struct model *m, const struct placer_run *run)
{
        m->wrong += run->offset % (1ull << m->bits) || run->bytes % (1ull << m->bits);
        for (uint64_t i = 0; i < run->bytes >> m->bits; i++)
                m->wrong += m->written[(run->offset >> m->bits) + i]++ != 0;
        if (run->bytes)
                memcpy(m->file + run->offset, run->data, run->bytes);
}

static void count(struct model *m, uint64_t offset, uint64_t bytes)
{
        for (uint64_t i = offset >> m->bits; i <= (offset + bytes - 1) >> m->bits; i++)
                m->refs[i] += 2;
}

/* What should become of cluster i of a chunk, given what came before. */
static enum chunk_kind settle(struct model *m, unsigned i, struct expected *x,
                              enum chunk_kind own)
{
        struct known *k = x->content < COMMON ? &m->known[x->content] : NULL;

        if (!chunk_stores(own))
                return own;
        if (k && k->refs > 0 && k->refs < m->refs_max) {
                k->refs++;
                x->of = *k;
                m->shared++;
                return CHUNK_SHARED;
        }
        if (k && k->refs > 0) {
                *k = (struct known){ 0, 1, i };
                return CHUNK_RAW;                                       /* INV-COUNT */
        }
        if (m->contents < m->contents_max) {
                m->contents++;
                if (k)
                        *k = (struct known){ 0, 1, i };
        }
        return own;
}

static void look_at_one(struct model *m, const struct chunk *c, unsigned i, struct expected *x,
                        uint64_t *raw)
{
        const struct chunk_cluster *k = &c->cluster[i];
        struct l2entry entry;

        m->wrong += l2entry_decode(k->entry, m->bits, m->room << m->bits, &entry) != NULL;
        count(m, entry.offset, entry.bytes);
        if (k->kind == CHUNK_RAW) {
                m->wrong += entry.kind != L2_RAW || entry.offset != *raw;
                m->wrong += m->written[*raw >> m->bits]++ != 0;
                *raw += 1ull << m->bits;
        } else if (k->kind == CHUNK_PACKED) {
                m->wrong += entry.kind != L2_PACKED;
                x->at = entry.offset;
        } else {
                m->wrong += k->entry != (x->of.entry ? x->of.entry
                                                     : c->cluster[x->of.owner].entry);
        }
}

/* own: what each cluster was before it was placed. Raw clusters count as
 * written; where new streams are is remembered. */
static void look_at(struct model *m, const struct chunk *c, const enum chunk_kind *own,
                    const struct placement *to, struct expected *x)
{
        uint64_t raw = to->raw_offset;

        for (unsigned i = 0; i < c->n; i++) {
                m->wrong += c->cluster[i].kind != settle(m, i, &x[i], own[i]);
                if (chunk_stores(own[i]))
                        look_at_one(m, c, i, &x[i], &raw);
        }
        for (unsigned i = 0; i < COMMON; i++) {
                struct known *k = &m->known[i];

                if (k->refs && !k->entry)
                        k->entry = c->cluster[k->owner].entry;
        }
}

/* takes the streams out of the file; what then is left is slack */
static void take_streams(struct model *m, const struct expected *x)
{
        for (unsigned i = 0; i < CHUNK_CLUSTERS_MAX; i++) {
                for (uint32_t k = 0; x[i].at && k < x[i].bytes; k++) {
                        m->wrong += m->file[x[i].at + k] != mark(x[i].content);
                        m->file[x[i].at + k] = 0;
                }
        }
}
static void place_all(struct model *m, struct placer *p, struct chunk *c, uint64_t seed)
{
        struct placer_run tail;

        for (uint64_t n = 0; n < CHUNKS; n++) {
                enum chunk_kind own[CHUNK_CLUSTERS_MAX];

                fill_chunk(m, c, n, &seed);
                for (unsigned i = 0; i < c->n; i++)
                        own[i] = c->cluster[i].kind;
                m->wrong += placer_place(p, n, c) != c || c->next;
                look_at(m, c, own, &c->to, m->expected[n]);
                write_run(m, &c->to.run[0]);
                write_run(m, &c->to.run[1]);
        }

        placer_finish(p, &tail);
        write_run(m, &tail);
}

/* A file that exists: runs of clusters in use (refs OLD) and free ones. */
#define OLD 1000000u
#define OLD_RUNS 30

static void make_old(struct space *s, unsigned bits, uint64_t seed)
{
        uint64_t per_chunk = chunk_bytes(bits) >> bits;

        for (unsigned i = 0; i < OLD_RUNS; i++) {
                uint64_t used = 1 + store_random(&seed) % 40;
                uint64_t first = space_take(s, used + store_random(&seed) % (6 * per_chunk));

                for (uint64_t k = 0; k < used; k++)
                        s->refs[first + k] = OLD;
        }
        CU_ASSERT_EQUAL_FATAL(space_offer(s, NULL), 0);
}

/* INV-WRITTEN, INV-SHADOW; what was not used can still be given out */
static void check_written(struct model *m, struct space *s)
{
        for (uint64_t i = 1; i < s->end; i++)
                m->wrong += m->written[i] != (s->refs[i] > 0 && s->refs[i] < OLD);

        uint64_t end = s->end;

        for (uint64_t i; (i = space_take(s, 1)) < end;) {
                m->wrong += s->refs[i] != 0 || m->written[i];
                s->refs[i] = 1;
        }
        for (uint64_t i = 1; i < end; i++) {
                m->wrong += s->refs[i] == 0;
                s->refs[i] = s->refs[i] == 1 ? 0 : s->refs[i];
        }
}

static void run_in(unsigned bits, uint64_t contents_max, uint32_t refs_max, uint64_t seed,
                   bool holes)
{
        struct space space;

        CU_ASSERT_EQUAL_FATAL(space_init(&space, bits, NULL), 0);
        if (holes)
                make_old(&space, bits, seed);

        uint64_t more = 1 + CHUNKS * (chunk_bytes(bits) >> bits);
        uint64_t room = space.end + more;       /* space.room is rounded up by far */

        CU_ASSERT_EQUAL_FATAL(space_reserve(&space, more, NULL), 0);

        struct dedup *dedup = dedup_new(1, contents_max, refs_max);
        struct chunk *c = chunk_new(bits, QS_COMPRESS_ZSTD, 1, 1, dedup);
        struct model m = {
                .bits = bits, .room = room, .contents_max = contents_max, .refs_max = refs_max,
                .file = calloc(room, 1ull << bits), .refs = calloc(room, 4),
                .written = calloc(room, 1), .expected = calloc(CHUNKS, sizeof(*m.expected)),
        };
        struct placer *p = placer_new(&space, dedup);

        memcpy(m.refs, space.refs, room * sizeof(*m.refs));
        place_all(&m, p, c, seed);
        CU_ASSERT_EQUAL(m.wrong, 0);
        CU_ASSERT(m.shared > 0);
        CU_ASSERT_EQUAL(memcmp(space.refs, m.refs, room * sizeof(*m.refs)), 0);
        check_written(&m, &space);
        for (uint64_t n = 0; n < CHUNKS; n++)
                take_streams(&m, m.expected[n]);
        CU_ASSERT_EQUAL(m.wrong, 0);
        CU_ASSERT(sum_all_zero(m.file, room << bits));                  /* zero slack */
        placer_free(p);
        chunk_free(c);
        dedup_free(dedup);
        free(m.file);
        free(m.refs);
        free(m.written);
        free(m.expected);
        space_fini(&space);
}

static void run(unsigned bits, uint64_t contents_max, uint32_t refs_max, uint64_t seed)
{
        run_in(bits, contents_max, refs_max, seed, false);
        run_in(bits, contents_max, refs_max, seed, true);
}

static void random_chunks(void)
{
        run(14, 1 << 20, 1u << 30, 1);
        run(16, 1 << 20, 1u << 30, 2);
        run(18, 1 << 20, 1u << 30, 3);
}

static void many_references(void)
{
        run(14, 1 << 20, 3, 4);
        run(16, 1 << 20, 2, 5);
}

static void full_index(void)
{
        run(14, 900, 1u << 30, 6);
        run(16, 60, 2, 7);
}

/* INV-ORDER: who comes early is handed out with the one that was missing. */
static void early(void)
{
        struct space space;
        struct dedup *dedup = dedup_new(1, 8, 8);

        CU_ASSERT_EQUAL_FATAL(space_init(&space, 12, NULL), 0);

        struct placer *p = placer_new(&space, dedup);
        struct chunk *c[5];

        for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
                c[i] = chunk_new(12, QS_COMPRESS_NONE, 0, 1, dedup);
                chunk_fill(c[i], i * 256, 1, NULL);
        }
        CU_ASSERT_PTR_NULL(placer_place(p, 1, c[1]));
        CU_ASSERT_PTR_NULL(placer_place(p, 3, c[3]));
        CU_ASSERT_PTR_EQUAL(placer_place(p, 0, c[0]), c[0]);
        CU_ASSERT_PTR_EQUAL(c[0]->next, c[1]);
        CU_ASSERT_PTR_NULL(c[1]->next);
        placer_stop(p);
        CU_ASSERT_PTR_NULL(placer_place(p, 2, c[2]));
        for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
                chunk_free(c[i]);
        placer_free(p);
        dedup_free(dedup);
        space_fini(&space);
}

static const CU_TestInfo cases[] = {
        { "random chunks against a model", random_chunks },
        { "contents with too many references get copies", many_references },
        { "an index that is full forgets nothing", full_index },
        { "chunks that come early wait here, not their threads", early },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-placer", cases);
}
