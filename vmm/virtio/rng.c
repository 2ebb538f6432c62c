/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/check.h"

/* Requests are answered where they are taken, so there is never one in flight, and nothing
 * to drain. How many come at a time the size of the ring bounds: a guest that adds more
 * meanwhile has vCPUs that run, and those stand still when the device is to. */
#define RNG_QUEUE 0
#define RNG_QUEUE_SIZE 64

static int rng_start(struct virtio_device *dev, struct err *e)
{
        (void)dev;
        (void)e;
        return 0;
}

static void rng_nothing(struct virtio_device *dev)
{
        (void)dev;
}

static void rng_free(struct virtio_device *dev)
{
        lock_fini(&dev->lock);
        free(dev);
}

/* getrandom() may stop early for a signal. */
static int fill(const struct iovec *piece, struct err *e)
{
        uint8_t *to = piece->iov_base;
        size_t left = piece->iov_len;

        while (left > 0) {
                ssize_t n = getrandom(to, left, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_set(e, errno, "get random bytes of the host for the guest");
                to += n;
                left -= (size_t)n;
        }
        return 0;
}

static int answer(struct virtqueue *q, const struct vq_chain *c, struct err *e)
{
        struct iovec pieces[VQ_IOV_MAX];
        size_t bytes = MIN(c->in_bytes, VIRTIO_RNG_REQUEST_BYTES_MAX);
        unsigned n = vq_in_pieces(c, 0, bytes, pieces, VQ_IOV_MAX);

        for (unsigned i = 0; i < n; i++) {
                int rc = fill(&pieces[i], e);

                if (rc < 0)
                        return rc;
        }
        vq_push(q, c->head, (uint32_t)bytes);
        return 0;
}

/* 0: none are left */
static int answer_all(struct virtqueue *q, struct err *e)
{
        struct vq_chain c;
        int rc;

        while ((rc = vq_pop(q, &c, e)) > 0) {
                rc = answer(q, &c, e);
                if (rc < 0)
                        return rc;
        }
        return rc;
}

static void rng_kick(struct virtio_device *dev, unsigned queue)
{
        struct virtqueue *q = &dev->queue[queue];
        struct err e;
        int rc;

        do {
                vq_kicks_off(q);
                rc = answer_all(q, &e);
        } while (rc == 0 && vq_kicks_on(q));
        if (rc < 0)
                virtio_device_broken(dev, &e);
        else
                virtio_signal(dev, queue);
}

static const struct virtio_class rng_class = {
        .kind = "rng", .id = VIRTIO_ID_RNG, .nqueues = 1, .queue_size = RNG_QUEUE_SIZE,
        .start = rng_start, .kick = rng_kick, .drain = rng_nothing, .resume = rng_nothing,
        .stop = rng_nothing, .free = rng_free,
};

int virtio_rng_new(const char *name, struct virtio_device **ret, struct err *e)
{
        struct virtio_device *dev = calloc(1, sizeof(*dev));

        if (!dev)
                return err_msg(e, ENOMEM, "no memory for the device '%s'", name);
        lock_init(&dev->lock);
        dev->class = &rng_class;
        snprintf(dev->name, sizeof(dev->name), "%s", name);
        *ret = dev;
        return 0;
}
