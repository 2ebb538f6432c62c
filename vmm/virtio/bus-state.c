/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state of the devices: capture, document, checks, apply. */
#include <errno.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/hex.h"
#include "vmm/virtio/slot-priv.h"

#define DEVICE_VERSION 1
#define INT_CONFIG 2u

struct device_state {
        const struct virtio_device *dev;
        struct virtio_regs regs;
        uint8_t config[VIRTIO_CONFIG_BYTES_MAX];
        uint8_t class[VIRTIO_STATE_BYTES_MAX] __attribute__((aligned(8)));
};

struct virtio_bus_state {
        unsigned ndevices;
        struct device_state device[];
};

int virtio_bus_state_new(const struct virtio_bus *bus, struct virtio_bus_state **ret,
                         struct err *e)
{
        size_t bytes = sizeof(**ret) + bus->nslots * sizeof((*ret)->device[0]);
        struct virtio_bus_state *state = malloc(bytes);

        if (!state)
                return err_msg(e, ENOMEM, "no memory for the state of the virtio devices");
        memset(state, 0, bytes);                /* touched, so that the pause need not */
        state->ndevices = bus->nslots;
        for (unsigned i = 0; i < bus->nslots; i++)
                state->device[i].dev = bus->slot[i]->dev;
        *ret = state;
        return 0;
}

void virtio_bus_state_free(struct virtio_bus_state *state)
{
        free(state);
}

static void capture(struct virtio_slot *s, bool live, struct device_state *ret)
{
        struct virtio_device *dev = s->dev;

        lock_acquire(&dev->lock);
        ret->regs = s->regs;
        memcpy(ret->config, dev->config, dev->config_bytes);
        lock_release(&dev->lock);
        for (unsigned q = 0; live && q < dev->class->nqueues; q++)
                ret->regs.queue[q] = dev->queue[q].s;
        if (dev->class->capture)
                dev->class->capture(dev, ret->class);
}

void virtio_bus_capture(struct virtio_bus *bus, struct virtio_bus_state *state)
{
        for (unsigned i = 0; i < bus->nslots; i++) {
                struct virtio_slot *s = bus->slot[i];

                lock_acquire(&bus->lock);
                bool live = s->live;

                ASSERT(bus->held && !s->running);
                lock_release(&bus->lock);
                capture(s, live, &state->device[i]);
        }
}

/* ---- document ---------------------------------------------------------------- */

static struct json_object *encode_queue(const struct vq_state *q)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "size", q->size);
        json_put_bool(o, "ready", q->ready);
        json_put_u64(o, "desc", q->desc_gpa);
        json_put_u64(o, "avail", q->avail_gpa);
        json_put_u64(o, "used", q->used_gpa);
        json_put_u64(o, "next_avail", q->next_avail);
        json_put_u64(o, "next_used", q->next_used);
        if (q->signalled_valid)
                json_put_u64(o, "signalled_used", q->signalled_used);
        return o;
}

static int decode_queue(struct json_object *o, struct vq_state *ret, struct err *e)
{
        uint64_t size, next_avail, next_used, signalled = 0;
        int rc = json_take_u64(o, "size", UINT16_MAX, &size, e);

        if (rc == 0)
                rc = json_take_bool(o, "ready", &ret->ready, e);
        if (rc == 0)
                rc = json_take_u64(o, "desc", UINT64_MAX, &ret->desc_gpa, e);
        if (rc == 0)
                rc = json_take_u64(o, "avail", UINT64_MAX, &ret->avail_gpa, e);
        if (rc == 0)
                rc = json_take_u64(o, "used", UINT64_MAX, &ret->used_gpa, e);
        if (rc == 0)
                rc = json_take_u64(o, "next_avail", UINT16_MAX, &next_avail, e);
        if (rc == 0)
                rc = json_take_u64(o, "next_used", UINT16_MAX, &next_used, e);
        ret->signalled_valid = json_object_object_get_ex(o, "signalled_used", NULL);
        if (rc == 0 && ret->signalled_valid)
                rc = json_take_u64(o, "signalled_used", UINT16_MAX, &signalled, e);
        if (rc < 0)
                return rc;
        ret->size = (uint16_t)size;
        ret->next_avail = (uint16_t)next_avail;
        ret->next_used = (uint16_t)next_used;
        ret->signalled_used = (uint16_t)signalled;
        return 0;
}

