/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/saver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/wire/qemurp.h"
#include "common/wire/qemusave.h"
#include "common/wire/qemutail.h"
#include "pageserver/adapters/qemu/imager.h"

/* Theory of operation
 *
 * A window over the input; qemusave says what is in it; pages go to the imager, the rest
 * is kept. From the first device on all input is the tail, which has no end of its own:
 * QEMU closes, or, if it opened a return path, waits for our answer without closing.
 *
 * INV-DRAIN: an error only makes the save fail: the input is read to its end. QEMU that
 * saves a running guest in the background leaves a virtual CPU hanging for ever when its
 * stream breaks, even if not a byte of it was read: pages are protected before the pipe
 * is full. Only a stream with a return path may be broken: QEMU does not take live
 * snapshots with one, and resumes the guest.
 *
 * INV-NOHALF: the image is published only when every page of every block came, the tail
 * has its end, and all is durable. */

/* what a pipe gives at once, behind what the parser may leave */
#define WINDOW_BYTES ((1u << 20) + QEMUSAVE_WINDOW_MIN)
/* A pipe must hold what QEMU sends, at 2 GB/s, in the time that it is left alone for. */
#define GATHER_NS 300000
#define GATHER_BYTES (256 << 10)
#define GATHER_ROOM (768 << 10)
/* A tail without description may end at any byte that looks like it: then silence decides.
 * QEMU pauses within its device state for less than that. */
#define SILENCE_MS 1000
/* of what nobody wants */
#define DRAIN_BYTES (64u << 10)

struct saver {
        const struct save_options *options;
        struct transport *transport;
        struct status *status;
        const struct saver_hooks *hooks;
        struct qemusave *parser;
        struct imager *imager;          /* from the blocks on */
        uint8_t *window;
        size_t bytes;                   /* in it */
        uint64_t read_bytes;            /* in all */
        uint8_t *head;
        size_t head_bytes;
        bool in_tail;
        uint8_t *tail;
        size_t tail_bytes, tail_room;
        struct qemutail at;             /* of a tail that has its end */
        bool return_path;
        bool gathers;                   /* the input has room for it */
        bool ended;                     /* there is no more input */
};

/* ---- input --------------------------------------------------------------- */

static ssize_t read_some(struct saver *s, void *to, size_t bytes)
{
        ssize_t n;

        do
                n = read(s->transport->in, to, bytes);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                s->ended = true;
        else
                s->read_bytes += (size_t)n;
        if (s->status)
                status_set(s->status, STATUS_READING, s->read_bytes);
        return n;
}

/* Live snapshots are written page by page, and each wakes who waits for it. Where there is
 * room for more, many are let come together: that spares both sides most of their switches. */
static void let_gather(const struct saver *s, ssize_t n)
{
        static const struct timespec while_ = { .tv_nsec = GATHER_NS };

        if (s->gathers && n < GATHER_BYTES)
                nanosleep(&while_, NULL);
}

/* INV-DRAIN. A QEMU that has a return path of which we could not read learns of it there,
 * instead of waiting for an answer behind its last byte. */
static void drain(struct saver *s)
{
        uint8_t buf[DRAIN_BYTES];

        transport_end(s->transport);
        while (!s->ended)
                read_some(s, buf, sizeof(buf));
}

static bool is_quiet(const struct saver *s, int wait_ms)
{
        struct pollfd p = { .fd = s->transport->in, .events = POLLIN };

        return poll(&p, 1, wait_ms) == 0;
}

/* ---- what the stream says ------------------------------------------------ */

static int keep_head(struct saver *s, const struct qemusave_item *item, struct err *e)
{
        s->head = malloc(item->bytes);
        if (!s->head)
                return err_set(e, ENOMEM, "keep the head of the stream");
        memcpy(s->head, item->data, item->bytes);
        s->head_bytes = item->bytes;
        return 0;
}

static void note_return_path(struct saver *s)
{
        s->return_path = true;
        s->hooks->return_path(s->hooks->ctx);
}

