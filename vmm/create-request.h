/* SPDX-License-Identifier: Apache-2.0 */
/* create-request.h - what a VM is to be made of, as programs say it: the body of POST /create
 * (vmm serve), which a VM's process gets as it is, and of PUT /snapshot/load.
 *
 *   { "name": "...",             absent: one is made up
 *     "resume": bool,            false: the guest stands still at first; default true
 *     "console": "/abs/file",
 *     "hugepages": bool,
 *   out of a snapshot:
 *     "snapshot": "/abs/file", "tag": "...", "allow_parent": "/abs/folder",
 *     "postcopy": bool | PERCENT,
 *     "net_changes": [ "net0=TAP" ], "vsock_change": "PATH",     as revert --net, --vsock
 *     "disk_changes": [ "disk0=/abs/file" ], "disk_mode": "overlay" | "inplace",
 *   and with postcopy:
 *     "prefetch": "on" | "off" | RATE, "lane": "shared" | "copy",
 *     "pageserver": "/abs/socket"
 *   or fresh:
 *     "demo": true, or "kernel": "/abs/file" and "initrd": "/abs/file",
 *     "cmdline": "...", "memory": BYTES | "256M", "cpus": N,
 *     "disks", "nets", "vsock": create-devices.h, "rng": bool, "balloon": bool,
 *     "vmgenid": bool }
 *
 * In PUT /snapshot/load the snapshot is "snapshot_path", "resume_vm" another word for
 * "resume", and there is nothing fresh, no name and no console.
 * A key that is not one of these is refused: it would be a wish that is not heard.
 *
 * Pure functions; text is untrusted. What they return has checked lengths, absolute paths,
 * a name that is "" or may be one, and options that go together.
 */
#ifndef VMM_CREATE_REQUEST_H
#define VMM_CREATE_REQUEST_H

#include <json-c/json.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "common/err.h"
#include "pageserver/client.h"
#include "qcowstore/store.h"
#include "vmm/create-devices.h"
#include "vmm/rundir.h"

#define CREATE_CMDLINE_MAX 2000
/* an id, '=', the name of a device */
#define CREATE_NET_CHANGE_MAX (MACHINE_ID_MAX + 1 + IFNAMSIZ)
#define CREATE_DISK_CHANGE_MAX (MACHINE_ID_MAX + PATH_MAX + 16)

struct create_snapshot {
        char path[PATH_MAX];            /* "" = fresh */
        char tag[QS_TAG_MAX + 1];       /* "" = default */
        char allow_parent[PATH_MAX];    /* "" = none */
        bool postcopy;
        unsigned hold_percent;
        enum ps_lane lane;
        uint64_t prefetch_rate;
        unsigned nnets, ndisks;
        char disk[MACHINE_DISKS_MAX][CREATE_DISK_CHANGE_MAX + 1];
        bool disks_in_place;
        char net[MACHINE_NETS_MAX][CREATE_NET_CHANGE_MAX + 1];
        char vsock[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "" = as it was */
        char pageserver[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "" = private */
};

struct create_fresh {
        bool demo;
        char kernel[PATH_MAX];          /* "" with demo */
        char initrd[PATH_MAX];          /* "" = none */
        char cmdline[CREATE_CMDLINE_MAX + 1];
        uint64_t memory_bytes;
        unsigned cpus;
        struct create_devices devices;
};

struct create_request {
        char name[VM_NAME_MAX + 1];
        char console[PATH_MAX];         /* "" = none */
        bool resume;
        bool hugepages;
        struct create_snapshot snapshot;
        struct create_fresh fresh;
};

/* -EINVAL, -EBADMSG or -ENAMETOOLONG with a sentence that names the key. */
int create_request_parse(const char *text, size_t bytes, struct create_request *ret,
                         struct err *e);
int create_request_decode(struct json_object *o, struct create_request *ret, struct err *e);
/* PUT /snapshot/load */
int create_request_parse_load(const char *text, size_t bytes, struct create_request *ret,
                              struct err *e);

#endif
