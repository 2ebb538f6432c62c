/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/blk-kit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/lock.h"

#define RING_GPA 0ull
#define SLOTS_GPA 0x10000ull            /* header, status and table of each, 256 bytes */
#define SLOT_STATUS 16
#define SLOT_TABLE 64
#define DATA_GPA 0x20000ull
#define RAM_BYTES 0x100000ull
#define WAIT_NS (10 * NS_PER_SEC)

static_assert(DATA_GPA + KIT_SLOTS * KIT_SLOT_BYTES <= RAM_BYTES, "all data is in low RAM");

/* The device's functions of the bus and the disk's get no context: one kit at a time. */
static struct {
        struct lock lock;
        struct cond changed;
        unsigned signals;
        bool broken;
        char why[ERR_TEXT_MAX];
        bool hang;
        unsigned allowed;               /* may go on although others hang */
        unsigned inside;
        unsigned flushes;
        int fail;
} world;

/* ---- what the device calls ----------------------------------------------- */

void virtio_signal(struct virtio_device *dev, unsigned queue)
{
        if (!vq_wants_interrupt(&dev->queue[queue]))
                return;
        lock_acquire(&world.lock);
        world.signals++;
        cond_broadcast(&world.changed);
        lock_release(&world.lock);
}

void virtio_device_broken(struct virtio_device *dev, const struct err *why)
{
        (void)dev;
        lock_acquire(&world.lock);
        world.broken = true;
        snprintf(world.why, sizeof(world.why), "%s", why->text);
        cond_broadcast(&world.changed);
        lock_release(&world.lock);
}

/* What it shall fail with. */
static int pass(void)
{
        lock_acquire(&world.lock);
        world.inside++;
        cond_broadcast(&world.changed);
        while (world.hang && world.allowed == 0)
                cond_wait(&world.changed, &world.lock);
        if (world.hang)
                world.allowed--;
        world.inside--;

        int rc = world.fail;

        lock_release(&world.lock);
        return rc;
}

/* the linker's names: calls of disk_read() come here, __real_ is it */
int __wrap_disk_read(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset);
int __real_disk_read(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset);
int __wrap_disk_write(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset);
int __real_disk_write(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset);
int __wrap_disk_flush(struct disk *d);
int __real_disk_flush(struct disk *d);

int __wrap_disk_read(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset)
{
        int rc = pass();

        return rc ? rc : __real_disk_read(d, iov, n, offset);
}

int __wrap_disk_write(struct disk *d, const struct iovec *iov, unsigned n, uint64_t offset)
{
        int rc = pass();

        return rc ? rc : __real_disk_write(d, iov, n, offset);
}

int __wrap_disk_flush(struct disk *d)
{
        int rc = pass();

        lock_acquire(&world.lock);
        world.flushes++;
        lock_release(&world.lock);
        return rc ? rc : __real_disk_flush(d);
}

/* ---- what the test asks --------------------------------------------------- */

unsigned blk_kit_signals(void)
{
        lock_acquire(&world.lock);
        unsigned n = world.signals;
        lock_release(&world.lock);
        return n;
}

const char *blk_kit_broken(bool wait)
{
        uint64_t deadline = clock_now_ns() + WAIT_NS;

        lock_acquire(&world.lock);
        while (wait && !world.broken && cond_wait_until(&world.changed, &world.lock, deadline))
                ;
        bool broken = world.broken;
        lock_release(&world.lock);
        return broken ? world.why : NULL;
}

static void set_hang(bool hang, unsigned allowed)
{
        lock_acquire(&world.lock);
        world.hang = hang;
        world.allowed = allowed;
        cond_broadcast(&world.changed);
        lock_release(&world.lock);
}

void blk_kit_hang(void)
{
        set_hang(true, 0);
}

void blk_kit_release(unsigned n)
{
        set_hang(true, n);
}

void blk_kit_release_all(void)
{
        set_hang(false, 0);
}

