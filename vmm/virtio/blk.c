/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * Each worker takes a request from the queue, serves it, gives it back and looks for the next:
 * there is no list of requests in between, and what was taken is never more than there are
 * workers. The queue is under the lock, the serving is not.
 *
 * A kick calls one worker that is idle. Who takes a request and sees another behind it calls
 * the next, so a burst wakes as many as it has requests, and one request wakes one. While all
 * are busy the guest need not kick: each of them will look.
 *
 * INV-CALLED: while the queue has a request and a worker is idle, one that is not is going to
 *             look at the queue, or a kick is to come.
 * INV-QUIET:  with held and !busy nobody touches the queue or guest memory, until resume.
 */
#include "vmm/virtio/blk.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "vmm/starter.h"
#include "vmm/virtio/blk-serve.h"

/* What a disk is given at a time. More gain little where the page cache answers, and each
 * has a stack. */
#define WORKERS 4
#define QUEUE_SIZE 128
/* Without indirect descriptors the ring itself has to hold a request, header and status too. */
#define SEG_MAX (QUEUE_SIZE - 2)
#define DISCARD_ALIGN_SECTORS 8

#define CONFIG_BYTES 60u
static_assert(offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4 == CONFIG_BYTES,
              "what a guest may read ends behind the fields of write zeroes");
static_assert(SEG_MAX + 2 <= VQ_IOV_MAX, "the queue takes each request that is allowed");

#define FEATURE(bit) (1ull << (bit))
#define FEATURES_ALWAYS \
        (FEATURE(VIRTIO_BLK_F_SEG_MAX) | FEATURE(VIRTIO_BLK_F_BLK_SIZE) | \
         FEATURE(VIRTIO_BLK_F_FLUSH))
#define FEATURES_WRITABLE \
        (FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES))
#define FEATURES_READ_ONLY FEATURE(VIRTIO_BLK_F_RO)

struct blk;

struct worker {
        /* constant while it runs */
        struct blk *blk;
        pthread_t thread;

        struct cond wake;
        bool called;                    /* blk->lock */

        /* the worker's own */
        struct vq_chain chain;
        int rc;                         /* of what it took: -EBADMSG and err */
        struct err err;
};

struct blk {
        struct virtio_device dev;
        char serial[VIRTIO_BLK_ID_BYTES + 1];
        struct blk_target target;
        struct worker worker[WORKERS];
        unsigned nworkers;              /* that run; the device's thread */

        struct lock lock;               /* dev.queue[0] too; a leaf */
        struct cond quiet;              /* busy is 0 */
        unsigned busy                   GUARDED_BY(lock);
        struct worker *idle[WORKERS]    GUARDED_BY(lock);
        unsigned nidle                  GUARDED_BY(lock);
        bool held                       GUARDED_BY(lock);
        bool broken                     GUARDED_BY(lock);
        bool ending                     GUARDED_BY(lock);
};

/* saved */
struct blk_state {
        uint64_t bytes;
};

static struct blk *blk_of(struct virtio_device *dev)
{
        return (struct blk *)dev;
}

/* ---- workers ------------------------------------------------------------- */

static void call_one_locked(struct blk *b) REQUIRES(b->lock)
{
        if (b->nidle == 0)
                return;

        struct worker *w = b->idle[--b->nidle];

        w->called = true;
        cond_broadcast(&w->wake);
}

static void wait_locked(struct blk *b, struct worker *w) REQUIRES(b->lock)
{
        w->called = false;
        ASSERT(b->nidle < WORKERS);
        b->idle[b->nidle++] = w;
        while (!w->called)
                cond_wait(&w->wake, &b->lock);
}

/* As vq_pop(); with 0 the guest will kick. Looks twice at most: a guest may play with its
 * index. */
static int pop_locked(struct blk *b, struct worker *w) REQUIRES(b->lock)
{
        struct virtqueue *q = &b->dev.queue[0];
        int rc = vq_pop(q, &w->chain, &w->err);

        if (rc == 0 && vq_kicks_on(q))
                rc = vq_pop(q, &w->chain, &w->err);
        return rc;
}

/* INV-CALLED */
static void look_behind_locked(struct blk *b) REQUIRES(b->lock)
{
        struct virtqueue *q = &b->dev.queue[0];

        if (b->nidle == 0)
                vq_kicks_off(q);
        else if (vq_kicks_on(q))
                call_one_locked(b);
}

static bool try_take_locked(struct blk *b, struct worker *w) REQUIRES(b->lock)
{
        if (b->held || b->broken)
                return false;

        int rc = pop_locked(b, w);

        if (rc == 0)
                return false;
        w->rc = rc < 0 ? rc : 0;
        b->broken = rc < 0;
        b->busy++;
        if (rc > 0)
                look_behind_locked(b);
        return true;
}

