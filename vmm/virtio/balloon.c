/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "common/size.h"

/* Theory of operation
 *
 * Requests are answered where they are taken: none is ever in flight. Deflating needs nothing
 * of us, for a page that was given back comes again when it is touched.
 *
 * Queues that do not exist have no number (so do all drivers and devices count, whatever virtio
 * 1.2 says in 5.5.2): there is no statsq and no free_page_vq, and reporting_vq is the third.
 *
 * Used lengths are 0, also of reported pages: nothing is said to have been written there, zeros
 * neither.
 */
enum balloon_queue { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_REPORTING, QUEUES };

#define BALLOON_QUEUE_SIZE 128
#define PAGE_BYTES (1u << VIRTIO_BALLOON_PFN_SHIFT)
/* of one request. Linux sends 256 at a time; what is more is not given back. */
#define PFNS_MAX 1024

#define CONFIG_TARGET offsetof(struct virtio_balloon_config, num_pages)
#define CONFIG_ACTUAL offsetof(struct virtio_balloon_config, actual)
/* the fields behind are those of features that are not offered */
#define CONFIG_BYTES 8
static_assert(CONFIG_TARGET == 0 && CONFIG_ACTUAL == 4, "the device's configuration is fixed");

struct balloon {
        struct virtio_device dev;
        struct giveback *giveback;
        uint32_t target_pages           GUARDED_BY(dev.lock);   /* config may be overwritten */
        uint32_t pfn[PFNS_MAX];         /* the device's thread */
};

static struct balloon *balloon_of(struct virtio_device *dev)
{
        return (struct balloon *)dev;
}

/* ---- requests -------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a;
        uint32_t y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

/* Pages that lie behind each other go together: less work for the kernel, which may free a
 * huge page as a whole. Linux counts down. */
static void give_back_pfns(struct balloon *b, size_t n)
{
        qsort(b->pfn, n, sizeof(b->pfn[0]), by_number);
        for (size_t from = 0, to; from < n; from = to) {
                for (to = from + 1; to < n && b->pfn[to] - b->pfn[to - 1] <= 1; to++)
                        ;
                giveback_pages(b->giveback, (uint64_t)b->pfn[from] * PAGE_BYTES,
                               ((uint64_t)b->pfn[to - 1] - b->pfn[from] + 1) * PAGE_BYTES);
        }
}

static void inflate(struct balloon *b, const struct vq_chain *c)
{
        size_t bytes = vq_read(c, 0, b->pfn, sizeof(b->pfn));
        size_t n = bytes / sizeof(b->pfn[0]);

        for (size_t i = 0; i < n; i++)
                b->pfn[i] = le32toh(b->pfn[i]);
        give_back_pfns(b, n);
}

static void deflate(struct balloon *b, const struct vq_chain *c)
{
        (void)b;
        (void)c;
}

/* of what vq_pop() found to be in RAM */
static uint64_t gpa_of(const struct ram *ram, const void *hva)
{
        unsigned i = 0;

        while ((uintptr_t)hva - (uintptr_t)ram->slots[i].hva >= ram->slots[i].bytes)
                ASSERT(++i < ram->nslots);
        return ram->slots[i].gpa + ((uintptr_t)hva - (uintptr_t)ram->slots[i].hva);
}

/* The pages are the request's buffers themselves. */
static void report(struct balloon *b, const struct vq_chain *c)
{
        for (unsigned i = c->nout; i < c->nout + c->nin; i++)
                giveback_pages(b->giveback, gpa_of(b->dev.ram, c->iov[i].iov_base),
                               c->iov[i].iov_len);
}

static void (*const answer[QUEUES])(struct balloon *b, const struct vq_chain *c) = {
        [QUEUE_INFLATE] = inflate,
        [QUEUE_DEFLATE] = deflate,
        [QUEUE_REPORTING] = report,
};

/* 0: none are left */
static int answer_all(struct balloon *b, unsigned queue, struct err *e)
{
        struct virtqueue *q = &b->dev.queue[queue];
        struct vq_chain c;
        int rc;

        while ((rc = vq_pop(q, &c, e)) > 0) {
                answer[queue](b, &c);
                vq_push(q, c.head, 0);
        }
        return rc;
}

static void balloon_kick(struct virtio_device *dev, unsigned queue)
{
        struct virtqueue *q = &dev->queue[queue];
        struct err e;
        int rc;

        ASSERT(queue < QUEUES);
        do {
                vq_kicks_off(q);
                rc = answer_all(balloon_of(dev), queue, &e);
        } while (rc == 0 && vq_kicks_on(q));
        if (rc < 0)
                virtio_device_broken(dev, &e);
        else
                virtio_signal(dev, queue);
}

/* ---- life ------------------------------------------------------------------ */

static int balloon_start(struct virtio_device *dev, struct err *e)
{
        (void)dev;
        (void)e;
        return 0;
}

static void balloon_nothing(struct virtio_device *dev)
{
        (void)dev;
}

static uint32_t config_locked(struct virtio_device *dev, unsigned offset) REQUIRES(dev->lock)
{
        uint32_t value;

        memcpy(&value, dev->config + offset, sizeof(value));
        return le32toh(value);
}

static void set_config_locked(struct virtio_device *dev, unsigned offset, uint32_t value)
        REQUIRES(dev->lock)
{
        value = htole32(value);
        memcpy(dev->config + offset, &value, sizeof(value));
}