static int take_item(struct saver *s, const struct qemusave_item *item, struct err *e)
{
        switch (item->event) {
        case QEMUSAVE_HEAD:
                return keep_head(s, item, e);
        case QEMUSAVE_BLOCKS:
                return imager_new(s->options, s->parser, s->head, s->head_bytes, &s->imager, e);
        case QEMUSAVE_PAGE:
                return imager_page(s->imager, item->block, item->offset, item->data);
        case QEMUSAVE_ZERO:
                return imager_zeros(s->imager, item->block, item->offset, item->bytes);
        case QEMUSAVE_RETURN_PATH:
                note_return_path(s);
                return 0;
        case QEMUSAVE_DEVICES:
                s->in_tail = true;
                return imager_end(s->imager, e);
        case QEMUSAVE_PING:             /* QEMU does not wait for a PONG */
        case QEMUSAVE_MORE:
                break;
        }
        return 0;
}

/* All that is whole in the window; the rest goes to its beginning. */
static int parse(struct saver *s, struct err *e)
{
        struct qemusave_item item = { .event = QEMUSAVE_HEAD };
        size_t at = 0;
        int rc = 0;

        while (rc == 0 && !s->in_tail && item.event != QEMUSAVE_MORE) {
                size_t used;

                rc = qemusave_next(s->parser, s->window + at, s->bytes - at, &used, &item, e);
                if (rc < 0)
                        return rc;
                rc = take_item(s, &item, e);
                at += used;
        }
        s->bytes -= at;
        memmove(s->window, s->window + at, s->bytes);
        return rc;
}

static int read_ram(struct saver *s, struct err *e)
{
        int rc = 0;

        while (rc == 0 && !s->in_tail) {
                ssize_t n = read_some(s, s->window + s->bytes, WINDOW_BYTES - s->bytes);

                if (n < 0)
                        return err_set(e, errno, "read the stream of QEMU");
                if (n == 0)
                        return qemusave_cut(s->parser, e);
                s->bytes += (size_t)n;
                rc = parse(s, e);
                let_gather(s, n);
        }
        return rc;
}

/* ---- the tail ------------------------------------------------------------ */

static int grow_tail(struct saver *s, struct err *e)
{
        size_t room = MAX(2 * s->tail_room, (size_t)WINDOW_BYTES);
        uint8_t *tail;

        if (s->tail_room >= QEMUTAIL_BYTES_MAX)
                return err_msg(e, EFBIG, "the state of the devices has more than %u MiB",
                               QEMUTAIL_BYTES_MAX >> 20);
        tail = realloc(s->tail, room);
        if (!tail)
                return err_set(e, ENOMEM, "keep the state of the devices");
        s->tail = tail;
        s->tail_room = room;
        return 0;
}

static enum qemutail_end split(struct saver *s)
{
        bool footers = qemusave_ram(s->parser).footers;

        return qemutail_split(s->tail, s->tail_bytes, footers, &s->at);
}

/* Does QEMU wait for an answer now? */
static bool is_complete(struct saver *s)
{
        if (!s->return_path || !is_quiet(s, 0))
                return false;
        switch (split(s)) {
        case QEMUTAIL_WHOLE:
                return true;
        case QEMUTAIL_BARE:
                return is_quiet(s, SILENCE_MS);
        default:
                return false;
        }
}

static int read_tail(struct saver *s, struct err *e)
{
        int rc = grow_tail(s, e);

        if (rc < 0)
                return rc;
        memcpy(s->tail, s->window, s->bytes);
        s->tail_bytes = s->bytes;
        while (!is_complete(s)) {
                ssize_t n;

                if (s->tail_bytes == s->tail_room)
                        rc = grow_tail(s, e);
                if (rc < 0)
                        return rc;
                n = read_some(s, s->tail + s->tail_bytes, s->tail_room - s->tail_bytes);
                if (n < 0)
                        return err_set(e, errno, "read the stream of QEMU");
                if (n == 0)
                        return split(s) == QEMUTAIL_OPEN ? qemusave_cut(s->parser, e) : 0;
                s->tail_bytes += (size_t)n;
        }
        return 0;
}

/* ---- all of it ----------------------------------------------------------- */

/* QEMU waits for that; who it is to is gone if it cannot be written. */
static void answer(struct saver *s, uint32_t status)
{
        uint8_t buf[QEMURP_BYTES_MAX];
        size_t n = qemurp_shut(buf, status);

        if (!s->return_path)
                return;
        s->transport->wrote = true;
        io_write_full(s->transport->out, buf, n);
        transport_close(s->transport);
}

