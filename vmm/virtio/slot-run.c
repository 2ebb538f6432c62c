/* SPDX-License-Identifier: Apache-2.0 */
/* What a slot's thread does: see the theory of operation in slot-priv.h. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/check.h"
#include "vmm/virtio/slot-priv.h"

#define INT_VRING 1u
#define INT_CONFIG 2u

enum step { STEP_NONE, STEP_START, STEP_RESUME, STEP_DRAIN, STEP_STOP };

/* ---- interrupts ------------------------------------------------------------ */

static void raise_line(struct virtio_slot *s)
{
        uint64_t one = 1;

        (void)!write(s->irq_fd, &one, sizeof(one));
}

static void set_interrupt(struct virtio_slot *s, uint32_t why)
{
        __atomic_fetch_or(&s->regs.interrupt_status, why, __ATOMIC_ACQ_REL);
}

void virtio_signal(struct virtio_device *dev, unsigned queue)
{
        if (!vq_wants_interrupt(&dev->queue[queue]))
                return;
        set_interrupt(dev->slot, INT_VRING);
        raise_line(dev->slot);
}

/* A device that has not started yet, after a revert for instance, has a driver that wants to
 * know all the same: at its start. */
static void interrupt_locked(struct virtio_slot *s, uint32_t why) REQUIRES(s->bus->lock)
{
        if (!s->wanted)
                return;
        set_interrupt(s, why);
        if (s->running)
                raise_line(s);
        else
                s->announce = true;             /* INV-STILL */
}

void slot_interrupt(struct virtio_slot *s, uint32_t why)
{
        lock_acquire(&s->bus->lock);
        interrupt_locked(s, why);
        lock_release(&s->bus->lock);
}

/* ---- broken devices -------------------------------------------------------- */

static bool break_locked(struct virtio_slot *s, const char *why) REQUIRES(s->bus->lock)
{
        bool first = !s->broken;

        s->broken = true;
        if (first)
                snprintf(s->why, sizeof(s->why), "%s", why);
        if (s->dev->loop)
                virtio_loop_ring(s->dev->loop);
        return first;
}

void slot_set_broken(struct virtio_slot *s, const char *why)
{
        struct virtio_bus *bus = s->bus;

        lock_acquire(&s->dev->lock);
        s->regs.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        lock_release(&s->dev->lock);

        lock_acquire(&s->bus->lock);
        bool first = break_locked(s, why);
        interrupt_locked(s, INT_CONFIG);
        lock_release(&s->bus->lock);
        if (first && bus->ops.broken)
                bus->ops.broken(bus->ops.ctx, s->dev->name, why);
}

void virtio_device_broken(struct virtio_device *dev, const struct err *why)
{
        slot_set_broken(dev->slot, why->text);
}

/* ---- the steps ------------------------------------------------------------- */

static void on_kick(void *ctx)
{
        struct slot_kick *k = ctx;
        struct virtio_slot *s = k->slot;
        uint64_t count;

        (void)!read(s->kick_fd[k->queue], &count, sizeof(count));
        if (s->dev->queue[k->queue].s.ready)
                s->dev->class->kick(s->dev, k->queue);
}

static int irqfd(const struct virtio_slot *s, uint32_t flags)
{
        const struct kvm_irqfd irq = {
                .fd = (uint32_t)s->irq_fd, .gsi = virtio_gsi(s->index), .flags = flags,
        };

        return ioctl(s->bus->kvm->vm_fd, KVM_IRQFD, &irq);
}

static int ioeventfd(const struct virtio_slot *s, unsigned q, uint32_t flags)
{
        const struct kvm_ioeventfd kick = {
                .addr = virtio_window_gpa(s->index) + VIRTIO_MMIO_QUEUE_NOTIFY,
                .len = 4, .fd = s->kick_fd[q], .datamatch = q,
                .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags,
        };

        return ioctl(s->bus->kvm->vm_fd, KVM_IOEVENTFD, &kick);
}

