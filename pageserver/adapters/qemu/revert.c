/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/revert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/rate.h"
#include "pageserver/adapters/qemu/origin.h"
#include "pageserver/adapters/qemu/pusher.h"
#include "pageserver/adapters/qemu/recording.h"
#include "pageserver/adapters/qemu/recover.h"
#include "pageserver/adapters/qemu/returnpath.h"

/* Theory of operation
 *
 * Three ways to send an image to a QEMU that waits for a migration, each a list of steps
 * (specs: the stream is in common/wire/qemuload.h):
 *   plain     all pages, then the devices
 *   postcopy  the devices, then the guest runs, then pages: those it waits for first
 *   recover   as the end of postcopy, to a QEMU that lost the one before us
 * The calling thread is the only one that writes to QEMU. The return path's thread reads
 * from the first byte on, passes requests to the fetch and ends all waits when QEMU goes.
 * Requests are answered from the moment RUN was written; the background begins when
 * QEMU's PONG says that the devices are loaded, for their loading is what the guest waits for.
 *
 * INV-SERVED: END is not written before the PONG of the devices, nor before every page that
 *             is not zero was sent: QEMU then fills what it has not got with zeros.
 * INV-WRONG:  after RUN nothing ends the stream but END: a failure closes it in between two
 *             sections, so that QEMU pauses the guest and can be recovered.
 * INV-END:    every wait ends when QEMU says or closes something, or dies.
 */

/* tokens of PING */
enum ping { PING_OPEN = 1, PING_DISCARDED, PING_LOADED };

enum phase {
        PHASE_LOADING,                  /* QEMU exits if we fail                      */
        PHASE_RUNNING,                  /* the guest runs; it can be recovered        */
        PHASE_ENDED,                    /* all is there; QEMU has to say so           */
};

struct session {
        /* constant once the threads run */
        const struct revert_options *options;
        struct transport *transport;
        struct origin origin;
        struct outflow out;
        struct fetch *fetch;
        struct returnpath *returns;
        struct recording *recording;    /* NULL = nothing is recorded */
        /* the caller's thread */
        struct pusher *pusher;
        struct qemubuf buf;
        enum phase phase;

        struct lock lock;               /* inside of none, nothing inside but the fetch's */
        bool loaded GUARDED_BY(lock);   /* QEMU's devices */
        bool held GUARDED_BY(lock);     /* until the recording's seconds have passed */
};

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

/* The background begins when both allow it. */
static void mark(struct session *s, bool *what, bool value)
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
                mark(s, &s->loaded, true);
}

