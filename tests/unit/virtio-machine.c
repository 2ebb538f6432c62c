/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/virtio-machine.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "tests/unit/suite.h"
#include "vmm/starter.h"

#define RING_GPA 0x10000u
#define DATA_GPA 0x80000u

/* ---- a device: answers each request with the number of requests so far ------------- */

static struct counter *counter_of(struct virtio_device *dev)
{
        return (struct counter *)dev;
}

static int counter_start(struct virtio_device *dev, struct err *e)
{
        struct counter *c = counter_of(dev);

        c->drained = false;
        c->starts++;
        return c->fail_start ? err_msg(e, EIO, "no such luck") : 0;
}

static void counter_kick(struct virtio_device *dev, unsigned queue)
{
        struct counter *c = counter_of(dev);
        struct vq_chain chain;
        struct err e;
        int rc;

        c->touched++;
        if (c->drained)
                c->touched_while_drained = true;
        while ((rc = vq_pop(&dev->queue[queue], &chain, &e)) == 1) {
                c->n++;
                vq_write(&chain, 0, &c->n, sizeof(c->n));
                vq_push(&dev->queue[queue], chain.head, sizeof(c->n));
        }
        if (rc < 0)
                virtio_device_broken(dev, &e);
        else
                virtio_signal(dev, queue);
}

static void counter_drain(struct virtio_device *dev)
{
        counter_of(dev)->drained = true;
}

static void counter_resume(struct virtio_device *dev)
{
        counter_of(dev)->drained = false;
}

static void counter_stop(struct virtio_device *dev)
{
        counter_of(dev)->stops++;
}

static void counter_capture(struct virtio_device *dev, void *state)
{
        memcpy(state, &counter_of(dev)->n, sizeof(uint64_t));
}

static int counter_encode(const void *state, struct json_object *into, struct err *e)
{
        uint64_t n;

        (void)e;
        memcpy(&n, state, sizeof(n));
        json_put_u64(into, "n", n);
        return 0;
}

static int counter_decode(struct json_object *from, void *ret_state, struct err *e)
{
        uint64_t n = 0;
        int rc = json_take_u64(from, "n", UINT32_MAX, &n, e);

        memcpy(ret_state, &n, sizeof(n));
        return rc;
}

static int counter_apply(struct virtio_device *dev, const void *state, struct err *e)
{
        (void)e;
        memcpy(&counter_of(dev)->n, state, sizeof(uint64_t));
        return 0;
}

static void counter_free(struct virtio_device *dev)
{
        lock_fini(&dev->lock);
        free(dev);
}

static const struct virtio_class counter_class = {
        .kind = "counter", .id = 63, .nqueues = 1, .queue_size = COUNTER_QUEUE_SIZE,
        .features = 1u << COUNTER_FEATURE,
        .start = counter_start, .kick = counter_kick, .drain = counter_drain,
        .resume = counter_resume, .stop = counter_stop,
        .state_bytes = sizeof(uint64_t), .capture = counter_capture, .encode = counter_encode,
        .decode = counter_decode, .apply = counter_apply, .free = counter_free,
};

static struct counter *counter_new(const char *name)
{
        struct counter *c = calloc(1, sizeof(*c));

        CU_ASSERT_FATAL(c != NULL);
        c->dev.class = &counter_class;
        c->dev.host_features = counter_class.features;
        c->dev.config_bytes = 8;
        memcpy(c->dev.config, "ABCDEFGH", 8);
        lock_init(&c->dev.lock);
        snprintf(c->dev.name, sizeof(c->dev.name), "%s", name);
        return c;
}

/* ---- a machine with two of them ------------------------------------------------------ */

static void on_broken(void *ctx, const char *name, const char *why)
{
        struct machine *m = ctx;

        (void)name, (void)why;
        m->broken++;
}

