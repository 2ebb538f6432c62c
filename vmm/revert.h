/* SPDX-License-Identifier: Apache-2.0 */
/* revert.h - a VM out of an image: loaded whole, or at once with a page server behind it. */
#ifndef VMM_REVERT_H
#define VMM_REVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/client.h"
#include "vmm/meta.h"
#include "vmm/vm.h"

struct revert_options {
        const char *image_path;
        const char *tag;                /* NULL = default */
        const char *allow_parent;       /* a folder in which parents may lie; NULL = none */
        bool postcopy;
        unsigned hold_percent;          /* of RAM that is loaded before the guest runs */
        enum ps_lane lane;
        bool hugepages;                 /* RAM of hugetlbfs; with postcopy the copy lane */
        uint64_t prefetch_rate;
        const char *pageserver;         /* socket of a running daemon; NULL = private */
        bool record;                    /* what the guest touches first, into the image */
        unsigned record_seconds;        /* 0 = when asked, or at the end */
        /* the host's side of devices, where it is another than when the VM was saved:
         * machine_config_change_net(), _vsock(); NULL = as it was */
        const char *net[MACHINE_NETS_MAX];
        unsigned nnets;
        const char *vsock;
        struct disks_wish disks;
};

struct revert;

/* Opens the image and reads META: enough to know name and size. A private page
 * server is not started yet. */
int revert_open(const struct revert_options *options, struct revert **ret, struct err *e);
void revert_close(struct revert *r);
const struct meta *revert_meta(const struct revert *r);

/* ---- before it is asked for ----
 *
 * A process that has nothing else to do takes a guess: it reads the image and its state, maps
 * RAM and has it served (revert-ahead.c). Nobody is kept from changing the image meanwhile. */

/* Opens the image as revert_open() does, for what is not asked for yet: nothing is decided
 * that depends on the host's side of devices. -EINVAL: such a revert cannot be begun. */
int revert_foresee(const struct revert_options *options, struct revert **ret, struct err *e);
/* The rest. kvm has been created, ram is what it knows of, reserved, and is mapped; server is
 * taken. After a failure, as after revert_claim(), ram_empty() and revert_close() are the
 * caller's. */
int revert_ahead(struct revert *r, const struct kvm *kvm, struct ram *ram,
                 struct ps_client *server, struct err *e);
/* Now it is asked for: r is as if revert_open() had returned it. -ESTALE: something else is,
 * or the image is not what it was. What options point to has to live as long as with that. */
int revert_claim(struct revert *r, const struct revert_options *options, struct err *e);

/* launch_build_fn; ctx is the struct revert */
int revert_build(struct vm *vm, void *ctx, struct err *e);

#endif
