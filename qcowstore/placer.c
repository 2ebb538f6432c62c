/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/placer.h"

#include <stdlib.h>
#include <string.h>

#include "common/lock.h"
#include "qcowstore/l2entry.h"

#define NO_LIMIT UINT64_MAX

struct placer {
        struct lock lock;
        /* constant */
        unsigned cluster_bits;
        struct space *space;
        struct dedup *dedup;
        /* under the lock */
        bool stopped GUARDED_BY(lock);
        uint64_t next_ticket GUARDED_BY(lock);
        /* those that came early, by their tickets */
        struct chunk *early[PLACER_AHEAD_MAX] GUARDED_BY(lock);
        /* of the extent at hand, in bytes: what was given out ends at `end` */
        uint64_t end GUARDED_BY(lock);
        uint64_t limit GUARDED_BY(lock);        /* NO_LIMIT: it is the end of the file */
        uint64_t pack_at GUARDED_BY(lock);      /* of the next stream */
        uint8_t *tail;                          /* content of the cluster at pack_at */
};

/* All that a chunk may need: its raw clusters, its streams, and what is left of
 * the cluster where they start. */
static uint64_t need(const struct chunk *c)
{
        return c->count[CHUNK_RAW] + layout_clusters(c->stream_bytes, c->cluster_bits) + 1;
}

static void next_extent_locked(struct placer *p, uint64_t clusters) REQUIRES(p->lock)
{
        struct space_run run = space_take_run(p->space, clusters);

        p->end = (run.n ? run.first : p->space->end) << p->cluster_bits;
        p->limit = run.n ? (run.first + run.n) << p->cluster_bits : NO_LIMIT;
        p->pack_at = p->end;
}

struct placer *placer_new(struct space *space, struct dedup *dedup)
{
        struct placer *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        lock_init(&p->lock);
        p->cluster_bits = space->cluster_bits;
        p->space = space;
        p->dedup = dedup;
        p->tail = calloc(1, layout_cluster_bytes(p->cluster_bits));
        if (!p->tail) {
                placer_free(p);
                return NULL;
        }
        /* an empty extent: the first chunk says what it needs */
        return p;
}

void placer_free(struct placer *p)
{
        if (!p)
                return;
        lock_fini(&p->lock);
        free(p->tail);
        free(p);
}

static void count(struct placer *p, const struct chunk *c, uint64_t offset, uint64_t bytes)
{
        if (c->ahead)
                return;

        uint64_t last = (ALIGN_UP(offset + bytes, LAYOUT_SECTOR_BYTES) - 1) >> p->cluster_bits;

        ASSERT(last < p->space->room);          /* INV-ROOM */
        for (uint64_t i = offset >> p->cluster_bits; i <= last; i++)
                p->space->refs[i] += PLACER_REFS_PER_ENTRY;
}

static bool joined_locked(struct placer *p) REQUIRES(p->lock)
{
        return ALIGN_UP(p->pack_at, layout_cluster_bytes(p->cluster_bits)) == p->end;
}

static void place_raw_locked(struct placer *p, struct chunk *c, struct placement *ret)
        REQUIRES(p->lock)
{
        ret->raw_offset = p->end;
        for (unsigned i = 0; i < c->n; i++) {
                if (c->cluster[i].kind != CHUNK_RAW)
                        continue;
                c->cluster[i].entry = p->end;
                count(p, c, p->end, layout_cluster_bytes(p->cluster_bits));
                p->end += layout_cluster_bytes(p->cluster_bits);
        }
}

/* Streams [from, from + bytes) of the chunk go to pack_at. */
static void append_locked(struct placer *p, struct chunk *c, size_t from, size_t bytes,
                          struct placer_run *ret) REQUIRES(p->lock)
{
        size_t cluster = layout_cluster_bytes(p->cluster_bits);
        size_t prefix = p->pack_at & (cluster - 1);
        size_t whole = ALIGN_DOWN(prefix + bytes, cluster);
        size_t rest = prefix + bytes - whole;
        uint8_t *data = c->streams + from - prefix;