static const struct {
        const char *key;
        size_t offset;
} words[] = {
        { "status", offsetof(struct virtio_regs, status) },
        { "device_features_sel", offsetof(struct virtio_regs, device_features_sel) },
        { "driver_features_sel", offsetof(struct virtio_regs, driver_features_sel) },
        { "queue_sel", offsetof(struct virtio_regs, queue_sel) },
        { "interrupt_status", offsetof(struct virtio_regs, interrupt_status) },
        { "config_generation", offsetof(struct virtio_regs, config_generation) },
};

static uint32_t *word_of(struct virtio_regs *r, size_t i)
{
        return (uint32_t *)((uint8_t *)r + words[i].offset);
}

static void encode_regs(const struct device_state *d, struct json_object *o)
{
        struct virtio_regs regs = d->regs;
        struct json_object *queues = json_object_new_array();

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                json_put_u64(o, words[i].key, *word_of(&regs, i));
        json_put_u64(o, "features", regs.driver_features);
        for (unsigned q = 0; q < d->dev->class->nqueues; q++)
                json_object_array_add(queues, encode_queue(&regs.queue[q]));
        json_object_object_add(o, "queues", queues);
}

static int decode_queues(struct json_object *o, struct device_state *d, struct err *e)
{
        struct json_object *queues;
        int rc = json_take_array(o, "queues", VIRTIO_QUEUES_MAX, &queues, e);

        if (rc == 0 && json_object_array_length(queues) != d->dev->class->nqueues)
                rc = err_msg(e, EBADMSG, "it has %zu queues, not %u",
                             json_object_array_length(queues), d->dev->class->nqueues);
        for (unsigned q = 0; rc == 0 && q < d->dev->class->nqueues; q++)
                rc = decode_queue(json_object_array_get_idx(queues, q), &d->regs.queue[q], e);
        return rc;
}

static int check_features(const struct device_state *d, struct err *e)
{
        uint64_t missing = d->regs.driver_features & ~d->dev->host_features;

        if (!missing)
                return 0;

        unsigned bit = (unsigned)__builtin_ctzll(missing);
        const struct virtio_class *class = d->dev->class;
        const char *name = class->feature_name ? class->feature_name(bit) : NULL;

        if (name)
                return err_msg(e, ENOTSUP, "the guest uses %s, which this host does not have",
                               name);
        return err_msg(e, ENOTSUP, "the guest uses features %#llx of it that it does not have "
                       "here", (unsigned long long)missing);
}

static int decode_regs(struct json_object *o, struct device_state *d, struct err *e)
{
        int rc = 0;

        for (size_t i = 0; i < ARRAY_SIZE(words) && rc == 0; i++) {
                uint64_t v = 0;

                rc = json_take_u64(o, words[i].key, UINT32_MAX, &v, e);
                *word_of(&d->regs, i) = (uint32_t)v;
        }
        if (rc == 0)
                rc = json_take_u64(o, "features", UINT64_MAX, &d->regs.driver_features, e);
        if (rc == 0)
                rc = check_features(d, e);
        return rc == 0 ? decode_queues(o, d, e) : rc;
}

static int encode_device(const struct device_state *d, struct json_object **ret, struct err *e)
{
        const struct virtio_class *class = d->dev->class;
        AUTO_JSON *o = json_object_new_object();
        int rc = 0;

        json_put_str(o, "name", d->dev->name);
        json_put_str(o, "kind", class->kind);
        json_put_u64(o, "version", DEVICE_VERSION);
        encode_regs(d, o);
        if (hex_put(o, "config", d->config, d->dev->config_bytes) < 0)
                return err_msg(e, ENOMEM, "no memory for its configuration");
        if (rc == 0 && class->encode) {
                struct json_object *own = json_object_new_object();

                json_object_object_add(o, "own", own);
                rc = class->encode(d->class, own, e);
        }
        if (rc == 0)
                *ret = ptr_take(&o);
        return rc;
}

int virtio_bus_encode(const struct virtio_bus_state *state, struct json_object **ret,
                      struct err *e)
{
        AUTO_JSON *all = json_object_new_array();

        for (unsigned i = 0; i < state->ndevices; i++) {
                struct json_object *o = NULL;
                int rc = encode_device(&state->device[i], &o, e);

                if (rc < 0)
                        return err_in(e, rc, "device %s", state->device[i].dev->name);
                json_object_array_add(all, o);
        }
        *ret = ptr_take(&all);
        return 0;
}

