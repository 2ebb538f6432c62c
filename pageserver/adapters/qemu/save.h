/* SPDX-License-Identifier: Apache-2.0 */
/* save.h - a migration stream of QEMU's becomes an image. */
#ifndef PAGESERVER_ADAPTERS_QEMU_SAVE_H
#define PAGESERVER_ADAPTERS_QEMU_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/named.h"
#include "pageserver/adapters/qemu/transport.h"
#include "qcowstore/store.h"

/* what the stream may take of memory for pages that came again */
#define SAVE_MEMORY_DEFAULT (1ull << 30)

struct save_options {
        const char *image;              /* the name to be given */
        struct qs_writer_options writer; /* all but disk_bytes; as vmm's commands have it */
        uint64_t ram_split;             /* RAM below 4 GiB; 0 = the machine's rule */
        struct named_list map;          /* a block's guest-physical address */
        struct named_list page_size;    /* a block's page size, which the stream lacks */
        uint64_t memory_bytes;          /* of late pages */
        bool sync;                      /* end when the image is there, not when all is read */
        bool foreground;                /* a file is imported: no fork, no status file, and
                                         * an error need not wait for the end of the input */
};

/* 0 or a negative errno with a sentence. What it does when, and what QEMU is told, is
 * save.c's theory of operation. */
int qemu_save(const struct save_options *o, struct transport *t, struct err *e);
/* It failed before that: saver_refuse() in a process of its own, so that this one can end
 * and say why. */
void qemu_save_refuse(struct transport *t);

#endif
