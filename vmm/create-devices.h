/* SPDX-License-Identifier: Apache-2.0 */
/* create-devices.h - the devices of a VM that is to be made, as programs say them.
 *
 *   "disks": [ "/abs/file[,OPTIONS]" | { "path": "/abs/file", "read_only": bool } ]
 *   "nets":  [ "TAP[,mac=MAC]"       | { "tap": "TAP", "mac": "MAC" } ]
 *   "vsock":   "/abs/path[,cid=N]"   | { "path": "/abs/path", "cid": N }
 * The texts are those of `vmm run` (machine-config.h); objects become such texts, so that
 * there is one place that understands them.
 *
 * All take what o has under that key, which is untrusted, and is there. Pure but for MAC
 * addresses, which are made up: files of disks are looked for by create_devices_find() only.
 */
#ifndef VMM_CREATE_DEVICES_H
#define VMM_CREATE_DEVICES_H

#include <json-c/json.h>
#include <limits.h>

#include "common/err.h"
#include "vmm/machine-config.h"

/* a path, and an option */
#define CREATE_DISK_MAX (PATH_MAX + 8)

struct create_devices {
        struct machine_config machine;  /* all but the disks */
        unsigned ndisks;
        char disk[MACHINE_DISKS_MAX][CREATE_DISK_MAX + 1];      /* texts */
};

int create_disks(struct json_object *o, const char *key, struct create_devices *d, struct err *e);
int create_nets(struct json_object *o, const char *key, struct create_devices *d, struct err *e);
int create_vsock(struct json_object *o, const char *key, struct create_devices *d, struct err *e);

/* The whole machine: with the disks, whose files must be there. */
int create_devices_find(const struct create_devices *d, struct machine_config *ret,
                        struct err *e);

#endif
