/* SPDX-License-Identifier: Apache-2.0 */
/* writer-priv.h - an image in the making. RAM first (writer-ram.c), straight
 * into the file; everything else waits in memory until qs_writer_publish()
 * (writer-tables.c) knows where all of it goes.
 */
#ifndef QCOWSTORE_WRITER_PRIV_H
#define QCOWSTORE_WRITER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/delta.h"
#include "qcowstore/publish.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/store.h"

struct qs_writer {
        /* constant after qs_writer_new() */
        struct qs_writer_options options;
        struct publish *publish;
        unsigned cluster_bits;
        uint64_t cluster_bytes;
        uint64_t seed;
        struct delta *delta;            /* over a parent; NULL = none */
        uint64_t disk_l1;
        uint32_t refs_max;              /* of a content; tests lower it */
        /* one per L1 entry of the disk: NULL = all zero, else an L2 table and,
         * behind it, the block of CHECKSUMS for the same clusters; host-endian.
         * Put there by the first thread that needs it. */
        uint64_t *_Atomic *tables;
        /* per host cluster, `room` of them; each written by the thread that
         * writes the cluster, refs by the placer */
        uint32_t *refs;
        uint64_t *hostsums;
        uint64_t room;
        /* one thread at a time */
        uint64_t used;                  /* host clusters, header included */
        bool ram_done;
        bool published;
        unsigned sections;
        struct section section[QS_SECTIONS_MAX];        /* name and bytes only */
        void *section_data[QS_SECTIONS_MAX];
        struct qs_writer_stats stats;
};

/* grows refs and hostsums to at least so many host clusters */
int writer_make_room(struct qs_writer *w, uint64_t clusters, struct err *e);

#endif
