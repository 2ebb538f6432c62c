/* SPDX-License-Identifier: Apache-2.0 */
/* The registers of virtio-mmio, version 2 (virtio 1.2, 4.2.2): what the driver's accesses do. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "vmm/virtio/slot-priv.h"

#define MAGIC 0x74726976u
#define MMIO_VERSION 2
#define VENDOR 0x50414e53u              /* "SNAP" */
#define NO_SHM UINT32_MAX

#define INT_VRING 1u
#define INT_CONFIG 2u

/* ---- reading --------------------------------------------------------------- */

static uint32_t queue_register(const struct virtio_slot *s, uint32_t offset) REQUIRES(s->dev->lock)
{
        const struct virtio_regs *r = &s->regs;

        if (r->queue_sel >= s->dev->class->nqueues)
                return 0;
        if (offset == VIRTIO_MMIO_QUEUE_NUM_MAX)
                return s->dev->class->queue_size;
        return offset == VIRTIO_MMIO_QUEUE_READY ? r->queue[r->queue_sel].ready : 0;
}

static uint32_t read_locked(struct virtio_slot *s, uint32_t offset) REQUIRES(s->dev->lock)
{
        const struct virtio_regs *r = &s->regs;

        switch (offset) {
        case VIRTIO_MMIO_MAGIC_VALUE:
                return MAGIC;
        case VIRTIO_MMIO_VERSION:
                return MMIO_VERSION;
        case VIRTIO_MMIO_DEVICE_ID:
                return s->dev->class->id;
        case VIRTIO_MMIO_VENDOR_ID:
                return VENDOR;
        case VIRTIO_MMIO_DEVICE_FEATURES:
                return r->device_features_sel > 1 ? 0 :
                       (uint32_t)(s->dev->host_features >> 32 * r->device_features_sel);
        case VIRTIO_MMIO_QUEUE_NUM_MAX:
        case VIRTIO_MMIO_QUEUE_READY:
                return queue_register(s, offset);
        case VIRTIO_MMIO_INTERRUPT_STATUS:
                return __atomic_load_n(&r->interrupt_status, __ATOMIC_ACQUIRE);
        case VIRTIO_MMIO_STATUS:
                return r->status;
        case VIRTIO_MMIO_SHM_LEN_LOW:
        case VIRTIO_MMIO_SHM_LEN_HIGH:
        case VIRTIO_MMIO_SHM_BASE_LOW:
        case VIRTIO_MMIO_SHM_BASE_HIGH:
                return NO_SHM;
        case VIRTIO_MMIO_CONFIG_GENERATION:
                return r->config_generation;
        default:
                return 0;
        }
}

static void config_read_locked(struct virtio_slot *s, uint32_t offset, void *data, unsigned bytes)
        REQUIRES(s->dev->lock)
{
        if (offset < s->dev->config_bytes && bytes <= s->dev->config_bytes - offset)
                memcpy(data, s->dev->config + offset, bytes);
        else
                memset(data, 0, bytes);
}

void slot_read(struct virtio_slot *s, uint32_t offset, void *data, unsigned bytes)
{
        uint32_t value = 0;

        lock_acquire(&s->dev->lock);
        if (offset >= VIRTIO_MMIO_CONFIG) {
                config_read_locked(s, offset - VIRTIO_MMIO_CONFIG, data, bytes);
        } else {
                if (bytes == 4 && offset % 4 == 0)
                        value = read_locked(s, offset);
                memset(data, 0, bytes);
                memcpy(data, &value, MIN(bytes, sizeof(value)));
        }
        lock_release(&s->dev->lock);
}

/* ---- writing --------------------------------------------------------------- */

static void set_half(uint64_t *value, bool high, uint32_t half)
{
        *value = high ? (*value & UINT32_MAX) | (uint64_t)half << 32 :
                        (*value & ~(uint64_t)UINT32_MAX) | half;
}

/* The driver says that the queue is laid out: looked at now, attached when the device starts. */
static int queue_ready_locked(struct virtio_slot *s, struct vq_state *q, bool on, struct err *e)
        REQUIRES(s->dev->lock)
{
        struct virtqueue look = { .s = *q };

        q->ready = look.s.ready = on;
        if (!on)
                return 0;

        int rc = vq_attach(&look, s->bus->ram, s->dev->class->queue_size, e);

        if (rc < 0)
                q->ready = false;
        return rc;
}

