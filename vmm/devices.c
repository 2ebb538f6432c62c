/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/disk/disk.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/tap.h"
#include "vmm/virtio/vsock.h"

static int add_disk(const struct disk_config *d, const int *file, struct virtio_bus *bus,
                    struct err *e)
{
        const struct disk_options how = {
                .path = d->path, .file = file, .read_only = d->read_only, .overlay = d->overlay,
        };
        struct virtio_device *dev;
        struct disk *disk;
        int rc = disk_open(&how, &disk, e);

        if (rc == 0)
                rc = virtio_blk_new(disk, d->id, d->id, &dev, e);
        return rc == 0 ? virtio_bus_add(bus, dev, e) : rc;
}

static int add_disks(const struct machine_config *c, const struct devices_host *host,
                     struct virtio_bus *bus, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; i < c->ndisks && rc == 0; i++)
                rc = add_disk(&c->disk[i], disk_files_at(host->disk_files, i), bus, e);
        return rc;
}

static int add_net(const struct net_config *c, struct virtio_bus *bus, struct err *e)
{
        struct virtio_net_options o = { .name = c->id, .tap = -1 };
        struct virtio_device *dev;

        static_assert(sizeof(o.mac) == sizeof(c->mac), "an Ethernet address");
        memcpy(o.mac, c->mac, sizeof(o.mac));

        int rc = c->tap[0] ? tap_open(c->tap, &o.tap, e) : 0;

        if (rc == 0)
                rc = virtio_net_new(&o, &dev, e);
        return rc == 0 ? virtio_bus_add(bus, dev, e) : rc;
}

static int add_nets(const struct machine_config *c, const struct devices_host *host,
                    struct virtio_bus *bus, struct err *e)
{
        int rc = 0;

        (void)host;
        for (unsigned i = 0; i < c->nnets && rc == 0; i++)
                rc = add_net(&c->net[i], bus, e);
        return rc;
}

static int add_rng(const struct machine_config *c, const struct devices_host *host,
                   struct virtio_bus *bus, struct err *e)
{
        struct virtio_device *dev;

        (void)host;
        if (!c->rng)
                return 0;

        int rc = virtio_rng_new("rng0", &dev, e);

        return rc == 0 ? virtio_bus_add(bus, dev, e) : rc;
}

static int add_balloon(const struct machine_config *c, const struct devices_host *host,
                       struct virtio_bus *bus, struct err *e)
{
        const struct virtio_balloon_options o = { .name = "balloon0", .giveback = host->giveback };
        struct virtio_device *dev;

        if (!c->balloon)
                return 0;

        int rc = virtio_balloon_new(&o, &dev, e);

        return rc == 0 ? virtio_bus_add(bus, dev, e) : rc;
}

static int add_vsock(const struct machine_config *c, const struct devices_host *host,
                     struct virtio_bus *bus, struct err *e)
{
        const struct virtio_vsock_options o = { .name = "vsock0", .cid = c->vsock.cid,
                                                .path = c->vsock.path };
        struct virtio_device *dev;

        (void)host;
        if (!o.cid)
                return 0;

        int rc = virtio_vsock_new(&o, &dev, e);

        return rc == 0 ? virtio_bus_add(bus, dev, e) : rc;
}

/* In the order of slots (machine-config.h) */
static int (*const add[])(const struct machine_config *c, const struct devices_host *host,
                          struct virtio_bus *bus, struct err *e) = {
        add_disks,
        add_nets,
        add_rng,
        add_balloon,
        add_vsock,
};

int devices_make_bus(const struct machine_config *c, const struct devices_host *host,
                     const struct virtio_bus_ops *ops, struct virtio_bus **ret, struct err *e)
{
        struct virtio_bus *bus;

        *ret = NULL;
        if (machine_config_slots(c) == 0)
                return 0;

        int rc = virtio_bus_new(host->kvm, host->ram, ops, &bus, e);

        if (rc < 0)
                return rc;
        for (size_t i = 0; i < ARRAY_SIZE(add) && rc == 0; i++)
                rc = add[i](c, host, bus, e);
        if (rc < 0)
                virtio_bus_free(bus);
        else
                *ret = bus;
        return rc;
}

struct virtio_device *devices_find(struct virtio_bus *bus, const char *kind)
{
        struct virtio_device *dev;

        for (unsigned n = 0; bus && (dev = virtio_bus_device(bus, n)); n++) {
                if (!strcmp(dev->class->kind, kind))
                        return dev;
        }
        return NULL;
}

/* ---- state ----------------------------------------------------------------------- */

struct devices_state {
        struct platform_state platform; /* of a capture */
        struct json_object *doc;        /* of a decode */
        struct virtio_bus_state *virtio;        /* NULL = there is no bus */
};

int devices_state_new(const struct devices *d, struct devices_state **ret, struct err *e)
{
        struct devices_state *state = calloc(1, sizeof(*state));
        int rc = 0;

        if (!state)
                return err_msg(e, ENOMEM, "no memory for the state of the devices");
        platform_capture(d->platform, &state->platform);
        if (d->bus)
                rc = virtio_bus_state_new(d->bus, &state->virtio, e);
        if (rc < 0)
                devices_state_free(state);
        else
                *ret = state;
        return rc;
}

void devices_state_free(struct devices_state *state)
{
        if (!state)
                return;
        virtio_bus_state_free(state->virtio);
        json_object_put(state->doc);
        free(state);
}

void devices_capture(const struct devices *d, struct devices_state *state)
{
        platform_capture(d->platform, &state->platform);
        if (d->bus)
                virtio_bus_capture(d->bus, state->virtio);
}

int devices_encode(const struct devices_state *state, struct json_object **ret, struct err *e)
{
        AUTO_JSON *doc = NULL;
        struct json_object *virtio;
        int rc = platform_encode(&state->platform, &doc, e);

        if (rc == 0 && state->virtio) {
                rc = virtio_bus_encode(state->virtio, &virtio, e);
                if (rc == 0)
                        json_object_object_add(doc, "virtio", virtio);
        }
        if (rc == 0)
                *ret = ptr_take(&doc);
        return rc;
}

static int decode_virtio(const struct devices *d, struct json_object *doc,
                         struct devices_state *state, struct err *e)
{
        struct json_object *list = NULL;
        int rc = 0;

        if (json_object_object_get_ex(doc, "virtio", NULL))
                rc = json_take_array(doc, "virtio", VIRTIO_SLOTS_MAX, &list, e);
        if (rc == 0 && d->bus)
                rc = virtio_bus_decode(d->bus, list, &state->virtio, e);
        else if (rc == 0 && list)
                rc = err_msg(e, EBADMSG, "virtio devices were saved, the machine has none");
        return rc;
}

int devices_decode(const struct devices *d, struct json_object *doc, struct devices_state **ret,
                   struct err *e)
{
        struct devices_state *state = calloc(1, sizeof(*state));

        if (!state)
                return err_msg(e, ENOMEM, "no memory for the state of the devices");
        state->doc = json_object_get(doc);

        int rc = platform_check(doc, e);

        if (rc == 0)
                rc = decode_virtio(d, doc, state, e);
        if (rc < 0)
                devices_state_free(state);
        else
                *ret = state;
        return rc;
}

int devices_apply(const struct devices *d, const struct devices_state *state, struct err *e)
{
        ASSERT(state->doc);

        int rc = platform_load(d->platform, state->doc, e);

        if (rc == 0 && d->bus)
                rc = virtio_bus_apply(d->bus, state->virtio, e);
        if (rc == 0)
                platform_replay_lines(d->platform);
        return rc;
}