        ASSERT(prefix == 0 || from == 0);       /* else there would be no room before it */
        if (whole) {
                memcpy(data, p->tail, prefix);
                *ret = (struct placer_run){ data, p->pack_at - prefix, whole };
                memset(p->tail, 0, cluster);
                memcpy(p->tail, data + whole, rest);
        } else {
                memcpy(p->tail + prefix, c->streams + from, bytes);
        }
        for (unsigned i = 0; i < c->n; i++) {
                struct chunk_cluster *k = &c->cluster[i];

                if (k->kind != CHUNK_PACKED || k->at < from || k->at >= from + bytes)
                        continue;
                k->entry = l2entry_packed(p->pack_at + (k->at - from), k->bytes, p->cluster_bits);
                count(p, c, p->pack_at + (k->at - from), k->bytes);
        }
        p->pack_at += bytes;
        p->end = MAX(p->end, ALIGN_UP(p->pack_at, cluster));
}

/* bytes of the leading streams that fit into the rest of the tail's cluster */
static size_t fitting_locked(struct placer *p, const struct chunk *c) REQUIRES(p->lock)
{
        size_t room = ALIGN_UP(p->pack_at, layout_cluster_bytes(p->cluster_bits)) - p->pack_at;
        size_t fit = 0;

        for (unsigned i = 0; i < c->n; i++) {
                const struct chunk_cluster *k = &c->cluster[i];

                if (k->kind != CHUNK_PACKED)
                        continue;
                if (k->at + k->bytes > room)
                        break;
                fit = k->at + k->bytes;
        }
        return fit;
}

/* The tail's cluster gets no more; it is handed out if append did not. */
static void close_tail_locked(struct placer *p, struct chunk *c, struct placer_run *ret)
        REQUIRES(p->lock)
{
        size_t cluster = layout_cluster_bytes(p->cluster_bits);

        if (!IS_ALIGNED(p->pack_at, cluster)) {
                memcpy(c->spare, p->tail, cluster);
                memset(p->tail, 0, cluster);
                *ret = (struct placer_run){ c->spare, ALIGN_DOWN(p->pack_at, cluster), cluster };
        }
        p->pack_at = p->end;
}

static void place_streams_locked(struct placer *p, struct chunk *c, struct placement *ret)
        REQUIRES(p->lock)
{
        size_t done = 0;

        if (c->stream_bytes == 0)
                return;
        if (!joined_locked(p)) {
                done = fitting_locked(p, c);
                if (done)
                        append_locked(p, c, 0, done, &ret->run[0]);
                if (done == c->stream_bytes)
                        return;
                close_tail_locked(p, c, &ret->run[0]);
        }
        append_locked(p, c, done, c->stream_bytes - done, &ret->run[1]);
}

/* true = a stream that was made is not needed */
static bool settle_one_locked(struct placer *p, struct chunk *c, unsigned i) REQUIRES(p->lock)
{
        struct chunk_cluster *k = &c->cluster[i];
        struct dedup_slot *slot = dedup_claim(p->dedup, &k->key);
        bool had_stream = k->kind == CHUNK_PACKED;

        if (!slot) {
                /* the index is full: then equal clusters of one chunk are all */
                ASSERT(k->kind != CHUNK_SHARED ||
                       dedup_equal(&c->cluster[k->same].key, &k->key)); /* INV-KNOWN */
                return false;
        }
        if (slot->refs > 0 && slot->refs < dedup_limit(p->dedup)) {
                slot->refs++;
                k->entry = slot->entry;
                k->same = slot->owner;
                chunk_turn(c, i, CHUNK_SHARED);
                return had_stream;
        }
        ASSERT(slot->refs > 0 || k->kind != CHUNK_SHARED);              /* INV-KNOWN */
        if (slot->refs > 0 && k->origin == CHUNK_PLAIN)
                chunk_turn(c, i, CHUNK_RAW);                            /* INV-COUNT */
        slot->refs = 1;
        slot->fresh = true;
        slot->entry = 0;
        slot->owner = i;
        k->slot = slot;
        return had_stream && k->kind == CHUNK_RAW;
}

