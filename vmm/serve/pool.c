/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"

/* Requests come in bursts: this long after the last one the pool is filled again. */
#define QUIET_MS 20
/* after a process that could not prepare anything: the host lacks something */
#define TROUBLE_MS 5000

/* One place. EMPTY -> STARTING -> READY -> EMPTY (taken, or died) */
struct place {
        struct pool *pool;
        struct child *child;            /* NULL = empty */
        bool ready;
        struct shape shape;
};

struct pool {
        struct pool_options options;
        struct event *fill;
        unsigned paused;                /* VMs that are being made */
        bool troubled;                  /* said once */
        struct pool_stats stats;
        struct place place[POOL_SIZE_MAX];
};

static void fill_in(struct pool *p, unsigned ms)
{
        const struct timeval wait = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

        if (p->options.size)
                event_add(p->fill, &wait);
}

static void vacate(struct place *at)
{
        child_free(ptr_take(&at->child));
        if (at->ready)
                at->pool->stats.ready--;
        at->ready = false;
}

static bool same(const struct shape *a, const struct shape *b)
{
        return a->cpus == b->cpus && a->memory_bytes == b->memory_bytes;
}

static void on_ready(void *ctx)
{
        struct place *at = ctx;
        struct pool *p = at->pool;

        ASSERT(!at->ready);
        at->ready = true;
        p->stats.ready++;
        p->troubled = false;
        if (!same(&at->shape, &p->options.shape))
                vacate(at);             /* nobody guesses that any more */
        if (!p->paused)
                fill_in(p, 0);
}

static void trouble(struct pool *p, const struct err *e)
{
        if (!p->troubled)
                fprintf(stderr, "vmm serve: no VM can be prepared: %s\n", e->text);
        p->troubled = true;
        fill_in(p, TROUBLE_MS);
}

static void on_failed(void *ctx, const struct err *e)
{
        struct place *at = ctx;

        vacate(at);
        trouble(at->pool, e);
}

static void on_report(void *ctx, struct json_object *o)
{
        const struct err e = { .text = "it says something that was not asked" };

        (void)o;
        on_failed(ctx, &e);
}

static const struct child_ops ops = {
        .ready = on_ready, .report = on_report, .failed = on_failed,
};

static void on_fill(evutil_socket_t fd, short what, void *ctx)
{
        struct pool *p = ctx;
        struct place *empty = NULL;
        struct err e;

        (void)fd;
        (void)what;
        if (p->paused)
                return;
        for (unsigned i = 0; i < p->options.size; i++) {
                if (p->place[i].child && !p->place[i].ready)
                        return;         /* one after the other */
                if (!p->place[i].child)
                        empty = &p->place[i];
        }
        if (!empty)
                return;
        empty->shape = p->options.shape;
        if (child_new(p->options.base, &empty->shape, &ops, empty, &empty->child, &e) < 0)
                trouble(p, &e);
}

int pool_new(const struct pool_options *options, struct pool **ret, struct err *e)
{
        struct pool *p = calloc(1, sizeof(*p));

        ASSERT(options->size <= POOL_SIZE_MAX);
        if (!p)
                return err_msg(e, ENOMEM, "no memory for the pool");
        p->options = *options;
        for (unsigned i = 0; i < POOL_SIZE_MAX; i++)
                p->place[i].pool = p;
        p->fill = evtimer_new(options->base, on_fill, p);
        if (!p->fill) {
                pool_free(p);
                return err_msg(e, ENOMEM, "no memory for the pool");
        }
        fill_in(p, 0);
        *ret = p;
        return 0;
}

void pool_free(struct pool *p)
{
        if (!p)
                return;
        for (unsigned i = 0; i < POOL_SIZE_MAX; i++)
                vacate(&p->place[i]);
        if (p->fill)
                event_free(p->fill);
        free(p);
}

struct child *pool_take(struct pool *p)
{
        for (unsigned i = 0; i < p->options.size; i++) {
                struct place *at = &p->place[i];

                if (!at->ready)
                        continue;
                at->ready = false;
                p->stats.ready--;
                p->stats.taken++;
                return ptr_take(&at->child);
        }
        if (p->options.size)
                p->stats.missed++;
        return NULL;
}

void pool_pause(struct pool *p)
{
        p->paused++;
        event_del(p->fill);
}

void pool_resume(struct pool *p)
{
        ASSERT(p->paused > 0);
        if (--p->paused == 0)
                fill_in(p, QUIET_MS);
}

void pool_learn(struct pool *p, const struct shape *shape)
{
        if (p->options.fixed || same(shape, &p->options.shape))
                return;
        p->options.shape = *shape;
        for (unsigned i = 0; i < p->options.size; i++) {
                if (p->place[i].ready)
                        vacate(&p->place[i]);
        }
}

struct pool_stats pool_stats(const struct pool *p)
{
        struct pool_stats s = p->stats;

        s.size = p->options.size;
        s.shape = p->options.shape;
        return s;
}