/* A request, or what is wrong with the ring; false: the device ends. */
static bool take(struct blk *b, struct worker *w)
{
        lock_acquire(&b->lock);
        while (!b->ending && !try_take_locked(b, w))
                wait_locked(b, w);

        bool taken = !b->ending;

        lock_release(&b->lock);
        return taken;
}

static void give_back_locked(struct blk *b, const struct worker *w, uint32_t written)
        REQUIRES(b->lock)
{
        if (w->rc == 0) {
                vq_push(&b->dev.queue[0], w->chain.head, written);
                virtio_signal(&b->dev, 0);
        } else {
                b->broken = true;
        }
        ASSERT(b->busy > 0);
        if (--b->busy == 0)
                cond_broadcast(&b->quiet);
}

static void *worker_main(void *ctx)
{
        struct worker *w = ctx;
        struct blk *b = w->blk;

        while (take(b, w)) {
                uint32_t written = 0;

                if (w->rc == 0)
                        w->rc = blk_serve(&b->target, &w->chain, &written, &w->err);
                if (w->rc < 0)
                        virtio_device_broken(&b->dev, &w->err);
                lock_acquire(&b->lock);
                give_back_locked(b, w, written);
                lock_release(&b->lock);
        }
        return NULL;
}

/* Signals are the main thread's; and a disk that outgrows a limit is an error of its writer's,
 * not SIGXFSZ. */
static int start_worker(struct blk *b, struct worker *w)
{
        char name[16];
        const struct starter_thread thread = {
                .role = SANDBOX_DISK, .name = name, .run = worker_main, .ctx = w,
        };
        sigset_t all, before;

        w->blk = b;
        snprintf(name, sizeof(name), "%.11s-io%u", b->dev.name, (unsigned)(w - b->worker));
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);

        int rc = starter_start(b->dev.starter, &thread, &w->thread);

        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -rc;
}

static void end_workers(struct blk *b)
{
        lock_acquire(&b->lock);
        ASSERT(b->busy == 0);           /* drained before */
        b->ending = true;
        while (b->nidle > 0)
                call_one_locked(b);
        lock_release(&b->lock);
        while (b->nworkers > 0)
                pthread_join(b->worker[--b->nworkers].thread, NULL);
}

/* ---- life ---------------------------------------------------------------- */

static void set_held(struct blk *b, bool held)
{
        lock_acquire(&b->lock);
        b->held = held;
        lock_release(&b->lock);
}

static void begin(struct blk *b)
{
        b->target.features = b->dev.features;
        lock_acquire(&b->lock);
        b->held = b->broken = b->ending = false;
        lock_release(&b->lock);
}

/* with fewer threads than it might have, but for the first */
static int blk_start(struct virtio_device *dev, struct err *e)
{
        struct blk *b = blk_of(dev);
        int rc = 0;

        ASSERT(b->nworkers == 0);
        begin(b);
        while (b->nworkers < WORKERS && rc == 0) {
                rc = start_worker(b, &b->worker[b->nworkers]);
                if (rc == 0)
                        b->nworkers++;
        }
        return b->nworkers ? 0 : err_set(e, -rc, "start a thread of %s", dev->name);
}

static void blk_kick(struct virtio_device *dev, unsigned queue)
{
        struct blk *b = blk_of(dev);

        (void)queue;
        lock_acquire(&b->lock);
        if (!b->held)
                call_one_locked(b);
        lock_release(&b->lock);
}

/* INV-QUIET */
static void blk_drain(struct virtio_device *dev)
{
        struct blk *b = blk_of(dev);

        lock_acquire(&b->lock);
        b->held = true;
        while (b->busy > 0)
                cond_wait(&b->quiet, &b->lock);
        lock_release(&b->lock);
}

static void blk_resume(struct virtio_device *dev)
{
        set_held(blk_of(dev), false);
}

static void blk_stop(struct virtio_device *dev)
{
        end_workers(blk_of(dev));
}

static void blk_free(struct virtio_device *dev)
{
        struct blk *b = blk_of(dev);

        if (b->nworkers)
                end_workers(b);
        for (unsigned i = 0; i < WORKERS; i++)
                cond_fini(&b->worker[i].wake);
        cond_fini(&b->quiet);
        lock_fini(&b->dev.lock);
        lock_fini(&b->lock);
        disk_close(b->target.disk);
        free(b);
}

/* ---- state --------------------------------------------------------------- */

static void blk_capture(struct virtio_device *dev, void *state)
{
        *(struct blk_state *)state = (struct blk_state){ disk_bytes(blk_of(dev)->target.disk) };
}

static int blk_encode(const void *state, struct json_object *into, struct err *e)
{
        (void)e;
        json_put_u64(into, "bytes", ((const struct blk_state *)state)->bytes);
        return 0;
}