static void settle_locked(struct placer *p, struct chunk *c) REQUIRES(p->lock)
{
        bool gaps = false;

        for (unsigned i = 0; i < c->n; i++) {
                if (chunk_stores(c->cluster[i].kind) && c->cluster[i].origin != CHUNK_LINKED)
                        gaps |= settle_one_locked(p, c, i);
        }
        if (gaps)
                chunk_close_gaps(c);
}

/* All has its place: remember those of new contents, refer to the others. */
static void refer_locked(struct placer *p, struct chunk *c) REQUIRES(p->lock)
{
        for (unsigned i = 0; i < c->n; i++) {
                struct chunk_cluster *k = &c->cluster[i];
                struct l2entry at;

                if (k->slot)
                        k->slot->entry = k->entry;
                if (k->kind != CHUNK_SHARED)
                        continue;
                if (k->entry == 0)
                        k->entry = c->cluster[k->same].entry;

                const char *wrong = l2entry_decode(k->entry, p->cluster_bits,
                                                   p->space->room << p->cluster_bits, &at);

                ASSERT(!wrong);
                count(p, c, at.offset, at.bytes);
        }
}

/* Room for the whole chunk in one extent. */
static void make_way_locked(struct placer *p, struct chunk *c, struct placement *ret)
        REQUIRES(p->lock)
{
        uint64_t clusters = need(c);

        if (c->count[CHUNK_RAW] == 0 && c->stream_bytes == 0)
                return;
        if (p->limit == NO_LIMIT || (p->limit - p->end) >> p->cluster_bits >= clusters)
                return;
        close_tail_locked(p, c, &ret->run[0]);
        space_return(p->space, (struct space_run){ p->end >> p->cluster_bits,
                                                   (p->limit - p->end) >> p->cluster_bits });
        next_extent_locked(p, clusters);
}

static void place_locked(struct placer *p, struct chunk *c, struct placement *ret)
        REQUIRES(p->lock)
{
        settle_locked(p, c);
        make_way_locked(p, c, ret);

        bool streams_first = joined_locked(p);

        if (streams_first)
                place_streams_locked(p, c, ret);
        place_raw_locked(p, c, ret);
        if (!streams_first)
                place_streams_locked(p, c, ret);
        refer_locked(p, c);
        ASSERT(p->end <= p->limit && p->end >> p->cluster_bits <= p->space->room);
}

/* All whose turn has come. */
static struct chunk *place_ready_locked(struct placer *p) REQUIRES(p->lock)
{
        struct chunk *first = NULL;
        struct chunk **last = &first;
        struct chunk *c;

        while ((c = p->early[p->next_ticket % PLACER_AHEAD_MAX])) {
                p->early[p->next_ticket % PLACER_AHEAD_MAX] = NULL;
                c->to = (struct placement){ 0 };
                c->next = NULL;
                place_locked(p, c, &c->to);
                p->next_ticket++;
                *last = c;
                last = &c->next;
        }
        return first;
}

struct chunk *placer_place(struct placer *p, uint64_t ticket, struct chunk *c)
{
        struct chunk *ready = NULL;

        lock_acquire(&p->lock);
        if (!p->stopped) {
                ASSERT(ticket - p->next_ticket < PLACER_AHEAD_MAX);
                ASSERT(!p->early[ticket % PLACER_AHEAD_MAX]);
                p->early[ticket % PLACER_AHEAD_MAX] = c;
                ready = place_ready_locked(p);
        }
        lock_release(&p->lock);
        return ready;
}

void placer_stop(struct placer *p)
{
        lock_acquire(&p->lock);
        p->stopped = true;
        lock_release(&p->lock);
}

void placer_finish(struct placer *p, struct placer_run *ret)
{
        size_t cluster = layout_cluster_bytes(p->cluster_bits);

        lock_acquire(&p->lock);
        *ret = (struct placer_run){ 0 };
        if (!IS_ALIGNED(p->pack_at, cluster))
                *ret = (struct placer_run){ p->tail, ALIGN_DOWN(p->pack_at, cluster), cluster };
        if (p->limit == NO_LIMIT)
                space_extend(p->space, p->end >> p->cluster_bits);
        else
                space_return(p->space, (struct space_run){
                        p->end >> p->cluster_bits, (p->limit - p->end) >> p->cluster_bits });
        lock_release(&p->lock);
}
