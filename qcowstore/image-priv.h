/* SPDX-License-Identifier: Apache-2.0 */
/* image-priv.h - an open image as reader and checker see it.
 *
 * Theory of operation
 *
 * open reads sector 0, both L1 tables, the snapshot table, the section table
 * and the first levels of the two sum trees: that much is constant in the RAM
 * size but for the L1. Everything else is read when first used.
 *
 * What is read from the VM-state area is always verified by a sum of its own
 * (section table, first level, block), so image_state_read() may find its way
 * through an L2 table that nobody vouched for yet; that breaks the circle that
 * HOSTSUMS, which vouches for L2 tables, is itself found through one. L2 tables
 * of the disk are verified against HOSTSUMS and cached.
 *
 * INV-VERIFIED: no byte of guest RAM or of a section leaves qcowstore unless
 *               it matches its sum.
 * INV-ONCE:     an L2 table or a block of sums, once published through its
 *               atomic pointer, never changes and lives as long as the image;
 *               so readers need no lock.
 */
#ifndef QCOWSTORE_IMAGE_PRIV_H
#define QCOWSTORE_IMAGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/store.h"
#include "qcowstore/sumtree.h"

struct qs_image {
        /* constant after qs_image_open() */
        int fd;
        char *path;                     /* for messages */
        struct imghdr hdr;
        uint64_t cluster_bytes;
        uint64_t bound;                 /* file size rounded up to a cluster */
        uint64_t disk_clusters;
        uint64_t disk_l1;               /* L1 entries of the disk part */
        struct snapshot *snapshots;
        size_t snaptable_bytes;
        const struct snapshot *snapshot;        /* the one opened; NULL in a file without any */
        uint64_t *l1;                   /* host-endian, validated */
        struct sectoc toc;
        struct sumtree *checksums;      /* NULL in a foreign file */
        struct sumtree *hostsums;
        struct qs_image_info info;
        /* any thread; NULL -> a validated host-endian table, once (INV-ONCE) */
        uint64_t *_Atomic *l2;
};

/* whole or an error that says what was to be read */
int image_pread(const struct qs_image *m, void *buf, size_t bytes, uint64_t offset,
                const char *what, struct err *e);
/* reads whole host clusters and compares them with HOSTSUMS */
int image_pread_verified(const struct qs_image *m, void *buf, uint64_t offset,
                         uint64_t clusters, const char *what, struct err *e);
/* a sumtree_read_fn; ctx is the image. Unverified: the caller has a sum. */
int image_state_read(void *ctx, uint64_t offset, void *buf, size_t bytes, struct err *e);
/* where a cluster of the VM-state area is in the file */
int image_state_locate(const struct qs_image *m, uint64_t cluster, uint64_t *ret_offset,
                       struct err *e);
/* The L2 entry of a guest cluster, validated. */
int image_l2_entry(struct qs_image *m, uint64_t cluster, uint64_t *ret, struct err *e);
/* header and snapshot table only; *m is zeroed memory to be closed also on failure */
int image_open_tables(struct qs_image *m, int fd, const char *path, struct err *e);

#endif