unsigned blk_kit_wait_inside(unsigned n)
{
        uint64_t deadline = clock_now_ns() + WAIT_NS;

        lock_acquire(&world.lock);
        while (world.inside < n && cond_wait_until(&world.changed, &world.lock, deadline))
                ;
        unsigned inside = world.inside;
        lock_release(&world.lock);
        return inside;
}

void blk_kit_fail(int rc)
{
        lock_acquire(&world.lock);
        world.fail = rc;
        lock_release(&world.lock);
}

unsigned blk_kit_flushes(void)
{
        lock_acquire(&world.lock);
        unsigned n = world.flushes;
        lock_release(&world.lock);
        return n;
}

/* ---- the device ------------------------------------------------------------ */

static struct virtio_device *new_device(int fd, bool read_only)
{
        struct virtio_device *dev = NULL;
        struct disk *d = NULL;
        struct err e;
        char path[64];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

        int rc = disk_open(&(struct disk_options){ .path = path, .read_only = read_only }, &d, &e);

        if (rc == 0)
                rc = virtio_blk_new(d, "disk0", "serial-of-disk0-is-long", &dev, &e);
        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        ASSERT(rc == 0);
        return dev;
}

static int new_disk(uint64_t sectors)
{
        int fd = memfd_create("disk", MFD_CLOEXEC);
        int rc = ftruncate(fd, (off_t)(sectors * DISK_SECTOR_BYTES));

        ASSERT(fd >= 0 && rc == 0);
        return fd;
}

void blk_kit_init(struct blk_kit *k, const struct blk_kit_options *o)
{
        struct virtqueue *q;
        struct err e;

        memset(&world, 0, sizeof(world));
        lock_init(&world.lock);
        cond_init(&world.changed);
        memset(k, 0, sizeof(*k));
        blk_kit_forget(k);
        vqguest_ram_init(&k->ram, RAM_BYTES);
        k->disk_fd = new_disk(KIT_DISK_SECTORS);
        k->dev = new_device(k->disk_fd, o->read_only);
        k->dev->ram = &k->ram;
        k->dev->features = k->dev->host_features & o->features;
        q = &k->dev->queue[0];
        (o->event_idx ? vqguest_init_event_idx : vqguest_init)(&k->guest, &k->ram, RING_GPA,
                                                               KIT_QUEUE, q);

        int rc = k->dev->class->start(k->dev, &e);

        ASSERT(rc == 0);
        blk_kit_kick(k);
}

void blk_kit_fini(struct blk_kit *k)
{
        blk_kit_release_all();
        k->dev->class->drain(k->dev);
        k->dev->class->stop(k->dev);
        k->dev->class->free(k->dev);
        fd_close(&k->disk_fd);
        vqguest_ram_fini(&k->ram);
        cond_fini(&world.changed);
        lock_fini(&world.lock);
}

struct virtio_device *blk_kit_twin(struct blk_kit *k, uint64_t sectors)
{
        AUTO_FD fd = new_disk(sectors);
        struct virtio_device *dev = new_device(fd, false);

        dev->ram = &k->ram;
        dev->features = k->dev->features;
        return dev;
}

/* ---- requests -------------------------------------------------------------- */

static uint8_t *at(struct blk_kit *k, uint64_t gpa, uint64_t bytes)
{
        uint8_t *hva = ram_at(&k->ram, gpa, bytes);

        ASSERT(hva);
        return hva;
}

static uint64_t slot_gpa(unsigned slot)
{
        ASSERT(slot < KIT_SLOTS);
        return SLOTS_GPA + slot * 256u;
}

uint64_t blk_kit_data_gpa(unsigned slot)
{
        ASSERT(slot < KIT_SLOTS);
        return DATA_GPA + (uint64_t)slot * KIT_SLOT_BYTES;
}