/* The next driver begins with an empty one. */
static void balloon_stop(struct virtio_device *dev)
{
        lock_acquire(&dev->lock);
        set_config_locked(dev, CONFIG_ACTUAL, 0);
        lock_release(&dev->lock);
}

static void balloon_free(struct virtio_device *dev)
{
        lock_fini(&dev->lock);
        free(balloon_of(dev));
}

/* Of all the configuration only `actual` is the driver's. */
static void balloon_config_written(struct virtio_device *dev, unsigned offset, unsigned bytes)
        REQUIRES(dev->lock)
{
        (void)offset;
        (void)bytes;
        set_config_locked(dev, CONFIG_TARGET, balloon_of(dev)->target_pages);
}

/* ---- saved state ------------------------------------------------------------- */

/* What the driver wrote is saved with the configuration. That the target is there too does not
 * count: this one is checked. */
struct balloon_state {
        uint32_t target_pages;
};

static void balloon_capture(struct virtio_device *dev, void *state)
{
        struct balloon_state *s = state;

        lock_acquire(&dev->lock);
        s->target_pages = balloon_of(dev)->target_pages;
        lock_release(&dev->lock);
}

static int balloon_encode(const void *state, struct json_object *into, struct err *e)
{
        const struct balloon_state *s = state;

        (void)e;
        json_put_u64(into, "target_pages", s->target_pages);
        return 0;
}

static int balloon_decode(struct json_object *from, void *ret_state, struct err *e)
{
        struct balloon_state *s = ret_state;
        uint64_t target;
        int rc = json_take_u64(from, "target_pages", RAM_BYTES_MAX / PAGE_BYTES, &target, e);

        if (rc == 0)
                s->target_pages = (uint32_t)target;
        return rc;
}

/* The driver is told: a rollback may have taken it to another target than it knows. */
static void set_target(struct virtio_device *dev, uint32_t pages)
{
        uint32_t value = htole32(pages);

        lock_acquire(&dev->lock);
        balloon_of(dev)->target_pages = pages;
        lock_release(&dev->lock);
        virtio_config_set(dev, CONFIG_TARGET, &value, sizeof(value));
}

static int balloon_apply(struct virtio_device *dev, const void *state, struct err *e)
{
        const struct balloon_state *s = state;

        (void)e;
        set_target(dev, s->target_pages);
        return 0;
}

/* ---- from outside ------------------------------------------------------------ */

static const struct virtio_class balloon_class = {
        .kind = "balloon", .id = VIRTIO_ID_BALLOON, .nqueues = QUEUES,
        .queue_size = BALLOON_QUEUE_SIZE,
        .features = 1ull << VIRTIO_BALLOON_F_DEFLATE_ON_OOM | 1ull << VIRTIO_BALLOON_F_REPORTING,
        .start = balloon_start, .kick = balloon_kick, .drain = balloon_nothing,
        .resume = balloon_nothing, .stop = balloon_stop,
        .config_written = balloon_config_written,
        .state_bytes = sizeof(struct balloon_state), .capture = balloon_capture,
        .encode = balloon_encode, .decode = balloon_decode, .apply = balloon_apply,
        .free = balloon_free,
};

int virtio_balloon_new(const struct virtio_balloon_options *o, struct virtio_device **ret,
                       struct err *e)
{
        struct balloon *b = calloc(1, sizeof(*b));

        if (!b)
                return err_msg(e, ENOMEM, "no memory for the device '%s'", o->name);
        lock_init(&b->dev.lock);
        b->dev.class = &balloon_class;
        b->dev.host_features = balloon_class.features;
        b->dev.config_bytes = CONFIG_BYTES;
        b->giveback = o->giveback;
        snprintf(b->dev.name, sizeof(b->dev.name), "%s", o->name);
        *ret = &b->dev;
        return 0;
}

int virtio_balloon_set_target(struct virtio_device *dev, uint64_t bytes, struct err *e)
{
        char is[SIZE_TEXT_MAX], max[SIZE_TEXT_MAX];

        if (bytes > dev->ram->bytes)
                return err_msg(e, EINVAL, "a balloon of %s is more than the guest has: give a size "
                               "up to %s", size_text(bytes, is), size_text(dev->ram->bytes, max));
        set_target(dev, (uint32_t)(bytes / PAGE_BYTES));
        return 0;
}

static uint64_t mib(uint32_t pages)
{
        return (uint64_t)pages * PAGE_BYTES >> 20;
}

struct json_object *virtio_balloon_describe(struct virtio_device *dev)
{
        struct balloon *b = balloon_of(dev);
        struct json_object *o = json_object_new_object();
        struct giveback_stats stats;

        lock_acquire(&dev->lock);

        uint32_t target = b->target_pages;
        uint32_t actual = config_locked(dev, CONFIG_ACTUAL);

        lock_release(&dev->lock);
        giveback_stats(b->giveback, &stats);
        json_put_u64(o, "target_mib", mib(target));
        json_put_u64(o, "actual_mib", mib(actual));
        json_put_u64(o, "given_back_bytes", stats.given);
        json_put_u64(o, "deferred_bytes", stats.deferred);
        json_put_u64(o, "refused_bytes", stats.refused);
        return o;
}
