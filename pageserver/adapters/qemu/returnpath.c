/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/returnpath.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/lock.h"

/* Some hundred requests, or a piece of a bitmap. */
#define WINDOW_BYTES 65536u
static_assert(WINDOW_BYTES >= 2 * QEMURP_BYTES_MAX, "a message fits what is read");

struct bitmap {
        uint8_t *data;                  /* mapped; NULL = nothing came */
        size_t bytes;
        bool whole;
};

struct returnpath {
        /* constant */
        int fd;
        const struct returnpath_ops *ops;
        void *ctx;
        unsigned nblocks;
        pthread_t thread;
        bool started;
        int stop_fd;                    /* an eventfd */
        /* the thread's; the bitmaps everybody's once all are whole */
        struct qemurp parser;
        uint8_t window[WINDOW_BYTES];
        struct bitmap *bitmap;
        unsigned bitmaps_left;

        struct lock lock;
        struct cond changed;
        enum returnpath_end end GUARDED_BY(lock);
        bool bitmaps_whole GUARDED_BY(lock);
        bool acked GUARDED_BY(lock);
        struct err err GUARDED_BY(lock);
};

/* ---- what was said ----------------------------------------------------------- */

static void note(struct returnpath *r, bool *what)
{
        lock_acquire(&r->lock);
        *what = true;
        cond_broadcast(&r->changed);
        lock_release(&r->lock);
}

static int take_bitmap(struct returnpath *r, const struct qemurp_item *m, struct err *e)
{
        struct bitmap *b = &r->bitmap[m->block];

        if (!b->data) {
                size_t bytes = qemurp_bitmap_bytes(r->parser.blocks[m->block].bytes,
                                                   r->parser.page_bytes);
                void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

                if (p == MAP_FAILED)
                        return err_msg(e, ENOMEM, "no memory for QEMU's map of pages");
                b->data = p;
                b->bytes = bytes;
        }
        if (b->whole)
                return err_msg(e, EBADMSG, "QEMU sends its map of block '%s' twice",
                               r->parser.blocks[m->block].name);
        ASSERT(m->bitmap_at + m->bytes <= b->bytes);    /* the parser's promise */
        memcpy(b->data + m->bitmap_at, m->data, m->bytes);
        return 0;
}

static void end_bitmap(struct returnpath *r, unsigned block)
{
        struct bitmap *b = &r->bitmap[block];

        if (b->whole)
                return;
        b->whole = true;
        if (--r->bitmaps_left == 0)
                note(r, &r->bitmaps_whole);
}

/* One message. *ret_end: nothing follows it. */
static int take(struct returnpath *r, const struct qemurp_item *m, enum returnpath_end *ret_end,
                struct err *e)
{
        switch (m->type) {
        case QEMURP_REQUEST:
                r->ops->request(r->ctx, m->block, m->offset, m->bytes);
                return 0;
        case QEMURP_PONG:
                r->ops->pong(r->ctx, m->value);
                return 0;
        case QEMURP_SHUT:
                *ret_end = m->value ? RETURNPATH_SHUT_BAD : RETURNPATH_SHUT_OK;
                return 0;
        case QEMURP_BITMAP:
                return take_bitmap(r, m, e);
        case QEMURP_BITMAP_END:
                end_bitmap(r, m->block);
                return 0;
        case QEMURP_RESUME_ACK:
                note(r, &r->acked);
                return 0;
        case QEMURP_SWITCHOVER_ACK:
        case QEMURP_MORE:
                return 0;
        }
        return 0;
}

/* ---- the thread -------------------------------------------------------------- */