void *blk_kit_data(struct blk_kit *k, unsigned slot)
{
        return at(k, blk_kit_data_gpa(slot), KIT_SLOT_BYTES);
}

uint8_t *blk_kit_status(struct blk_kit *k, unsigned slot)
{
        return at(k, slot_gpa(slot) + SLOT_STATUS, 1);
}

struct vqguest_buf blk_kit_header(unsigned slot)
{
        return (struct vqguest_buf){ slot_gpa(slot), 16, false };
}

struct vqguest_buf blk_kit_answer(unsigned slot)
{
        return (struct vqguest_buf){ slot_gpa(slot) + SLOT_STATUS, 1, true };
}

void blk_kit_submit_bufs(struct blk_kit *k, unsigned slot, uint32_t type, uint64_t sector,
                         const struct vqguest_buf *bufs, unsigned n)
{
        uint8_t *header = at(k, slot_gpa(slot), 16);

        put_le32(header, type);
        put_le32(header + 4, 0);
        put_le64(header + 8, sector);
        *blk_kit_status(k, slot) = 0xff;
        k->done[slot] = false;
        if (n * sizeof(struct vring_desc) <= 256 - SLOT_TABLE)
                k->head[slot] = vqguest_add_indirect(&k->guest, bufs, n,
                                                     slot_gpa(slot) + SLOT_TABLE);
        else
                k->head[slot] = vqguest_add(&k->guest, bufs, n);
}

void blk_kit_submit(struct blk_kit *k, unsigned slot, uint32_t type, uint64_t sector,
                    uint32_t out_bytes, uint32_t in_bytes)
{
        struct vqguest_buf bufs[3] = { blk_kit_header(slot) };
        unsigned n = 1;

        ASSERT(!out_bytes || !in_bytes);
        if (out_bytes || in_bytes)
                bufs[n++] = (struct vqguest_buf){ blk_kit_data_gpa(slot), out_bytes + in_bytes,
                                                  in_bytes > 0 };
        bufs[n++] = blk_kit_answer(slot);
        blk_kit_submit_bufs(k, slot, type, sector, bufs, n);
}

void blk_kit_kick(struct blk_kit *k)
{
        k->dev->class->kick(k->dev, 0);
}

static void take(struct blk_kit *k)
{
        uint16_t head;
        uint32_t written;

        while (vqguest_used(&k->guest, &head, &written)) {
                unsigned slot = 0;

                while (slot < KIT_SLOTS && (k->head[slot] != head || k->done[slot]))
                        slot++;
                ASSERT(slot < KIT_SLOTS);       /* each comes back once */
                k->done[slot] = true;
                k->written[slot] = written;
                k->ndone++;
        }
}

bool blk_kit_wait(struct blk_kit *k, unsigned n)
{
        uint64_t deadline = clock_now_ns() + WAIT_NS;
        bool in_time = true;

        take(k);
        while (k->ndone < n && in_time) {
                unsigned seen = blk_kit_signals();

                if (vqguest_interrupts_on(&k->guest)) {
                        take(k);
                        continue;
                }
                lock_acquire(&world.lock);
                while (world.signals == seen && in_time)
                        in_time = cond_wait_until(&world.changed, &world.lock, deadline);
                lock_release(&world.lock);
                take(k);
        }
        return k->ndone >= n;
}

void blk_kit_forget(struct blk_kit *k)
{
        for (unsigned i = 0; i < KIT_SLOTS; i++)
                k->done[i] = true;
        k->ndone = 0;
}

int blk_kit_do(struct blk_kit *k, unsigned slot, uint32_t type, uint64_t sector,
               uint32_t out_bytes, uint32_t in_bytes)
{
        unsigned before = k->ndone;

        blk_kit_submit(k, slot, type, sector, out_bytes, in_bytes);
        blk_kit_kick(k);
        return blk_kit_wait(k, before + 1) ? *blk_kit_status(k, slot) : -ETIMEDOUT;
}
