/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/revert.h"

#include <errno.h>

#include "common/rate.h"
#include "pageserver/adapters/qemu/revert-priv.h"

/* ---- callbacks ----------------------------------------------------------------- */

static void on_request(void *ctx, unsigned block, uint64_t offset, uint64_t bytes)
{
        struct session *s = ctx;
        uint64_t page_bytes = s->origin.pages.of[block].page_bytes;

        if (s->recording)
                recording_touch(s->recording, block, offset, bytes);
        for (uint64_t at = 0; at < bytes; at += page_bytes)
                fetch_want(s->fetch, block, offset + at);
}

void revert_mark(struct session *s, bool *what, bool value)
{
        lock_acquire(&s->lock);
        *what = value;
        if (s->loaded && !s->held)
                fetch_go(s->fetch, FETCH_NEVER);
        lock_release(&s->lock);
}

static void on_pong(void *ctx, uint32_t token)
{
        struct session *s = ctx;

        if (token == PING_LOADED)
                revert_mark(s, &s->loaded, true);
}

static void on_recorded(void *ctx)
{
        struct session *s = ctx;

        revert_mark(s, &s->held, false);
}

static void on_stored(void *ctx)
{
        struct session *s = ctx;

        fetch_hold(s->fetch, false);
}

static void on_ended(void *ctx)
{
        struct session *s = ctx;

        fetch_close(s->fetch);
        outflow_stop(&s->out);
}

/* ---- the ways ------------------------------------------------------------------ */

struct step {
        const char *name;
        int (*run)(struct session *s, struct err *e);
};

static const struct step plain[] = {
        { "head", revert_head }, { "RAM", revert_all_pages }, { "devices", revert_devices }, { 0 },
};

static const struct step postcopy[] = {
        { "head", revert_head },
        { "RAM ahead of the start", revert_ahead },
        { "devices", revert_run },
        { "RAM", revert_serve },
        { "working set", revert_store },
        { "end", revert_end },
        { "QEMU's answer", revert_wait_shut },
        { 0 },
};

static const struct step recover[] = {
        { "QEMU's map of pages", revert_ask_bitmaps },
        { "QEMU's going on", revert_resume },
        { "RAM", revert_serve },
        { "working set", revert_store },
        { "end", revert_end },
        { "QEMU's answer", revert_wait_shut },
        { 0 },
};

/* ---- what went wrong ------------------------------------------------------------- */

#define REMEDY_LOOK "; QEMU's own message may say why"
#define REMEDY_RECOVER \
        "; if QEMU lives, its guest waits (postcopy-paused): 'migrate-recover' with " \
        "'qemu-snapshot --revert --recover' goes on"

static const char *remedy(const struct session *s, int rc)
{
        if (s->phase == PHASE_RUNNING)
                return REMEDY_RECOVER;
        return rc == -EPIPE || rc == -ECANCELED ? REMEDY_LOOK : "";
}

/* What QEMU said or did is worth more than that a write or a wait has failed. */
static int explain(struct session *s, const char *step, int rc, struct err *e)
{
        struct err said;
        struct err why = *e;
        enum returnpath_end end = s->returns ? returnpath_end(s->returns, &said) :
                                               RETURNPATH_OPEN;

        if (end == RETURNPATH_BROKEN)
                why = said;
        else if (end == RETURNPATH_SHUT_BAD)
                err_msg(&why, EIO, "QEMU could not load it");
        else if (end == RETURNPATH_SHUT_OK)
                err_msg(&why, EPROTO, "QEMU ended before all was there");
        else if (end == RETURNPATH_GONE)
                err_msg(&why, EPIPE, "QEMU has gone");
        return err_msg(e, -rc, "revert '%s', %s: %s%s", s->options->image, step, why.text,
                       remedy(s, rc));
}

/* ---- life ---------------------------------------------------------------------- */

static const struct returnpath_ops ops = {
        .request = on_request, .pong = on_pong, .ended = on_ended,
};

static int start_recording(struct session *s, struct err *e)
{
        struct recording_options o = {
                .path = s->options->image, .image = s->origin.image,
                .blocks = &s->origin.state.blocks, .seconds = s->options->record_seconds,
                .over = on_recorded, .stored = on_stored, .ctx = s,
        };

        if (!s->options->record)
                return 0;
        if (o.seconds > 0)
                revert_mark(s, &s->held, true);
        return recording_new(&o, &s->recording, e);
}

static int start(struct session *s, struct err *e)
{
        struct origin *o = &s->origin;
        struct fetch_options f = {
                .image = o->image, .pages = &o->pages, .first = o->first, .nfirst = o->nfirst,
                .rate = s->options->postcopy ? s->options->prefetch_rate : RATE_UNLIMITED,
                .zeros = !s->options->postcopy,
        };
        int rc = outflow_init(&s->out, s->transport->out, e);

        if (rc == 0)
                rc = fetch_new(&f, &s->fetch, e);
        if (rc == 0)
                rc = pusher_new(&o->load, s->fetch, &s->out, &s->pusher, e);
        if (rc == 0)
                rc = start_recording(s, e);
        if (rc == 0 && s->options->postcopy)
                rc = returnpath_new(s->transport->in, o->ramblock, o->load.nblocks,
                                    o->load.page_bytes, &ops, s, &s->returns, e);
        return rc;
}

/* What was asked for of a guest that ran is of worth, whatever came then. */
static void end_recording(struct session *s)
{
        struct err warning;

        if (s->recording && s->phase != PHASE_LOADING &&
            recording_end(s->recording, &warning) < 0)
                err_print("qemu-snapshot", &warning);
        recording_free(s->recording);
}

/* Threads first: they use all the rest. */
static void finish(struct session *s)
{
        if (s->fetch)
                fetch_close(s->fetch);
        returnpath_free(s->returns);
        end_recording(s);
        fetch_free(s->fetch);
        pusher_free(s->pusher);
        qemubuf_fini(&s->buf);
        outflow_fini(&s->out);
        origin_fini(&s->origin);
        lock_fini(&s->lock);
}

static const struct step *way(const struct revert_options *o)
{
        return o->recover ? recover : o->postcopy ? postcopy : plain;
}

int qemu_revert(const struct revert_options *o, struct transport *t, struct err *e)
{
        struct session s = {
                .options = o, .transport = t, .out = { .fd = -1, .stop_fd = -1 },
                .phase = o->recover ? PHASE_RUNNING : PHASE_LOADING,
        };
        int rc = origin_open(&s.origin, o, e);

        lock_init(&s.lock);
        if (rc == 0)
                rc = start(&s, e);
        for (const struct step *step = way(o); rc == 0 && step->name; step++) {
                rc = step->run(&s, e);
                if (rc < 0)
                        rc = explain(&s, step->name, rc, e);
        }
        finish(&s);
        return rc;
}
