/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/serve/expect.h"
#include "vmm/serve/imagewatch.h"

/* Requests come in bursts: this long after the last one the pool is filled again. */
#define QUIET_MS 20
/* after a process that could not prepare anything: the host lacks something */
#define TROUBLE_MS 5000
/* after the image was changed, which may go on for a while */
#define CHANGED_MS 500

/* One place. EMPTY -> STARTING -> READY -> EMPTY (taken, or died) */
struct place {
        struct pool *pool;
        struct child *child;            /* NULL = empty */
        bool ready;
        unsigned guess;                 /* pool.guesses when it was started */
};

struct pool {
        struct pool_options options;
        struct event *fill;
        struct imagewatch *watch;       /* of the guess; NULL = it cannot be watched */
        struct guess guess;
        unsigned guesses;               /* counts them */
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

/* Who is ready is so for what nobody guesses any more. */
static void guess_anew(struct pool *p)
{
        p->guesses++;
        for (unsigned i = 0; i < p->options.size; i++) {
                if (p->place[i].ready)
                        vacate(&p->place[i]);
        }
}

static void on_image_changed(void *ctx)
{
        struct pool *p = ctx;

        guess_anew(p);
        if (!p->paused)
                fill_in(p, CHANGED_MS);
}

static void watch_image(struct pool *p)
{
        AUTO_FREE char *path = p->guess.expected ? expect_path(p->guess.expected) : NULL;

        imagewatch_set(p->watch, path);
}

static void on_ready(void *ctx)
{
        struct place *at = ctx;
        struct pool *p = at->pool;

        ASSERT(!at->ready);
        at->ready = true;
        p->stats.ready++;
        p->troubled = false;
        if (at->guess != p->guesses)
                vacate(at);             /* nobody guesses that any more */
        else
                watch_image(p);         /* that process could open it: the file system works */
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
        empty->guess = p->guesses;

        const struct child_kind kind = {
                .guess = p->guess, .sandbox = p->options.sandbox, .confine = p->options.confine,
        };

        if (child_new(p->options.base, &kind, &ops, empty, &empty->child, &e) < 0)
                trouble(p, &e);
}

int pool_new(const struct pool_options *options, struct pool **ret, struct err *e)
{
        struct pool *p = calloc(1, sizeof(*p));

        ASSERT(options->size <= POOL_SIZE_MAX);
        if (!p)
                return err_msg(e, ENOMEM, "no memory for the pool");
        p->options = *options;
        p->guess.shape = options->shape;
        if (options->expected)
                p->guess.expected = strdup(options->expected);
        for (unsigned i = 0; i < POOL_SIZE_MAX; i++)
                p->place[i].pool = p;
        p->fill = evtimer_new(options->base, on_fill, p);
        if (!p->fill) {
                pool_free(p);
                return err_msg(e, ENOMEM, "no memory for the pool");
        }
        p->watch = imagewatch_new(options->base, on_image_changed, p);
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
        imagewatch_free(p->watch);
        free(p->guess.expected);
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

static bool same_text(const char *a, const char *b)
{
        return a && b ? !strcmp(a, b) : a == b;
}

/* Whether that is another one. */
static bool learn_shape(struct pool *p, const struct shape *shape)
{
        struct shape *was = &p->guess.shape;

        if (p->options.fixed ||
            (was->cpus == shape->cpus && was->memory_bytes == shape->memory_bytes))
                return false;
        *was = *shape;
        return true;
}

static bool learn_expected(struct pool *p, const char *expected)
{
        if (p->options.expected_fixed || same_text(expected, p->guess.expected))
                return false;
        free(p->guess.expected);
        p->guess.expected = expected ? strdup(expected) : NULL;
        return true;
}

void pool_learn(struct pool *p, const struct shape *shape, const char *expected)
{
        bool new_shape = learn_shape(p, shape);

        if (learn_expected(p, expected) || new_shape)
                guess_anew(p);
}

struct pool_stats pool_stats(const struct pool *p)
{
        struct pool_stats s = p->stats;

        s.size = p->options.size;
        s.shape = p->guess.shape;
        return s;
}
