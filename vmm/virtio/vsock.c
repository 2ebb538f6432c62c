/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * All runs on the device's loop. Whatever happens (a kick, a socket that is readable, a client)
 * ends in work(): it hears the guest's packets, each done at once, then tells the guest what is
 * new, as long as there are buffers; both a bounded number before the loop may look at other
 * things. No request of the guest's is kept, so there is nothing to drain: work() does nothing
 * while the device stands still (INV-STILL). Host clients may come, and hosts take what the
 * guest sent before.
 *
 * A guest that goes on from a saved state has streams that we have not. It is told so, by an
 * event, and until it has given that buffer back nothing is heard or told, for the driver
 * might take a new stream for an old one and reset it too (INV-RESET). With event indices it
 * would not kick for that buffer while there are others, so we look.
 */
#include "vmm/virtio/vsock.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/virtio/loop.h"
#include "vmm/virtio/vsock-mux.h"
#include "vmm/virtio/vsock-packet.h"

enum queue { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUES };

/* Linux's driver uses all it can of rings up to 128, and keeps rx full of 4 KiB pages. */
#define QUEUE_SIZE 128
/* of each direction in one turn, before the loop looks at its other events */
#define TURN_PACKETS 64
/* The driver takes an event as soon as its interrupt; a vCPU may have to wait for pages. */
#define RESET_NS NS_PER_SEC
#define RESET_LOOK_NS NS_PER_MS

/* RESET_NONE  streams are what both sides think
 * RESET_TELL  the event waits for a buffer
 * RESET_WAIT  the event is with the guest: until it gives a buffer, or RESET_NS is over */
enum reset { RESET_NONE, RESET_TELL, RESET_WAIT };

struct vsock {
        struct virtio_device dev;
        /* constant */
        uint32_t cid;
        struct vsock_mux *mux;

        /* set by apply, while nothing else runs; taken when the device goes on */
        bool forget;

        /* the loop's thread */
        bool runs;
        struct virtio_watch *again;             /* work() */
        enum reset reset;
        uint64_t reset_deadline_ns;
        uint16_t event_buffers;                 /* index of them when the event was told */
};

static void broken(struct vsock *v, const struct err *why)
{
        v->runs = false;
        virtio_device_broken(&v->dev, why);
}

/* ---- packets ------------------------------------------------------------------------ */

/* true: there may be more */
static bool hear_guest(struct vsock *v)
{
        struct virtqueue *q = &v->dev.queue[QUEUE_TX];
        struct vq_chain request;
        unsigned n = 0;
        struct err e;
        int rc = 1;

        while (n < TURN_PACKETS && (rc = vq_pop(q, &request, &e)) > 0) {
                vsock_mux_hear(v->mux, &request);
                vq_push(q, request.head, 0);
                n++;
        }
        if (n > 0)
                virtio_signal(&v->dev, QUEUE_TX);
        if (rc < 0)
                broken(v, &e);
        return rc > 0;
}

/* 1: told; 0: there is nothing to tell, or no buffer for it, and rx will be kicked */
static int tell_one(struct vsock *v, struct err *e)
{
        struct virtqueue *q = &v->dev.queue[QUEUE_RX];
        uint8_t header[VSOCK_HEADER_BYTES];
        struct vq_chain request;
        struct vsock_packet p;

        if (!vsock_mux_has_news(v->mux))
                return 0;

        int rc = vq_pop(q, &request, e);

        if (rc <= 0)
                return rc;
        if (request.in_bytes <= VSOCK_HEADER_BYTES)
                return err_msg(e, EBADMSG, "the guest gave a buffer of %zu bytes, which is no room "
                               "for a packet", request.in_bytes);
        if (!vsock_mux_say(v->mux, &request, &p)) {
                vq_unpop(q);
                return 0;
        }
        vsock_packet_encode(&p, header);
        vq_write(&request, 0, header, sizeof(header));
        vq_push(q, request.head, VSOCK_HEADER_BYTES + p.len);
        return 1;
}

/* true: there may be more */
static bool tell_guest(struct vsock *v)
{
        unsigned n = 0;
        struct err e;
        int rc = 1;

        while (n < TURN_PACKETS && (rc = tell_one(v, &e)) > 0)
                n++;
        if (n > 0)
                virtio_signal(&v->dev, QUEUE_RX);
        if (rc < 0)
                broken(v, &e);
        return rc > 0;
}

/* ---- INV-RESET ---------------------------------------------------------------------- */

static uint16_t event_buffers(const struct vsock *v)
{
        return __atomic_load_n(&v->dev.queue[QUEUE_EVENT].avail->idx, __ATOMIC_ACQUIRE);
}

static int tell_reset(struct vsock *v, struct err *e)
{
        struct virtqueue *q = &v->dev.queue[QUEUE_EVENT];
        const struct virtio_vsock_event event = {
                .id = htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET),
        };
        struct vq_chain request;
        int rc = vq_pop(q, &request, e);

        if (rc <= 0)
                return rc;
        if (vq_write(&request, 0, &event, sizeof(event)) != sizeof(event))
                return err_msg(e, EBADMSG, "the guest gave a buffer of %zu bytes, which is no room "
                               "for an event", request.in_bytes);
        v->event_buffers = event_buffers(v);
        v->reset = RESET_WAIT;
        vq_push(q, request.head, sizeof(event));
        virtio_signal(&v->dev, QUEUE_EVENT);
        return 0;
}

