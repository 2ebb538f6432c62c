/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ramcrew.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common/check.h"
#include "vmm/starter.h"

/* memory is not faster with more */
#define THREADS_MAX 16

struct crew {
        const struct ram *ram;
        const struct ramcrew_work *work;
        uint64_t chunks;
        _Atomic uint64_t next;
        _Atomic bool failed;
};

struct member {
        struct crew *crew;
        pthread_t thread;
        int rc;
        struct err err;
};

static int do_chunk(struct crew *c, void *own, uint64_t n, struct err *e)
{
        uint64_t offset = n * RAMCREW_CHUNK_BYTES;
        unsigned slot = 0;

        while (offset >= c->ram->slots[slot].bytes) {
                offset -= c->ram->slots[slot++].bytes;
                ASSERT(slot < c->ram->nslots);
        }
        return c->work->chunk(c->work->ctx, own, slot, offset, e);
}

static int do_chunks(struct crew *c, void *own, struct err *e)
{
        int rc = 0;

        while (rc == 0 && !c->failed) {
                uint64_t n = atomic_fetch_add(&c->next, 1);

                if (n >= c->chunks)
                        break;
                if (c->work->cancelled && *c->work->cancelled)
                        rc = err_msg(e, ECANCELED, "cancelled");
                else
                        rc = do_chunk(c, own, n, e);
        }
        return rc;
}

static int do_some(struct crew *c, struct err *e)
{
        void *own = NULL;
        int rc = c->work->begin ? c->work->begin(c->work->ctx, &own, e) : 0;

        if (rc == 0) {
                rc = do_chunks(c, own, e);
                if (c->work->end)
                        c->work->end(own);
        }
        if (rc < 0)
                c->failed = true;
        return rc;
}

static void *member_main(void *ctx)
{
        struct member *m = ctx;

        m->rc = do_some(m->crew, &m->err);
        return NULL;
}

int ramcrew_run(const struct ram *ram, const struct ramcrew_work *work, struct err *e)
{
        struct member members[THREADS_MAX];
        struct crew c = {
                .ram = ram, .work = work, .chunks = ram->bytes / RAMCREW_CHUNK_BYTES,
        };
        unsigned n = (unsigned)MIN(MAX(sysconf(_SC_NPROCESSORS_ONLN), 1), THREADS_MAX);
        unsigned started = 0;
        int rc = 0;

        while (started < n) {
                struct member *m = &members[started];
                const struct starter_thread thread = {
                        .role = SANDBOX_COPY, .name = "crew", .run = member_main, .ctx = m,
                };

                *m = (struct member){ .crew = &c };
                if (starter_start(work->starter, &thread, &m->thread))
                        break;
                started++;
        }
        if (started == 0)
                return do_some(&c, e);
        for (unsigned i = 0; i < started; i++) {
                pthread_join(members[i].thread, NULL);
                if (members[i].rc < 0 && rc == 0) {
                        rc = members[i].rc;
                        if (e)
                                *e = members[i].err;
                }
        }
        return rc;
}
