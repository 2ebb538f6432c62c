/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/emit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/layout.h"
#include "qcowstore/sum.h"

#define EMIT_BYTES (1u << 20)

static size_t cluster_bytes(const struct emit *s)
{
        return layout_cluster_bytes(s->space->cluster_bits);
}

int emit_init(struct emit *s, int fd, struct space *space, uint64_t seed)
{
        size_t room = MAX(EMIT_BYTES, layout_cluster_bytes(space->cluster_bits));

        *s = (struct emit){ .fd = fd, .space = space, .seed = seed, .room = room };
        s->buf = malloc(room);
        return s->buf ? 0 : -ENOMEM;
}

void emit_fini(struct emit *s)
{
        free(s->buf);
}

static void flush(struct emit *s)
{
        if (s->rc == 0 && s->used > 0)
                s->rc = io_pwrite_full(s->fd, s->buf, s->used, s->at << s->space->cluster_bits);
        s->at += s->used >> s->space->cluster_bits;
        s->used = 0;
}

int emit_end(struct emit *s)
{
        flush(s);
        return s->rc;
}

/* Room for a cluster at host, zeroed; to be closed by close_cluster(). */
static uint8_t *open_cluster(struct emit *s, uint64_t host)
{
        if (s->used == s->room || s->at + (s->used >> s->space->cluster_bits) != host) {
                flush(s);
                s->at = host;
        }
        return memset(s->buf + s->used, 0, cluster_bytes(s));
}

static void close_cluster(struct emit *s, uint64_t host, enum emit_guard guard)
{
        const uint8_t *bytes = s->buf + s->used;

        ASSERT(host < s->space->room);
        s->space->sums[host] = guard == UNGUARDED ? 0 : sum_bytes(bytes, cluster_bytes(s), s->seed);
        s->used += cluster_bytes(s);
}

void emit_bytes(struct emit *s, uint64_t host, const void *data, uint64_t bytes,
                enum emit_guard guard)
{
        const uint8_t *from = data;

        for (; bytes > 0; host++) {
                size_t part = MIN(bytes, cluster_bytes(s));

                memcpy(open_cluster(s, host), from, part);
                close_cluster(s, host, guard);
                from += part;
                bytes -= part;
        }
}

void emit_words(struct emit *s, uint64_t host, const uint64_t *words, uint64_t n,
                enum emit_order order, enum emit_guard guard)
{
        uint64_t per_cluster = cluster_bytes(s) / 8;

        for (uint64_t i = 0; i < n; i += per_cluster, host++) {
                uint8_t *to = open_cluster(s, host);

                for (uint64_t k = 0; k < MIN(per_cluster, n - i); k++) {
                        if (order == BIG_ENDIAN_WORDS)
                                put_be64(to + k * 8, words[i + k]);
                        else
                                put_le64(to + k * 8, words[i + k]);
                }
                close_cluster(s, host, guard);
        }
}

void emit_refs(struct emit *s, uint64_t host, const uint32_t *refs)
{
        uint8_t *to = open_cluster(s, host);

        for (uint64_t k = 0; k < cluster_bytes(s) / 4; k++)
                put_be32(to + k * 4, refs[k]);
        close_cluster(s, host, UNGUARDED);
}