void machine_bus(struct machine *m)
{
        const struct virtio_bus_ops ops = {
                .broken = on_broken, .ctx = m, .starter = m->starter,
        };
        struct err e;

        CU_ASSERT_EQUAL_FATAL(virtio_bus_new(m->kvm, &m->ram, &ops, &m->bus, &e), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(m->c); i++) {
                m->c[i] = counter_new(i ? "b" : "a");
                CU_ASSERT_EQUAL_FATAL(virtio_bus_add(m->bus, &m->c[i]->dev, &e), 0);
        }
}

void machine_init(struct machine *m)
{
        memset(m, 0, sizeof(*m));
        CU_ASSERT_EQUAL_FATAL(starter_new(SANDBOX_ON, &m->starter, NULL), 0);
        vqguest_ram_init(&m->ram, MACHINE_RAM_BYTES);
        machine_bus(m);
}

void machine_fini(struct machine *m)
{
        virtio_bus_free(m->bus);
        starter_free(m->starter);
        vqguest_ram_fini(&m->ram);
}

void put(struct machine *m, unsigned slot, uint32_t offset, uint32_t value)
{
        CU_ASSERT(virtio_bus_mmio(m->bus, virtio_window_gpa(slot) + offset, &value, 4, true));
}

uint32_t get(struct machine *m, unsigned slot, uint32_t offset)
{
        uint32_t value = 0xdeadbeef;

        CU_ASSERT(virtio_bus_mmio(m->bus, virtio_window_gpa(slot) + offset, &value, 4, false));
        return value;
}

void held(struct machine *m)
{
        struct err e;

        virtio_bus_hold(m->bus);
        CU_ASSERT_EQUAL(virtio_bus_wait_held(m->bus, clock_now_ns() + PATIENCE_NS, &e), 0);
}

void set_up(struct machine *m, unsigned slot, struct vqguest *g)
{
        struct virtqueue q;

        put(m, slot, VIRTIO_MMIO_STATUS, 0);
        put(m, slot, VIRTIO_MMIO_STATUS, 3);
        put(m, slot, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        put(m, slot, VIRTIO_MMIO_DRIVER_FEATURES, 1u << COUNTER_FEATURE);
        put(m, slot, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        put(m, slot, VIRTIO_MMIO_DRIVER_FEATURES, 1);
        put(m, slot, VIRTIO_MMIO_STATUS, 11);
        CU_ASSERT_EQUAL(get(m, slot, VIRTIO_MMIO_STATUS), 11);
        vqguest_init(g, &m->ram, RING_GPA + slot * 0x10000, COUNTER_QUEUE_SIZE, &q);
        put(m, slot, VIRTIO_MMIO_QUEUE_SEL, 0);
        put(m, slot, VIRTIO_MMIO_QUEUE_NUM, COUNTER_QUEUE_SIZE);
        put(m, slot, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q.s.desc_gpa);
        put(m, slot, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q.s.avail_gpa);
        put(m, slot, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q.s.used_gpa);
        put(m, slot, VIRTIO_MMIO_QUEUE_READY, 1);
        CU_ASSERT_EQUAL(get(m, slot, VIRTIO_MMIO_QUEUE_READY), 1);
        put(m, slot, VIRTIO_MMIO_STATUS, 15);
}

void ask(struct machine *m, unsigned slot, struct vqguest *g)
{
        const struct vqguest_buf buf = { DATA_GPA + slot * 0x1000, 8, true };

        vqguest_add(g, &buf, 1);
        put(m, slot, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

static uint64_t answer_now(struct machine *m, unsigned slot, struct vqguest *g)
{
        uint32_t written;
        uint16_t head;
        uint64_t n = 0;

        if (vqguest_used(g, &head, &written))
                memcpy(&n, ram_at(&m->ram, DATA_GPA + slot * 0x1000, 8), 8);
        return n;
}

uint64_t answer(struct machine *m, unsigned slot, struct vqguest *g)
{
        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
        uint64_t n = 0;

        while (!n && clock_now_ns() < until_ns)
                n = answer_now(m, slot, g);
        return n;
}

bool comes_to_break(struct machine *m)
{
        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;

        while (!m->broken && clock_now_ns() < until_ns)
                ;
        return m->broken == 1;
}