static int take_in(struct saver *s, struct err *e)
{
        int rc = read_ram(s, e);

        if (rc == 0)
                rc = read_tail(s, e);
        /* QEMU does not wait for what our threads are in */
        if (rc < 0 && s->imager)
                imager_cancel(s->imager);
        if (rc < 0 && !s->return_path && !s->options->foreground)
                drain(s);
        if (rc < 0 && s->imager)
                rc = imager_stop(s->imager, rc, e);
        if (rc < 0 && !e->code)
                err_set(e, -rc, "save to '%s'", s->options->image);
        if (!s->return_path)
                transport_close(s->transport);
        if (!s->return_path && rc == 0)
                s->hooks->all_read(s->hooks->ctx);
        return rc;
}

static int publish(struct saver *s, struct err *e)
{
        if (s->status)
                status_set(s->status, STATUS_WRITING, s->read_bytes);
        return imager_publish(s->imager, s->parser, s->tail, &s->at, e);
}

static int prepare(struct saver *s)
{
        s->parser = qemusave_new();
        s->window = malloc(WINDOW_BYTES);
        s->gathers = fcntl(s->transport->in, F_GETPIPE_SZ) >= GATHER_ROOM;
        return s->parser && s->window ? 0 : -ENOMEM;
}

static void finish(struct saver *s)
{
        imager_free(s->imager);
        qemusave_free(s->parser);
        free(s->window);
        free(s->head);
        free(s->tail);
}

static int run(struct saver *s, struct err *e)
{
        int rc = take_in(s, e);

        if (rc == 0)
                rc = publish(s, e);
        answer(s, rc < 0);
        return rc;
}

int saver_run(const struct save_options *o, struct transport *t, struct status *status,
              const struct saver_hooks *hooks, struct err *e)
{
        struct saver s = { .options = o, .transport = t, .status = status, .hooks = hooks };
        struct err why = { 0 };         /* imager_stop() needs one */
        int rc = prepare(&s);

        if (rc == 0)
                rc = run(&s, &why);
        else if (!o->foreground)
                drain(&s);
        if (rc < 0 && !why.code)
                err_set(&why, -rc, "save to '%s'", o->image);
        if (rc < 0)
                hooks->failed(hooks->ctx, &why);
        finish(&s);
        if (rc < 0 && e)
                *e = why;
        return rc;
}

/* ---- refusing ------------------------------------------------------------ */

static void nothing(void *ctx)
{
        (void)ctx;
}

static void no_failure(void *ctx, const struct err *why)
{
        (void)ctx;
        (void)why;
}

const struct saver_hooks saver_no_hooks = { nothing, nothing, no_failure, NULL };

static bool is_stream(int fd)
{
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/* Whether a stream of QEMU's comes, which has a return path before the blocks, if at all. */
static bool look_into(struct saver *s)
{
        struct qemusave_item item = { .event = QEMUSAVE_MORE };
        bool known = false;

        while (item.event != QEMUSAVE_BLOCKS && !s->return_path) {
                size_t used;

                int rc = qemusave_next(s->parser, s->window, s->bytes, &used, &item, NULL);

                if (rc < 0)
                        return known || rc == -ENOTSUP;
                known |= item.event == QEMUSAVE_HEAD;
                s->bytes -= used;
                memmove(s->window, s->window + used, s->bytes);
                if (item.event == QEMUSAVE_RETURN_PATH)
                        note_return_path(s);
                if (item.event != QEMUSAVE_MORE)
                        continue;

                ssize_t n = read_some(s, s->window + s->bytes, WINDOW_BYTES - s->bytes);

                if (n <= 0)
                        return false;
                s->bytes += (size_t)n;
        }
        return true;
}

/* Where standard output goes says nothing: "exec:exec qemu-snapshot ... >log" is QEMU's too. */
void saver_refuse(struct transport *t)
{
        struct saver s = { .transport = t, .hooks = &saver_no_hooks };

        if (!is_stream(t->in))
                return;
        if (prepare(&s) < 0 || look_into(&s)) {
                if (!s.return_path)
                        drain(&s);
                answer(&s, 1);
        }
        finish(&s);
}
