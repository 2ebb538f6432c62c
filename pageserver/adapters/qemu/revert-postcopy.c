/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "common/check.h"
#include "common/rate.h"
#include "pageserver/adapters/qemu/recover.h"
#include "pageserver/adapters/qemu/revert-priv.h"

/* ---- postcopy ------------------------------------------------------------------ */

/* --postcopy=PCT: before anybody discards */
int revert_ahead(struct session *s, struct err *e)
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
int revert_run(struct session *s, struct err *e)
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

        rc = revert_write(s, iov, ARRAY_SIZE(iov), e);
        if (rc == 0)
                s->phase = PHASE_RUNNING;
        s->origin.load.last_block = 0;
        return rc;
}

int revert_serve(struct session *s, struct err *e)
{
        if (s->recording)
                recording_begin(s->recording);
        return pusher_run(s->pusher, e);
}

/* Before QEMU is told that all is there, for then it waits for us to end; who asks for a zero
 * page meanwhile gets it. */
int revert_store(struct session *s, struct err *e)
{
        if (!s->recording)
                return 0;
        fetch_hold(s->fetch, true);
        if (!recording_store(s->recording))
                fetch_hold(s->fetch, false);
        return pusher_run(s->pusher, e);
}

int revert_end(struct session *s, struct err *e)
{
        revert_put_end(s);
        qemuload_eof(&s->buf);

        int rc = revert_write_buf(s, e);

        if (rc == 0)
                s->phase = PHASE_ENDED;
        fetch_close(s->fetch);          /* whoever asks now gets zeros from QEMU itself */
        return rc;
}

int revert_wait_shut(struct session *s, struct err *e)
{
        returnpath_wait_end(s->returns);
        return returnpath_end(s->returns, e) == RETURNPATH_SHUT_OK ? 0 : -ECANCELED;
}

/* ---- recover ------------------------------------------------------------------- */

int revert_ask_bitmaps(struct session *s, struct err *e)
{
        struct origin *o = &s->origin;

        for (unsigned i = 0; i < o->load.nblocks; i++)
                qemuload_ask_bitmap(&o->load, &s->buf, i);

        int rc = revert_write_buf(s, e);

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

int revert_resume(struct session *s, struct err *e)
{
        qemuload_command(&s->buf, QEMU_POSTCOPY_RESUME);

        int rc = revert_write_buf(s, e);

        if (rc < 0)
                return rc;
        returnpath_wait_ack(s->returns);
        if (!returnpath_acked(s->returns))
                return err_msg(e, ECANCELED, "QEMU did not go on");
        revert_mark(s, &s->loaded, true);
        return 0;
}
