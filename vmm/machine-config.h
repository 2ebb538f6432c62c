/* SPDX-License-Identifier: Apache-2.0 */
/* machine-config.h - what devices a VM has: what `vmm run` and the API are told, what is
 * saved with it and what a revert builds again.
 *
 * Plain values. The order of devices is that of their virtio slots, and never changes in the
 * life of a guest: disks, nets, rng, balloon, vsock.
 * JSON (section META, key "machine", and bodies of the API):
 *   { "disks": [ { "id", "path", "read_only" } ], "nets": [ { "id", "tap", "mac" } ],
 *     "rng": true, "balloon": true, "vsock": { "cid", "path" }, "vmgenid": true }
 * A VM saved before there were devices has none of these keys and no device.
 */
#ifndef VMM_MACHINE_CONFIG_H
#define VMM_MACHINE_CONFIG_H

#include <json-c/json.h>
#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "common/err.h"

#define MACHINE_DISKS_MAX 6
#define MACHINE_NETS_MAX 3
#define MACHINE_ID_MAX 15

struct disk_config {
        char id[MACHINE_ID_MAX + 1];    /* "disk0": also the serial number that the guest sees */
        char path[PATH_MAX];            /* absolute */
        bool read_only;
        bool overlay;                   /* of this VM's process alone: never written in place */
};

struct net_config {
        char id[MACHINE_ID_MAX + 1];    /* "net0" */
        char tap[IFNAMSIZ];             /* "" = none: the link is down */
        uint8_t mac[6];
};

struct vsock_config {
        uint32_t cid;                   /* 0 = no vsock; else at least 3 */
        /* "" = no host side: nobody can be reached */
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

struct machine_config {
        unsigned ndisks, nnets;
        struct disk_config disk[MACHINE_DISKS_MAX];
        struct net_config net[MACHINE_NETS_MAX];
        bool rng, balloon, vmgenid;
        struct vsock_config vsock;
};

/* The number of virtio devices. */
unsigned machine_config_slots(const struct machine_config *c);

/* Of the command line. Relative paths become absolute ones. The sentence names the remedy. */
int machine_config_add_disk(struct machine_config *c, const char *arg, struct err *e);
/* TAP[,mac=XX:XX:XX:XX:XX:XX]; a MAC address that is not given is made up: local, random. */
int machine_config_add_net(struct machine_config *c, const char *arg, struct err *e);
/* PATH[,cid=N] */
int machine_config_set_vsock(struct machine_config *c, const char *arg, struct err *e);

/* Of a machine that is built again, where its host's side is another: "net0=TAP", or
 * "net0=none" for a link that is down; PATH or "none" for the sockets. */
int machine_config_change_net(struct machine_config *c, const char *arg, struct err *e);
int machine_config_change_vsock(struct machine_config *c, const char *arg, struct err *e);
/* Of a copy beside its original: it cannot share taps and sockets, and has none. */
void machine_config_unplug(struct machine_config *c);

void machine_config_encode(const struct machine_config *c, struct json_object *into);
/* Untrusted. Keys that are absent mean none. */
int machine_config_decode(struct json_object *from, struct machine_config *ret, struct err *e);

#endif