static int queue_write_locked(struct virtio_slot *s, uint32_t offset, uint32_t value,
                              struct err *e) REQUIRES(s->dev->lock)
{
        struct virtio_regs *r = &s->regs;

        /* while the device works its queues are its own */
        if (r->queue_sel >= s->dev->class->nqueues || r->status & VIRTIO_CONFIG_S_DRIVER_OK)
                return 0;

        struct vq_state *q = &r->queue[r->queue_sel];

        switch (offset) {
        case VIRTIO_MMIO_QUEUE_NUM:
                q->size = (uint16_t)MIN(value, UINT16_MAX);
                break;
        case VIRTIO_MMIO_QUEUE_READY:
                return queue_ready_locked(s, q, value & 1, e);
        case VIRTIO_MMIO_QUEUE_DESC_LOW:
        case VIRTIO_MMIO_QUEUE_DESC_HIGH:
                set_half(&q->desc_gpa, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
                break;
        case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
                set_half(&q->avail_gpa, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
                break;
        case VIRTIO_MMIO_QUEUE_USED_LOW:
        case VIRTIO_MMIO_QUEUE_USED_HIGH:
                set_half(&q->used_gpa, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
                break;
        default:
                break;
        }
        return 0;
}

static int write_locked(struct virtio_slot *s, uint32_t offset, uint32_t value, struct err *e)
        REQUIRES(s->dev->lock)
{
        struct virtio_regs *r = &s->regs;

        switch (offset) {
        case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
                r->device_features_sel = value;
                return 0;
        case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
                r->driver_features_sel = value;
                return 0;
        case VIRTIO_MMIO_DRIVER_FEATURES:
                if (!(r->status & VIRTIO_CONFIG_S_FEATURES_OK) && r->driver_features_sel <= 1)
                        set_half(&r->driver_features, r->driver_features_sel, value);
                return 0;
        case VIRTIO_MMIO_QUEUE_SEL:
                r->queue_sel = value;
                return 0;
        case VIRTIO_MMIO_INTERRUPT_ACK:
                __atomic_fetch_and(&r->interrupt_status, ~value, __ATOMIC_ACQ_REL);
                return 0;
        default:
                return queue_write_locked(s, offset, value, e);
        }
}

/* What the driver may not say is not taken: it reads the status again and sees. */
static uint32_t acceptable_locked(const struct virtio_slot *s, uint32_t status)
        REQUIRES(s->dev->lock)
{
        const struct virtio_regs *r = &s->regs;
        const uint64_t needed = 1ull << VIRTIO_F_VERSION_1;
        uint32_t kept = r->status & VIRTIO_CONFIG_S_NEEDS_RESET;

        status &= 0xff;
        if (status & VIRTIO_CONFIG_S_FEATURES_OK && !(r->status & VIRTIO_CONFIG_S_FEATURES_OK) &&
            (r->driver_features & ~s->dev->host_features || !(r->driver_features & needed)))
                status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
        if (!(status & VIRTIO_CONFIG_S_FEATURES_OK))
                status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
        return status | kept;
}

static void reset(struct virtio_slot *s)
{
        slot_want(s, false);

        lock_acquire(&s->dev->lock);
        s->regs = (struct virtio_regs){ .config_generation = s->regs.config_generation };
        lock_release(&s->dev->lock);
}

static void status_written(struct virtio_slot *s, uint32_t value)
{
        if (value == 0) {
                reset(s);
                return;
        }
        lock_acquire(&s->dev->lock);

        uint32_t before = s->regs.status;

        s->regs.status = acceptable_locked(s, value);

        bool starts = ~before & s->regs.status & VIRTIO_CONFIG_S_DRIVER_OK;

        lock_release(&s->dev->lock);
        if (starts)
                slot_want(s, true);
}

static void kicked(struct virtio_slot *s, uint32_t queue)
{
        uint64_t one = 1;

        if (queue < s->dev->class->nqueues)
                (void)!write(s->kick_fd[queue], &one, sizeof(one));
}

static void config_written_locked(struct virtio_slot *s, uint32_t offset, const void *data,
                                  unsigned bytes) REQUIRES(s->dev->lock)
{
        struct virtio_device *dev = s->dev;

        if (!dev->class->config_written || offset >= dev->config_bytes ||
            bytes > dev->config_bytes - offset)
                return;
        memcpy(dev->config + offset, data, bytes);
        dev->class->config_written(dev, offset, bytes);
}

static void register_written(struct virtio_slot *s, uint32_t offset, uint32_t value)
{
        struct err e;

        if (offset == VIRTIO_MMIO_STATUS) {
                status_written(s, value);
                return;
        }
        if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
                kicked(s, value);
                return;
        }
        lock_acquire(&s->dev->lock);
        int rc = write_locked(s, offset, value, &e);
        lock_release(&s->dev->lock);
        if (rc < 0)
                slot_set_broken(s, e.text);
}

void slot_write(struct virtio_slot *s, uint32_t offset, const void *data, unsigned bytes)
{
        uint32_t value;

        lock_acquire(&s->access);
        if (offset >= VIRTIO_MMIO_CONFIG) {
                lock_acquire(&s->dev->lock);
                config_written_locked(s, offset - VIRTIO_MMIO_CONFIG, data, bytes);
                lock_release(&s->dev->lock);
        } else if (bytes == sizeof(value) && offset % 4 == 0) {
                memcpy(&value, data, sizeof(value));
                register_written(s, offset, value);
        }
        lock_release(&s->access);
}

/* ---- life ------------------------------------------------------------------ */

static int make_fds(struct virtio_slot *s, struct err *e)
{
        s->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->irq_fd < 0)
                return err_set(e, errno, "make an eventfd for %s", s->dev->name);
        for (unsigned q = 0; q < s->dev->class->nqueues; q++) {
                s->kick_fd[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                if (s->kick_fd[q] < 0)
                        return err_set(e, errno, "make an eventfd for %s", s->dev->name);
        }
        return 0;
}

int slot_new(struct virtio_bus *bus, unsigned index, struct virtio_device *dev,
             struct virtio_slot **ret, struct err *e)
{
        struct virtio_slot *s = calloc(1, sizeof(*s));

        if (!s)
                return err_msg(e, ENOMEM, "no memory for %s", dev->name);
        ASSERT(dev->class->nqueues <= VIRTIO_QUEUES_MAX &&
               dev->class->queue_size <= VQ_SIZE_MAX &&
               dev->class->state_bytes <= VIRTIO_STATE_BYTES_MAX &&
               dev->config_bytes <= VIRTIO_CONFIG_BYTES_MAX);
        s->bus = bus;
        s->dev = dev;
        s->index = index;
        s->irq_fd = -1;
        for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
                s->kick_fd[q] = -1;
        lock_init(&s->access);
        lock_init(&s->making);

        int rc = make_fds(s, e);

        if (rc < 0) {
                slot_free(s);
                return rc;
        }
        dev->slot = s;
        dev->ram = bus->ram;
        dev->starter = bus->ops.starter;
        dev->host_features |= 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |
                              1ull << VIRTIO_RING_F_INDIRECT_DESC;
        *ret = s;
        return 0;
}

void slot_free(struct virtio_slot *s)
{
        if (!s)
                return;
        slot_want(s, false);
        virtio_loop_free(s->dev->loop);
        s->dev->loop = NULL;
        fd_close(&s->irq_fd);
        for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
                fd_close(&s->kick_fd[q]);
        lock_fini(&s->making);
        lock_fini(&s->access);
        free(s);
}

void virtio_config_set(struct virtio_device *dev, unsigned offset, const void *data,
                       unsigned bytes)
{
        ASSERT(offset <= dev->config_bytes && bytes <= dev->config_bytes - offset);
        lock_acquire(&dev->lock);
        memcpy(dev->config + offset, data, bytes);
        if (dev->slot)
                dev->slot->regs.config_generation++;
        lock_release(&dev->lock);
        if (dev->slot)
                slot_interrupt(dev->slot, INT_CONFIG);
}
