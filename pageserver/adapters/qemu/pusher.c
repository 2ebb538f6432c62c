/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/pusher.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/adapters/qemu/window.h"

/* The kernel wakes us up 50 us late else, in which QEMU takes a small window and waits. */
#define TIMER_SLACK_NS 1000ul
#define PAGES_MAX (FETCH_BATCH_BYTES / QEMU_PAGE_MIN)

struct pusher {
        struct qemuload *load;
        struct fetch *fetch;
        struct outflow *out;
        struct window window;
        struct fetch_batch batch;
        bool open;                      /* the section */
        struct qemubuf words;
        /* a page each: where its words end in `words`, and its bytes */
        size_t npages;
        size_t words_end[PAGES_MAX];
        const uint8_t *page[PAGES_MAX];
        struct iovec iov[2 * PAGES_MAX + 1];
};

int pusher_new(struct qemuload *load, struct fetch *fetch, struct outflow *out,
               struct pusher **ret, struct err *e)
{
        struct pusher *p = calloc(1, sizeof(*p));

        if (!p)
                return err_msg(e, ENOMEM, "no memory for the stream to QEMU");
        p->load = load;
        p->fetch = fetch;
        p->out = out;
        window_init(&p->window, clock_now_ns());
        *ret = p;
        return 0;
}

void pusher_free(struct pusher *p)
{
        if (!p)
                return;
        qemubuf_fini(&p->words);
        free(p);
}

/* ---- one section --------------------------------------------------------------- */

static void put_piece(struct pusher *p, const struct fetch_piece *x)
{
        uint32_t target = p->load->page_bytes;

        if (!x->data) {
                qemuload_zero(p->load, &p->words, x->block, x->offset, x->bytes);
                return;
        }
        for (uint64_t at = 0; at < x->bytes; at += target) {
                ASSERT(p->npages < PAGES_MAX);
                qemuload_page(p->load, &p->words, x->block, x->offset + at);
                p->words_end[p->npages] = p->words.bytes;
                p->page[p->npages++] = x->data + at;
        }
}

/* words and pages in turn; the buffer of words does not move any more */
static size_t gather(struct pusher *p)
{
        size_t n = 0, from = 0;

        for (size_t i = 0; i < p->npages; i++) {
                p->iov[n++] = (struct iovec){ p->words.data + from, p->words_end[i] - from };
                p->iov[n++] = (struct iovec){ (void *)p->page[i], p->load->page_bytes };
                from = p->words_end[i];
        }
        p->iov[n++] = (struct iovec){ p->words.data + from, p->words.bytes - from };
        return n;
}

/* A section of its own, unless it ends in the middle of a host page: QEMU before 7.0 forgets
 * at the end of a section what it has of one. */
static int write_batch(struct pusher *p, struct err *e)
{
        p->words.bytes = 0;
        p->npages = 0;
        if (!p->open)
                qemuload_section(p->load, &p->words, QEMU_PART);
        for (unsigned i = 0; i < p->batch.n; i++)
                put_piece(p, &p->batch.piece[i]);
        p->open = p->batch.goes_on;
        if (!p->open)
                qemuload_section_end(p->load, &p->words);

        int rc = qemubuf_check(&p->words, e);

        return rc < 0 ? rc : outflow_writev(p->out, p->iov, gather(p), e);
}

/* ---- which --------------------------------------------------------------------- */

/* what the background may write now; else *ret_until_ns says when to ask again */
static uint64_t room(struct pusher *p, uint64_t *ret_until_ns)
{
        *ret_until_ns = FETCH_NEVER;
        return window_room(&p->window, p->out->written_bytes, outflow_queued(p->out),
                           clock_now_ns(), ret_until_ns);
}

int pusher_run(struct pusher *p, struct err *e)
{
        prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
        for (int rc = 0; rc == 0;) {
                uint64_t until_ns;
                uint64_t bytes = room(p, &until_ns);

                switch (fetch_take(p->fetch, bytes, until_ns, &p->batch, e)) {
                case FETCH_BATCH:
                        if (p->batch.requests > 0)
                                window_request(&p->window, clock_now_ns());
                        rc = write_batch(p, e);
                        if (rc < 0)
                                return rc;
                        break;
                case FETCH_WAITED:
                        break;
                case FETCH_DONE:
                        return 0;
                case FETCH_CLOSED:
                        return err_msg(e, ECANCELED, "QEMU has ended the conversation");
                case FETCH_FAILED:
                        return e->code;
                }
        }
        return 0;
}
