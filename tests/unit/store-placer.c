/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the placer keeps INV-WRITTEN and INV-ROOM, counts what QCOW2 counts,
 *       and every stream lies whole where its entry says.
 * Method: random chunks of all mixtures; what is handed out is written into a
 *       flat file in memory and compared with a model. */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/placer.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define CHUNKS 300

struct model {
        unsigned bits;
        uint8_t *file;
        uint32_t *refs;                 /* as they should be */
        uint8_t *written;               /* times, per host cluster */
        uint64_t room;
        unsigned wrong;
};

/* streams are runs of one non-zero byte, so that stray bytes are seen */
static uint8_t mark(uint64_t chunk, unsigned i)
{
        return (uint8_t)(1 + (chunk * 31 + i) % 255);
}

static void fill_chunk(struct chunk *c, uint64_t n, uint64_t *state)
{
        size_t cluster = layout_cluster_bytes(c->cluster_bits);
        unsigned mix = (unsigned)(store_random(state) % 5);

        c->n = (unsigned)(1 + store_random(state) % (c->bytes / cluster));
        c->raw = c->packed = 0;
        c->stream_bytes = 0;
        for (unsigned i = 0; i < c->n; i++) {
                struct chunk_cluster *k = &c->cluster[i];

                *k = (struct chunk_cluster){ .kind = QS_ZERO };
                switch (mix == 4 ? store_random(state) % 3 : mix) {
                case 1:
                        k->kind = QS_RAW;
                        c->raw++;
                        break;
                case 2:
                case 3:
                        k->kind = QS_PACKED;
                        k->at = (uint32_t)c->stream_bytes;
                        k->bytes = (uint32_t)(1 + store_random(state) % (cluster - 1));
                        memset(c->streams + k->at, mark(n, i), k->bytes);
                        c->stream_bytes += k->bytes;
                        c->packed++;
                        break;
                default:
                        break;
                }
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

/* raw clusters count as written; where streams are is remembered in `where` */
static void look_at(struct model *m, const struct chunk *c, const struct placement *to,
                    uint64_t *where)
{
        uint64_t raw = to->raw_offset;

        for (unsigned i = 0; i < c->n; i++) {
                struct l2entry entry;

                where[i] = 0;
                if (c->cluster[i].kind == QS_ZERO)
                        continue;
                m->wrong += l2entry_decode(c->cluster[i].entry, m->bits, m->room << m->bits,
                                           &entry) != NULL;
                count(m, entry.offset, entry.bytes);
                if (c->cluster[i].kind == QS_RAW) {
                        m->wrong += entry.kind != L2_RAW || entry.offset != raw;
                        m->wrong += m->written[raw >> m->bits]++ != 0;
                        raw += 1ull << m->bits;
                } else {
                        m->wrong += entry.kind != L2_PACKED;
                        where[i] = entry.offset;
                }
        }
}

/* takes the streams out of the file; what then is left is slack */
static void take_streams(struct model *m, uint64_t n, const uint64_t *where,
                         const uint32_t *bytes)
{
        for (unsigned i = 0; i < CHUNK_CLUSTERS_MAX; i++) {
                for (uint32_t k = 0; where[i] && k < bytes[i]; k++) {
                        m->wrong += m->file[where[i] + k] != mark(n, i);
                        m->file[where[i] + k] = 0;
                }
        }
}

static void run(unsigned bits, uint64_t seed)
{
        struct chunk *c = chunk_new(bits, QS_COMPRESS_ZSTD, 1, 1);
        uint64_t room = 1 + CHUNKS * (chunk_bytes(bits) >> bits);
        struct model m = { bits, calloc(room, 1ull << bits), calloc(room, 4), calloc(room, 1),
                           room, 0 };
        uint32_t *refs = calloc(room, sizeof(*refs));
        struct placer *p = placer_new(bits, refs, room);
        uint64_t (*where)[CHUNK_CLUSTERS_MAX] = calloc(CHUNKS, sizeof(*where));
        uint32_t (*bytes)[CHUNK_CLUSTERS_MAX] = calloc(CHUNKS, sizeof(*bytes));
        struct placer_run tail;
        struct placement to;

        for (uint64_t n = 0; n < CHUNKS; n++) {
                fill_chunk(c, n, &seed);
                m.wrong += !placer_place(p, n, c, &to);
                look_at(&m, c, &to, where[n]);
                for (unsigned i = 0; i < c->n; i++)
                        bytes[n][i] = c->cluster[i].bytes;
                write_run(&m, &to.run[0]);
                write_run(&m, &to.run[1]);
        }

        uint64_t used = placer_finish(p, &tail);

        write_run(&m, &tail);
        for (uint64_t n = 0; n < CHUNKS; n++)
                take_streams(&m, n, where[n], bytes[n]);
        CU_ASSERT_EQUAL(m.wrong, 0);
        CU_ASSERT(used <= room);                                        /* INV-ROOM */
        for (uint64_t i = 1; i < used; i++)
                m.wrong += m.written[i] != 1;                           /* INV-WRITTEN */
        CU_ASSERT_EQUAL(m.wrong, 0);
        CU_ASSERT_EQUAL(memcmp(refs, m.refs, room * sizeof(*refs)), 0);
        for (uint64_t i = 0; i < room << bits; i++)
                m.wrong += m.file[i] != 0;
        CU_ASSERT_EQUAL(m.wrong, 0);                                    /* zero slack */
        placer_free(p);
        chunk_free(c);
        free(m.file);
        free(m.refs);
        free(m.written);
        free(refs);
        free(where);
        free(bytes);
}

static void random_chunks(void)
{
        run(14, 1);
        run(16, 2);
        run(18, 3);
}

static void stopped(void)
{
        uint32_t refs[8] = { 0 };
        struct placer *p = placer_new(12, refs, 8);
        struct chunk *c = chunk_new(12, QS_COMPRESS_NONE, 0, 1);
        struct placement to;

        chunk_fill(c, 0, 1, NULL);
        CU_ASSERT(placer_place(p, 0, c, &to));
        placer_stop(p);
        CU_ASSERT(!placer_place(p, 5, c, &to));         /* does not wait for 1 to 4 */
        chunk_free(c);
        placer_free(p);
}

static const CU_TestInfo cases[] = {
        { "random chunks against a model", random_chunks },
        { "a stopped placer lets everybody go", stopped },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-placer", cases);
}