/* Whether packets may go on; else we look again soon. */
static bool reset_is_over(struct vsock *v)
{
        struct err e;

        if (v->reset == RESET_TELL && tell_reset(v, &e) < 0) {
                broken(v, &e);
                return false;
        }
        if ((v->reset == RESET_WAIT && event_buffers(v) != v->event_buffers) ||
            (v->reset != RESET_NONE && clock_now_ns() >= v->reset_deadline_ns))
                v->reset = RESET_NONE;
        if (v->reset != RESET_NONE)
                virtio_watch_after(v->again, RESET_LOOK_NS);
        return v->reset == RESET_NONE;
}

/* ---- what happens --------------------------------------------------------------------- */

static void work(struct vsock *v)
{
        if (!v->runs || !reset_is_over(v))              /* INV-STILL */
                return;

        bool more = hear_guest(v);

        if (v->runs && tell_guest(v))
                more = true;
        if (v->runs && more)
                virtio_watch_after(v->again, 0);
}

static void on_work(void *ctx)
{
        work(ctx);
}

/* ---- the class ---------------------------------------------------------------------------- */

static void go_on(struct vsock *v)
{
        if (v->forget) {
                vsock_mux_forget(v->mux);
                v->forget = false;
                v->reset = RESET_TELL;
        }
        v->reset_deadline_ns = clock_now_ns() + RESET_NS;
        vsock_mux_guest_runs(v->mux, true);
        v->runs = true;
}

static int vsock_start(struct virtio_device *dev, struct err *e)
{
        struct vsock *v = (struct vsock *)dev;
        int rc = virtio_watch_timer(dev->loop, on_work, v, &v->again, e);

        if (rc == 0)
                rc = vsock_mux_start(v->mux, dev->loop, e);
        if (rc < 0) {
                virtio_watch_free(v->again);
                v->again = NULL;
                return rc;
        }
        go_on(v);
        return 0;
}

static void vsock_stop(struct virtio_device *dev)
{
        struct vsock *v = (struct vsock *)dev;

        v->runs = false;
        v->reset = RESET_NONE;
        vsock_mux_stop(v->mux);
        virtio_watch_free(v->again);
        v->again = NULL;
}

static void vsock_kick(struct virtio_device *dev, unsigned queue)
{
        (void)queue;
        work((struct vsock *)dev);
}

static void vsock_drain(struct virtio_device *dev)
{
        struct vsock *v = (struct vsock *)dev;

        v->runs = false;
        virtio_watch_off(v->again);
        vsock_mux_guest_runs(v->mux, false);
}

static void vsock_resume(struct virtio_device *dev)
{
        go_on((struct vsock *)dev);
}

static void config_put(struct vsock *v, uint8_t config[sizeof(struct virtio_vsock_config)])
{
        put_le64(config, v->cid);
}

/* The guest goes on from another moment: its streams are not ours. Its cid may be another one
 * than it was saved with; the event has the driver look. */
static int vsock_apply(struct virtio_device *dev, const void *state, struct err *e)
{
        struct vsock *v = (struct vsock *)dev;
        uint8_t config[sizeof(struct virtio_vsock_config)];

        (void)state, (void)e;
        config_put(v, config);
        virtio_config_set(dev, 0, config, sizeof(config));
        v->forget = true;
        return 0;
}

static void vsock_free(struct virtio_device *dev)
{
        struct vsock *v = (struct vsock *)dev;

        vsock_mux_free(v->mux);
        lock_fini(&dev->lock);
        free(v);
}

static void vsock_describe(struct virtio_device *dev, struct json_object *o)
{
        struct vsock_mux_stats s;

        vsock_mux_stats(((struct vsock *)dev)->mux, &s);
        json_put_u64(o, "connections", s.connections);
        json_put_u64(o, "opened", s.opened);
        json_put_u64(o, "refused", s.refused);
        json_put_u64(o, "to_guest_bytes", s.to_guest_bytes);
        json_put_u64(o, "to_host_bytes", s.to_host_bytes);
}

static const struct virtio_class vsock_class = {
        .kind = "vsock", .id = VIRTIO_ID_VSOCK, .nqueues = QUEUES, .queue_size = QUEUE_SIZE,
        .start = vsock_start, .kick = vsock_kick, .drain = vsock_drain, .resume = vsock_resume,
        .stop = vsock_stop, .apply = vsock_apply,
        .describe = vsock_describe, .free = vsock_free,
};

/* Nobody else has it yet. */
static void init(struct vsock *v, const struct virtio_vsock_options *o) NO_TSA
{
        v->dev.class = &vsock_class;
        lock_init(&v->dev.lock);
        snprintf(v->dev.name, sizeof(v->dev.name), "%s", o->name);
        v->cid = o->cid;
        v->dev.config_bytes = sizeof(struct virtio_vsock_config);
        config_put(v, v->dev.config);
}

int virtio_vsock_new(const struct virtio_vsock_options *o, struct virtio_device **ret,
                     struct err *e)
{
        if (o->cid < VSOCK_CID_MIN || o->cid > VSOCK_CID_MAX)
                return err_msg(e, EINVAL, "a guest's vsock CID is %u to %u, not %u: choose another "
                               "(--vsock PATH,cid=N)", VSOCK_CID_MIN, VSOCK_CID_MAX, o->cid);

        struct vsock *v = calloc(1, sizeof(*v));

        if (!v)
                return err_msg(e, ENOMEM, "no memory for the device '%s'", o->name);

        const struct vsock_mux_ops ops = { .news = on_work, .ctx = v };
        int rc = vsock_mux_new(o->cid, o->path, &ops, &v->mux, e);

        if (rc < 0) {
                free(v);
                return rc;
        }
        init(v, o);
        *ret = &v->dev;
        return 0;
}
