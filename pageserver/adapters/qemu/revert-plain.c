/* SPDX-License-Identifier: Apache-2.0 */
#include "common/check.h"
#include "pageserver/adapters/qemu/revert-priv.h"

/* ---- writing ------------------------------------------------------------------- */

int revert_write(struct session *s, struct iovec *iov, size_t n, struct err *e)
{
        int rc = qemubuf_check(&s->buf, e);

        if (rc < 0)
                return rc;
        s->transport->wrote = true;
        rc = outflow_writev(&s->out, iov, n, e);
        s->buf.bytes = 0;
        return rc;
}

int revert_write_buf(struct session *s, struct err *e)
{
        struct iovec iov = { s->buf.data, s->buf.bytes };

        return revert_write(s, &iov, 1, e);
}

/* up to the list of RAM blocks */
int revert_head(struct session *s, struct err *e)
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

        return revert_write(s, iov, ARRAY_SIZE(iov), e);
}

void revert_put_end(struct session *s)
{
        qemuload_section(&s->origin.load, &s->buf, QEMU_END);
        qemuload_section_end(&s->origin.load, &s->buf);
}

/* ---- plain --------------------------------------------------------------------- */

int revert_all_pages(struct session *s, struct err *e)
{
        fetch_go(s->fetch, FETCH_NEVER);
        return pusher_run(s->pusher, e);
}

int revert_devices(struct session *s, struct err *e)
{
        const struct qemu_state *state = &s->origin.state;

        revert_put_end(s);

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

        return revert_write(s, iov, ARRAY_SIZE(iov), e);
}
