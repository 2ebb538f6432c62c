/* SPDX-License-Identifier: Apache-2.0 */
/* peer-firecracker.h - what a Firecracker door offers to who comes in. */
#ifndef PAGESERVER_PEER_FIRECRACKER_H
#define PAGESERVER_PEER_FIRECRACKER_H

#include <stdbool.h>

#include "pageserver/fcimage.h"
#include "pageserver/peer.h"

/* A page that cannot be read is wanted, and the guest cannot be told. */
enum fc_on_bad {
        FC_BAD_WAIT,            /* its thread waits; tried again every second */
        FC_BAD_POISON,          /* its thread gets SIGBUS (Linux 6.6)         */
        FC_BAD_KILL,            /* Firecracker is killed                      */
};

struct fc_offer {
        struct fcimage *image;
        enum fc_on_bad on_bad;
        bool kill_on_error;     /* a Firecracker that is not served is killed */
};

/* offer: struct fc_offer */
extern const struct peer_ops peer_firecracker;

#endif