static void on_recorded(void *ctx)
{
        struct session *s = ctx;

        mark(s, &s->held, false);
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

/* ---- writing ------------------------------------------------------------------- */

/* What was put together, and large parts between: all at once. */
static int write_parts(struct session *s, struct iovec *iov, size_t n, struct err *e)
{
        int rc = qemubuf_check(&s->buf, e);

        if (rc < 0)
                return rc;
        s->transport->wrote = true;
        rc = outflow_writev(&s->out, iov, n, e);
        s->buf.bytes = 0;
        return rc;
}

static int write_buf(struct session *s, struct err *e)
{
        struct iovec iov = { s->buf.data, s->buf.bytes };

        return write_parts(s, &iov, 1, e);
}

/* up to the list of RAM blocks */
static int write_head(struct session *s, struct err *e)
{
        const struct origin *o = &s->origin;
        bool postcopy = s->options->postcopy;

        if (postcopy) {
                qemuload_command(&s->buf, QEMU_OPEN_RETURN_PATH);
                qemuload_ping(&s->buf, PING_OPEN);
                qemuload_advise(&o->load, &s->buf);
        }
        qemuload_start(&o->load, &s->buf, postcopy);

        struct iovec iov[] = {
                { o->state.head, o->state.head_bytes },
                { s->buf.data, s->buf.bytes },
        };

        return write_parts(s, iov, ARRAY_SIZE(iov), e);
}

/* END, without pages of its own */
static void put_end(struct session *s)
{
        qemuload_section(&s->origin.load, &s->buf, QEMU_END);
        qemuload_section_end(&s->origin.load, &s->buf);
}

/* ---- plain --------------------------------------------------------------------- */

static int write_pages(struct session *s, struct err *e)
{
        fetch_go(s->fetch, FETCH_NEVER);
        return pusher_run(s->pusher, e);
}

static int write_devices(struct session *s, struct err *e)
{
        const struct qemu_state *state = &s->origin.state;

        put_end(s);

        size_t end_bytes = s->buf.bytes;

        qemuload_eof(&s->buf);
        if (state->vmdesc)
                qemuload_desc(&s->buf, (uint32_t)state->vmdesc_bytes);

        struct iovec iov[] = {
                { s->buf.data, end_bytes },
                { state->devices, state->devices_bytes },
                { s->buf.data + end_bytes, s->buf.bytes - end_bytes },
                { state->vmdesc, state->vmdesc ? state->vmdesc_bytes : 0 },
        };

        return write_parts(s, iov, ARRAY_SIZE(iov), e);
}

/* ---- postcopy ------------------------------------------------------------------ */

/* --postcopy=PCT: before anybody discards */
static int write_ahead(struct session *s, struct err *e)
{
        unsigned percent = s->options->percent;
        int rc;

        if (percent == 0)
                return 0;
        fetch_rate(s->fetch, RATE_UNLIMITED);
        fetch_go(s->fetch, s->origin.ram_bytes / 100 * percent);
        rc = pusher_run(s->pusher, e);
        fetch_pause(s->fetch);
        fetch_rate(s->fetch, s->options->prefetch_rate);
        return rc;
}

static void put_unsent(struct session *s, unsigned block)
{
        const struct origin *o = &s->origin;
        uint64_t end = o->state.blocks.at[block].bytes;
        struct hostpages_span u = { 0 };
        struct qemuload_range range[1024];
        size_t n = 0;

        while (u.offset + u.bytes < end &&
               hostpages_unsent(&o->pages, block, u.offset + u.bytes, &u)) {
                range[n++] = (struct qemuload_range){ u.offset, u.bytes };
                if (n == ARRAY_SIZE(range)) {
                        qemuload_discard(&o->load, &s->buf, block, range, n);
                        n = 0;
                }
        }
        if (n > 0)
                qemuload_discard(&o->load, &s->buf, block, range, n);
}

/* All that was not sent, of every block. Where nothing was, no page is looked at: the time
 * to RUN does not grow with RAM. */
static int put_discards(struct session *s, struct err *e)
{
        if (s->options->percent == 0)
                qemuload_discard_all(&s->origin.load, &s->buf);
        for (unsigned i = 0; s->options->percent > 0 && i < s->origin.load.nblocks; i++)
                put_unsent(s, i);
        return qemubuf_check(&s->buf, e);
}

/* devices and RUN in one package, which QEMU takes before it looks at it */
static int write_run(struct session *s, struct err *e)
{
        const struct qemu_state *state = &s->origin.state;
        int rc = put_discards(s, e);

        if (rc < 0)
                return rc;
        qemuload_ping(&s->buf, PING_DISCARDED);
        qemuload_package(&s->buf, (uint32_t)state->devices_bytes);

        size_t head_bytes = s->buf.bytes;

        qemuload_package_end(&s->buf, PING_LOADED);

        struct iovec iov[] = {
                { s->buf.data, head_bytes },
                { state->devices, state->devices_bytes },
                { s->buf.data + head_bytes, s->buf.bytes - head_bytes },
        };

        rc = write_parts(s, iov, ARRAY_SIZE(iov), e);
        if (rc == 0)
                s->phase = PHASE_RUNNING;
        s->origin.load.last_block = 0;
        return rc;
}

static int serve(struct session *s, struct err *e)
{
        return pusher_run(s->pusher, e);
}

/* Before QEMU is told that all is there, for then it waits for us to end; who asks for a zero
 * page meanwhile gets it. */
static int store_recording(struct session *s, struct err *e)
{
        if (!s->recording)
                return 0;
        fetch_hold(s->fetch, true);
        if (!recording_store(s->recording))
                fetch_hold(s->fetch, false);
        return pusher_run(s->pusher, e);
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

static int write_end(struct session *s, struct err *e)
{
        put_end(s);
        qemuload_eof(&s->buf);

        int rc = write_buf(s, e);

        if (rc == 0)
                s->phase = PHASE_ENDED;
        fetch_close(s->fetch);          /* whoever asks now gets zeros from QEMU itself */
        return rc;
}

static int wait_shut(struct session *s, struct err *e)
{
        returnpath_wait_end(s->returns);
        return returnpath_end(s->returns, e) == RETURNPATH_SHUT_OK ? 0 : -ECANCELED;
}

/* ---- recover ------------------------------------------------------------------- */

static int ask_bitmaps(struct session *s, struct err *e)
{
        struct origin *o = &s->origin;

        for (unsigned i = 0; i < o->load.nblocks; i++)
                qemuload_ask_bitmap(&o->load, &s->buf, i);

        int rc = write_buf(s, e);

        if (rc < 0)
                return rc;
        returnpath_wait_bitmaps(s->returns);
        for (unsigned i = 0; i < o->load.nblocks; i++) {
                const uint8_t *bitmap = returnpath_bitmap(s->returns, i);

                if (!bitmap)
                        return err_msg(e, ECANCELED, "QEMU did not say which pages it has");
                recover_mark(&o->pages, i, bitmap);
        }
        return 0;
}

static int resume(struct session *s, struct err *e)
{
        qemuload_command(&s->buf, QEMU_POSTCOPY_RESUME);

        int rc = write_buf(s, e);

        if (rc < 0)
                return rc;
        returnpath_wait_ack(s->returns);
        if (!returnpath_acked(s->returns))
                return err_msg(e, ECANCELED, "QEMU did not go on");
        mark(s, &s->loaded, true);
        return 0;
}

/* ---- the ways ------------------------------------------------------------------ */

struct step {
        const char *name;
        int (*run)(struct session *s, struct err *e);
};

static const struct step plain[] = {
        { "head", write_head }, { "RAM", write_pages }, { "devices", write_devices }, { 0 },
};

static const struct step postcopy[] = {
        { "head", write_head },
        { "RAM ahead of the start", write_ahead },
        { "devices", write_run },
        { "RAM", serve },
        { "working set", store_recording },
        { "end", write_end },
        { "QEMU's answer", wait_shut },
        { 0 },
};

static const struct step recover[] = {
        { "QEMU's map of pages", ask_bitmaps },
        { "QEMU's going on", resume },
        { "RAM", serve },
        { "working set", store_recording },
        { "end", write_end },
        { "QEMU's answer", wait_shut },
        { 0 },
};

/* ---- what went wrong ------------------------------------------------------------- */

#define REMEDY_LOOK "; QEMU's own message may say why"
#define REMEDY_RECOVER \
        "; if QEMU lives, its guest waits (postcopy-paused): 'migrate-recover' with " \
        "'qemu-snapshot --revert --recover' goes on"

static const char *const remedy[] = {
        [PHASE_LOADING] = REMEDY_LOOK, [PHASE_RUNNING] = REMEDY_RECOVER,
        [PHASE_ENDED] = REMEDY_LOOK,
};

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
                       remedy[s->phase]);
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
                mark(s, &s->held, true);
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