/* What is left with KVM would be in the way of the next start. */
static void unbind_fds(const struct virtio_slot *s, unsigned nkicks)
{
        while (nkicks > 0)
                (void)ioeventfd(s, --nkicks, KVM_IOEVENTFD_FLAG_DEASSIGN);
        (void)irqfd(s, KVM_IRQFD_FLAG_DEASSIGN);
}

/* KVM takes the driver's notifies and our interrupts without an exit from here on. Not
 * before: each costs KVM a grace period, and most devices of most guests are never used. All
 * of them, or none. */
static int bind_fds(struct virtio_slot *s, struct err *e)
{
        if (!s->bus->kvm || s->bound)
                return 0;
        if (irqfd(s, 0) < 0)
                return err_set(e, errno, "KVM: irqfd of %s", s->dev->name);
        for (unsigned q = 0; q < s->dev->class->nqueues; q++) {
                if (ioeventfd(s, q, 0) == 0)
                        continue;

                int why = errno;

                unbind_fds(s, q);
                return err_set(e, why, "KVM: ioeventfd of %s", s->dev->name);
        }
        s->bound = true;
        return 0;
}

static int attach_queues(struct virtio_slot *s, struct err *e)
{
        struct virtio_device *dev = s->dev;
        int rc = 0;

        lock_acquire(&dev->lock);
        dev->features = s->regs.driver_features;
        for (unsigned q = 0; q < dev->class->nqueues; q++) {
                dev->queue[q] = (struct virtqueue){
                        .s = s->regs.queue[q],
                        .event_idx = virtio_has(dev, VIRTIO_RING_F_EVENT_IDX),
                        .indirect = virtio_has(dev, VIRTIO_RING_F_INDIRECT_DESC),
                };
        }
        lock_release(&dev->lock);
        for (unsigned q = 0; q < dev->class->nqueues && rc == 0; q++) {
                if (dev->queue[q].s.ready)
                        rc = vq_attach(&dev->queue[q], s->bus->ram, dev->class->queue_size, e);
        }
        return rc;
}

static int make_watches(struct virtio_slot *s, struct err *e)
{
        int rc = 0;

        for (unsigned q = 0; q < s->dev->class->nqueues && rc == 0; q++) {
                s->kick_ctx[q] = (struct slot_kick){ .slot = s, .queue = q };
                if (!s->kick[q])
                        rc = virtio_watch_readable(s->dev->loop, s->kick_fd[q], on_kick,
                                                   &s->kick_ctx[q], &s->kick[q], e);
        }
        return rc;
}

static void free_watches(struct virtio_slot *s)
{
        for (unsigned q = 0; q < s->dev->class->nqueues; q++) {
                virtio_watch_free(s->kick[q]);
                s->kick[q] = NULL;
        }
}

/* INV-KICK */
static void listen(struct virtio_slot *s, bool announce)
{
        struct virtio_device *dev = s->dev;

        for (unsigned q = 0; q < dev->class->nqueues; q++)
                virtio_watch_on(s->kick[q]);
        if (announce) {
                set_interrupt(s, INT_VRING);
                raise_line(s);
        }
        for (unsigned q = 0; q < dev->class->nqueues; q++) {
                if (dev->queue[q].s.ready)
                        dev->class->kick(dev, q);
        }
}

static int start(struct virtio_slot *s, bool announce, struct err *e)
{
        int rc = make_watches(s, e);

        if (rc == 0)
                rc = bind_fds(s, e);
        if (rc == 0)
                rc = attach_queues(s, e);
        if (rc == 0)
                rc = s->dev->class->start(s->dev, e);
        if (rc == 0)
                listen(s, announce);
        else
                free_watches(s);
        return rc;
}

static void drain(struct virtio_slot *s)
{
        for (unsigned q = 0; q < s->dev->class->nqueues; q++)
                virtio_watch_off(s->kick[q]);
        s->dev->class->drain(s->dev);
}

static enum step next_locked(const struct virtio_slot *s) REQUIRES(s->bus->lock)
{
        bool run = s->wanted && !s->broken && !s->bus->held;