/* *ret_n bytes more behind what is there; 0 = QEMU has gone, or the thread is to end. */
static int fill(struct returnpath *r, size_t have, size_t *ret_n, struct err *e)
{
        struct pollfd p[] = {
                { .fd = r->fd, .events = POLLIN },
                { .fd = r->stop_fd, .events = POLLIN },
        };

        for (;;) {
                int n = poll(p, ARRAY_SIZE(p), -1);

                if (n < 0 && errno != EINTR)
                        return err_set(e, errno, "wait for QEMU");
                if (n < 0)
                        continue;
                *ret_n = 0;
                if (p[1].revents)
                        return 0;

                ssize_t got = read(r->fd, r->window + have, sizeof(r->window) - have);

                if (got < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (got < 0 && errno != ECONNRESET)
                        return err_set(e, errno, "read from QEMU");
                *ret_n = got > 0 ? (size_t)got : 0;
                return 0;
        }
}

/* All whole messages of the window. *ret_left bytes of the last one move to its front. */
static int parse(struct returnpath *r, size_t have, size_t *ret_left, enum returnpath_end *ret_end,
                 struct err *e)
{
        size_t at = 0;

        while (*ret_end == RETURNPATH_OPEN) {
                struct qemurp_item m;
                size_t used = 0;
                int rc = qemurp_next(&r->parser, r->window + at, have - at, &used, &m, e);

                at += used;
                if (rc == 0 && m.type == QEMURP_MORE)
                        break;
                if (rc == 0)
                        rc = take(r, &m, ret_end, e);
                if (rc < 0)
                        return rc;
        }
        memmove(r->window, r->window + at, have - at);
        *ret_left = have - at;
        return 0;
}

static enum returnpath_end run(struct returnpath *r, struct err *e)
{
        enum returnpath_end end = RETURNPATH_OPEN;
        size_t have = 0, got = 0;

        while (end == RETURNPATH_OPEN) {
                int rc = fill(r, have, &got, e);

                if (rc == 0 && got == 0)
                        return RETURNPATH_GONE;
                if (rc == 0)
                        rc = parse(r, have + got, &have, &end, e);
                if (rc < 0)
                        return RETURNPATH_BROKEN;
        }
        return end;
}

static void *returnpath_main(void *ctx)
{
        struct returnpath *r = ctx;
        struct err e = { 0 };
        enum returnpath_end end = run(r, &e);

        lock_acquire(&r->lock);
        r->end = end;
        r->err = e;
        cond_broadcast(&r->changed);
        lock_release(&r->lock);
        r->ops->ended(r->ctx);
        return NULL;
}

/* ---- life -------------------------------------------------------------------- */

int returnpath_new(int fd, const struct qemu_ramblock *blocks, unsigned nblocks,
                   uint32_t page_bytes, const struct returnpath_ops *ops, void *ctx,
                   struct returnpath **ret, struct err *e)
{
        struct returnpath *r = calloc(1, sizeof(*r));

        if (!r)
                return err_msg(e, ENOMEM, "no memory for the return path");
        *r = (struct returnpath){
                .fd = fd, .ops = ops, .ctx = ctx, .nblocks = nblocks, .bitmaps_left = nblocks,
                .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                .bitmap = calloc(nblocks, sizeof(*r->bitmap)),
                .parser = { .blocks = blocks, .nblocks = nblocks, .page_bytes = page_bytes },
        };
        lock_init(&r->lock);
        cond_init(&r->changed);

        int rc = r->stop_fd < 0 ? errno : r->bitmap ? 0 : ENOMEM;

        if (rc == 0)
                rc = pthread_create(&r->thread, NULL, returnpath_main, r);
        if (rc) {
                returnpath_free(r);
                return err_set(e, rc, "start a thread to read what QEMU says");
        }
        r->started = true;
        *ret = r;
        return 0;
}

void returnpath_free(struct returnpath *r)
{
        if (!r)
                return;
        if (r->started) {
                eventfd_write(r->stop_fd, 1);
                pthread_join(r->thread, NULL);
        }
        for (unsigned i = 0; r->bitmap && i < r->nblocks; i++) {
                if (r->bitmap[i].data)
                        munmap(r->bitmap[i].data, r->bitmap[i].bytes);
        }
        free(r->bitmap);
        fd_close(&r->stop_fd);
        cond_fini(&r->changed);
        lock_fini(&r->lock);
        free(r);
}

static void wait_for(struct returnpath *r, const bool *what)
{
        lock_acquire(&r->lock);
        while (r->end == RETURNPATH_OPEN && !(what && *what))
                cond_wait(&r->changed, &r->lock);
        lock_release(&r->lock);
}

void returnpath_wait_bitmaps(struct returnpath *r)
{
        wait_for(r, &r->bitmaps_whole);
}

void returnpath_wait_ack(struct returnpath *r)
{
        wait_for(r, &r->acked);
}

void returnpath_wait_end(struct returnpath *r)
{
        wait_for(r, NULL);
}

enum returnpath_end returnpath_end(struct returnpath *r, struct err *e)
{
        lock_acquire(&r->lock);

        enum returnpath_end end = r->end;

        *e = r->err;
        lock_release(&r->lock);
        return end;
}

const uint8_t *returnpath_bitmap(struct returnpath *r, unsigned block)
{
        lock_acquire(&r->lock);

        bool whole = r->bitmaps_whole;

        lock_release(&r->lock);
        return whole ? r->bitmap[block].data : NULL;
}

bool returnpath_acked(struct returnpath *r)
{
        lock_acquire(&r->lock);

        bool acked = r->acked;

        lock_release(&r->lock);
        return acked;
}
