/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/chunkpool.h"

#include <stdlib.h>

#include "common/lock.h"

struct chunkpool {
        struct lock lock;
        struct cond change;
        bool stopped GUARDED_BY(lock);
        struct chunk *unused GUARDED_BY(lock);  /* last used first: it is in the cache */
        /* constant */
        unsigned chunks;
        struct chunk *chunk[];
};

struct chunkpool *chunkpool_new(unsigned chunks, unsigned cluster_bits,
                                enum qs_compress compress, int level, uint64_t seed,
                                const struct dedup *dedup)
{
        struct chunkpool *p = calloc(1, sizeof(*p) + chunks * sizeof(p->chunk[0]));

        if (!p)
                return NULL;
        lock_init(&p->lock);
        cond_init(&p->change);
        for (; p->chunks < chunks; p->chunks++) {
                struct chunk *c = chunk_new(cluster_bits, compress, level, seed, dedup);

                if (!c) {
                        chunkpool_free(p);
                        return NULL;
                }
                p->chunk[p->chunks] = c;
                chunkpool_give(p, c);
        }
        return p;
}

void chunkpool_free(struct chunkpool *p)
{
        if (!p)
                return;
        for (unsigned i = 0; i < p->chunks; i++)
                chunk_free(p->chunk[i]);
        cond_fini(&p->change);
        lock_fini(&p->lock);
        free(p);
}

struct chunk *chunkpool_take(struct chunkpool *p)
{
        struct chunk *c = NULL;

        lock_acquire(&p->lock);
        while (!p->stopped && !p->unused)
                cond_wait(&p->change, &p->lock);
        if (!p->stopped) {
                c = p->unused;
                p->unused = c->next;
        }
        lock_release(&p->lock);
        return c;
}

void chunkpool_give(struct chunkpool *p, struct chunk *c)
{
        lock_acquire(&p->lock);
        c->next = p->unused;
        p->unused = c;
        cond_broadcast(&p->change);
        lock_release(&p->lock);
}

void chunkpool_stop(struct chunkpool *p)
{
        lock_acquire(&p->lock);
        p->stopped = true;
        cond_broadcast(&p->change);
        lock_release(&p->lock);
}