static int blk_decode(struct json_object *from, void *ret_state, struct err *e)
{
        return json_take_u64(from, "bytes", INT64_MAX, &((struct blk_state *)ret_state)->bytes, e);
}

/* A guest knows how long its disk is. */
static int blk_apply(struct virtio_device *dev, const void *state, struct err *e)
{
        const struct blk_state *s = state;
        struct disk *d = blk_of(dev)->target.disk;

        if (s->bytes == disk_bytes(d))
                return 0;
        return err_msg(e, ESTALE, "disk '%s' has %llu bytes, but had %llu when the VM was saved: "
                       "give the VM the disk that belongs to it", disk_path(d),
                       (unsigned long long)disk_bytes(d), (unsigned long long)s->bytes);
}

/* ---- for people ---------------------------------------------------------- */

static void blk_describe(struct virtio_device *dev, struct json_object *o)
{
        const struct blk_counters *c = &blk_of(dev)->target.counters;

        json_put_u64(o, "reads", c->reads);
        json_put_u64(o, "read_bytes", c->read_bytes);
        json_put_u64(o, "writes", c->writes);
        json_put_u64(o, "written_bytes", c->written_bytes);
        json_put_u64(o, "flushes", c->flushes);
        json_put_u64(o, "discards", c->discards);
        json_put_u64(o, "zeroes", c->zeroes);
        json_put_u64(o, "errors", c->errors);
}

/* ---- making it ----------------------------------------------------------- */

static const struct virtio_class blk_class = {
        .kind = "blk",
        .id = VIRTIO_ID_BLOCK,
        .nqueues = 1,
        .queue_size = QUEUE_SIZE,
        .features = FEATURES_ALWAYS | FEATURES_WRITABLE | FEATURES_READ_ONLY,
        .start = blk_start,
        .kick = blk_kick,
        .drain = blk_drain,
        .resume = blk_resume,
        .stop = blk_stop,
        .state_bytes = sizeof(struct blk_state),
        .capture = blk_capture,
        .encode = blk_encode,
        .decode = blk_decode,
        .apply = blk_apply,
        .describe = blk_describe,
        .free = blk_free,
};

/* nobody else has the device yet */
static void fill_config(struct blk *b) NO_TSA
{
        struct virtio_blk_config c = {
                .capacity = htole64(disk_bytes(b->target.disk) / DISK_SECTOR_BYTES),
                .seg_max = htole32(SEG_MAX),
                .blk_size = htole32(DISK_SECTOR_BYTES),
        };

        if (!disk_read_only(b->target.disk)) {
                c.max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX);
                c.max_discard_seg = htole32(BLK_DISCARD_RANGES_MAX);
                c.discard_sector_alignment = htole32(DISCARD_ALIGN_SECTORS);
                c.max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX);
                c.max_write_zeroes_seg = htole32(BLK_ZEROES_RANGES_MAX);
                c.write_zeroes_may_unmap = 1;
        }
        memcpy(b->dev.config, &c, CONFIG_BYTES);
}

int virtio_blk_new(struct disk *d, const char *name, const char *serial,
                   struct virtio_device **ret, struct err *e)
{
        struct blk *b = calloc(1, sizeof(*b));

        if (!b) {
                disk_close(d);
                return err_msg(e, ENOMEM, "no memory for block device %s", name);
        }
        b->dev.class = &blk_class;
        b->dev.host_features = FEATURES_ALWAYS | (disk_read_only(d) ? FEATURES_READ_ONLY :
                                                                     FEATURES_WRITABLE);
        b->dev.config_bytes = CONFIG_BYTES;
        snprintf(b->dev.name, sizeof(b->dev.name), "%s", name);
        snprintf(b->serial, sizeof(b->serial), "%s", serial);
        b->target.disk = d;
        b->target.serial = b->serial;
        lock_init(&b->lock);
        lock_init(&b->dev.lock);
        cond_init(&b->quiet);
        for (unsigned i = 0; i < WORKERS; i++)
                cond_init(&b->worker[i].wake);
        fill_config(b);
        *ret = &b->dev;
        return 0;
}

struct disk *virtio_blk_disk(struct virtio_device *dev)
{
        ASSERT(dev->class == &blk_class);
        return blk_of(dev)->target.disk;
}

void virtio_blk_stats(struct virtio_device *dev, struct virtio_blk_stats *ret)
{
        ASSERT(dev->class == &blk_class);

        const struct blk_counters *c = &blk_of(dev)->target.counters;

        *ret = (struct virtio_blk_stats){
                .reads = c->reads, .read_bytes = c->read_bytes,
                .writes = c->writes, .written_bytes = c->written_bytes,
                .flushes = c->flushes, .discards = c->discards, .zeroes = c->zeroes,
                .errors = c->errors, .last_error = c->last_error,
        };
}