        if (s->running)
                return run ? STEP_NONE : STEP_DRAIN;
        if (s->live)
                return !s->wanted ? STEP_STOP : run ? STEP_RESUME : STEP_NONE;
        return run ? STEP_START : STEP_NONE;
}

/* running is said before a step that runs the device: whoever waits for it to be held from
 * here on waits for the step that drains it again. */
static enum step begin_locked(struct virtio_slot *s, bool *ret_announce) REQUIRES(s->bus->lock)
{
        enum step step = next_locked(s);

        if (step == STEP_START || step == STEP_RESUME) {
                s->running = true;
                *ret_announce = s->announce;
                s->announce = false;
        }
        return step;
}

static void end_locked(struct virtio_slot *s, enum step step, bool ok) REQUIRES(s->bus->lock)
{
        if (step == STEP_START)
                s->live = s->running = ok;
        else if (step == STEP_DRAIN)
                s->running = false;
        else if (step == STEP_STOP)
                s->live = false;
        cond_broadcast(&s->bus->changed);
}

static void take(struct virtio_slot *s, enum step step, bool announce)
{
        struct err e;
        int rc = 0;

        switch (step) {
        case STEP_START:
                rc = start(s, announce, &e);
                break;
        case STEP_RESUME:
                s->dev->class->resume(s->dev);
                listen(s, announce);
                break;
        case STEP_DRAIN:
                drain(s);
                break;
        case STEP_STOP:
                s->dev->class->stop(s->dev);
                free_watches(s);
                break;
        case STEP_NONE:
                break;
        }
        /* before the end: a driver that resets the device waits for that */
        if (rc < 0)
                slot_set_broken(s, e.text);
        lock_acquire(&s->bus->lock);
        end_locked(s, step, rc == 0);
        lock_release(&s->bus->lock);
}

static void slot_sync(void *ctx)
{
        struct virtio_slot *s = ctx;
        bool announce = false;
        enum step step;

        do {
                lock_acquire(&s->bus->lock);
                step = begin_locked(s, &announce);
                lock_release(&s->bus->lock);
                if (step != STEP_NONE)
                        take(s, step, announce);
        } while (step != STEP_NONE);
}

/* ---- from other threads ---------------------------------------------------- */

static bool needs_thread(struct virtio_slot *s)
{
        lock_acquire(&s->bus->lock);
        bool needed = next_locked(s) == STEP_START;
        lock_release(&s->bus->lock);
        return needed;
}

static int ensure_thread_locked(struct virtio_slot *s, struct err *e) REQUIRES(s->making)
{
        struct virtio_loop *loop;
        char name[16];

        if (s->dev->loop || !needs_thread(s))
                return 0;
        snprintf(name, sizeof(name), "%.15s", s->dev->name);

        int rc = virtio_loop_new(s->bus->ops.starter, name, slot_sync, s, &loop, e);

        if (rc < 0)
                return rc;
        lock_acquire(&s->bus->lock);
        s->dev->loop = loop;
        lock_release(&s->bus->lock);
        return 0;
}

void slot_ring(struct virtio_slot *s)
{
        struct err e;

        lock_acquire(&s->making);
        int rc = ensure_thread_locked(s, &e);
        lock_release(&s->making);
        if (rc < 0)
                slot_set_broken(s, e.text);
        lock_acquire(&s->bus->lock);
        if (s->dev->loop)
                virtio_loop_ring(s->dev->loop);
        lock_release(&s->bus->lock);
}

void slot_want(struct virtio_slot *s, bool on)
{
        struct virtio_bus *bus = s->bus;

        lock_acquire(&bus->lock);
        s->wanted = on;
        lock_release(&bus->lock);
        slot_ring(s);
        if (on)
                return;
        lock_acquire(&bus->lock);
        while (s->live || s->running)
                cond_wait(&bus->changed, &bus->lock);
        s->broken = s->announce = false;
        lock_release(&bus->lock);
}
