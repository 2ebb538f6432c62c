/* SPDX-License-Identifier: Apache-2.0 */
/* revert.h - an image becomes a migration stream for QEMU. */
#ifndef PAGESERVER_ADAPTERS_QEMU_REVERT_H
#define PAGESERVER_ADAPTERS_QEMU_REVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/named.h"
#include "pageserver/adapters/qemu/transport.h"
#include "qcowstore/store.h"

struct revert_options {
        const char *image;
        struct qs_open_options open;    /* tag and allow_parent */
        struct named_list page_size;    /* overrides what the image says of a block */
        bool postcopy;
        unsigned percent;               /* of RAM that goes ahead of the guest's start */
        bool recover;                   /* a postcopy that was interrupted; postcopy is set */
        uint64_t prefetch_rate;         /* common/rate.h */
        bool record;                    /* what was asked for becomes the working set */
        unsigned record_seconds;        /* 0 = all of it */
};

/* 0 or a negative errno with a sentence. t->wrote tells the caller, who then calls
 * transport_refuse(), whether QEMU has got anything. */
int qemu_revert(const struct revert_options *o, struct transport *t, struct err *e);

#endif