static int check_kind(struct json_object *o, const struct virtio_device *dev, struct err *e)
{
        const char *kind;
        uint64_t version;
        int rc = json_take_str(o, "kind", &kind, e);

        if (rc == 0)
                rc = json_take_u64(o, "version", UINT32_MAX, &version, e);
        if (rc < 0)
                return rc;
        if (strcmp(kind, dev->class->kind))
                return err_msg(e, EBADMSG, "a '%s' was saved where a '%s' is", kind,
                               dev->class->kind);
        if (version > DEVICE_VERSION)
                return err_msg(e, ENOTSUP, "it was saved by a newer version of vmm: revert with "
                               "that version");
        return 0;
}

static int decode_config(struct json_object *o, struct device_state *d, struct err *e)
{
        size_t bytes;
        int rc = hex_take(o, "config", d->dev->config_bytes, d->config, &bytes, e);

        if (rc == 0 && bytes != d->dev->config_bytes)
                rc = err_msg(e, EBADMSG, "its configuration has %zu bytes, not %u", bytes,
                             d->dev->config_bytes);
        return rc;
}

static int decode_device(struct json_object *o, struct device_state *d, struct err *e)
{
        const struct virtio_class *class = d->dev->class;
        struct json_object *own;
        int rc = check_kind(o, d->dev, e);

        if (rc == 0)
                rc = decode_regs(o, d, e);
        if (rc == 0)
                rc = decode_config(o, d, e);
        if (rc == 0 && class->decode) {
                rc = json_take_obj(o, "own", &own, e);
                if (rc == 0)
                        rc = class->decode(own, d->class, e);
        }
        return rc;
}

static int decode_all(struct json_object *devices, struct virtio_bus_state *state, struct err *e)
{
        size_t n = devices ? json_object_array_length(devices) : 0;

        if (n != state->ndevices)
                return err_msg(e, EBADMSG, "the state of %zu virtio devices was saved, the "
                               "machine has %u", n, state->ndevices);
        for (unsigned i = 0; i < state->ndevices; i++) {
                int rc = decode_device(json_object_array_get_idx(devices, i), &state->device[i],
                                       e);

                if (rc < 0)
                        return err_in(e, rc, "saved device %s", state->device[i].dev->name);
        }
        return 0;
}

int virtio_bus_decode(const struct virtio_bus *bus, struct json_object *devices,
                      struct virtio_bus_state **ret, struct err *e)
{
        struct virtio_bus_state *state;
        int rc = virtio_bus_state_new(bus, &state, e);

        if (rc < 0)
                return rc;
        rc = decode_all(devices, state, e);
        if (rc < 0)
                virtio_bus_state_free(state);
        else
                *ret = state;
        return rc;
}

/* ---- into the devices ---------------------------------------------------------- */

static int apply(struct virtio_slot *s, const struct device_state *d, struct err *e)
{
        struct virtio_device *dev = s->dev;
        bool ok = d->regs.status & VIRTIO_CONFIG_S_DRIVER_OK;
        bool broken = d->regs.status & VIRTIO_CONFIG_S_NEEDS_RESET;
        int rc = 0;

        slot_want(s, false);            /* what it was before, if it was anything */
        lock_acquire(&dev->lock);
        s->regs = d->regs;
        memcpy(dev->config, d->config, dev->config_bytes);
        lock_release(&dev->lock);
        dev->features = d->regs.driver_features;
        if (dev->class->apply)
                rc = dev->class->apply(dev, d->class, e);
        if (rc < 0)
                return err_in(e, rc, "device %s", dev->name);

        /* what apply has changed, the driver looks at again */
        if (ok)
                __atomic_fetch_or(&s->regs.interrupt_status, INT_CONFIG, __ATOMIC_ACQ_REL);
        lock_acquire(&s->bus->lock);
        s->wanted = ok;
        s->broken = broken;
        s->announce = true;
        if (broken)
                snprintf(s->why, sizeof(s->why), "it was broken when the VM was saved");
        lock_release(&s->bus->lock);
        return 0;
}

int virtio_bus_apply(struct virtio_bus *bus, const struct virtio_bus_state *state, struct err *e)
{
        int rc = 0;

        ASSERT(state->ndevices == bus->nslots);
        for (unsigned i = 0; i < bus->nslots && rc == 0; i++)
                rc = apply(bus->slot[i], &state->device[i], e);
        return rc;
}
