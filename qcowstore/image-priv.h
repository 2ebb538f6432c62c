/* SPDX-License-Identifier: Apache-2.0 */
/* image-priv.h - an open image as reader and checker see it.
 *
 * Theory of operation
 *
 * open reads sector 0, the snapshot table, the VM state's part of the L1, the
 * section table and the first levels of the two sum trees; of these only the
 * one of CHECKSUMS grows with RAM, 4 MiB a TiB at 4 KiB clusters. Everything
 * else is read when first used, the L1 by the cluster, and kept: 8 bytes of L2
 * entry (extended: 16) and 8 of sum a cluster that was ever asked for, in tables
 * of one cluster. That is 0.1 % of the RAM read at 16 KiB, 0.4 % at 4 KiB, less
 * than evicting and its locks or epochs would be worth.
 *
 * What is read from the VM-state area is always verified by a sum of its own
 * (section table, first level, block), so image_state_read() may find its way
 * through an L2 table that nobody vouched for yet; that breaks the circle that
 * HOSTSUMS, which vouches for L1 and L2 tables, is itself found through them.
 * What maps the disk is verified against HOSTSUMS and cached.
 *
 * An image with a backing file is a chain of layers, each an open image: what
 * a layer leaves unallocated is the next one's, and zeros behind the last one
 * or its end. Layers differ in cluster size, version and maker; so a chain is
 * translated in extents of bytes, and read in units, the clusters of the
 * interface: the top layer's, but at least a page. Files of other programs
 * have no sums; what a file of ours adds to a chain is verified. VM state is
 * only ever read through the layer's own L1.
 *
 * INV-VERIFIED: no byte of guest RAM or of a section leaves qcowstore unless
 *               it matches its sum, if its layer is a file of ours.
 * INV-ONCE:     a cluster of L1 or L2 or a block of sums, once published through its
 *               atomic pointer, never changes and lives as long as the image;
 *               so readers need no lock.
 * INV-CHAIN:    a chain has no file twice and at most QS_LAYERS_MAX.
 * INV-FOUND:    of a parent that was only found (image_find_layer) nothing is believed
 *               but the name of the next one; nothing is read through it.
 */
#ifndef QCOWSTORE_IMAGE_PRIV_H
#define QCOWSTORE_IMAGE_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common/err.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/store.h"
#include "qcowstore/sumtree.h"

/* What tells a layer's content from any other's; hashed and compared as a whole.
 * In a file of ours toc_sum covers, through CHECKSUMS, every byte that can be read,
 * but it is no proof against its maker: so the file itself counts too. What is
 * appended to the file, or said of it, changes nothing here. */
struct image_facts {
        uint64_t dev;
        uint64_t ino;
        uint8_t uuid[16];
        uint64_t toc_sum;
        char tag[QS_TAG_MAX + 1];
        /* files of other programs: they have no sums */
        uint64_t bytes;
        uint64_t mtime_s;
        uint64_t mtime_ns;
        uint64_t ctime_s;
        uint64_t ctime_ns;
};

static_assert(sizeof(struct image_facts) == 144, "no padding: it is hashed");

/* What is read while an image is opened, and of a small one all of the sums, is within the
 * first clusters of its VM state: their places are read once. */
#define STATE_L2_KEPT 64

struct qs_image {
        /* constant after it is open */
        int fd;
        char *path;                     /* for messages */
        dev_t dev;
        ino_t ino;
        struct stat before;             /* of the file, before anything of it was read */
        struct image_facts facts;       /* image_identify() */
        uint8_t sector[LAYOUT_SECTOR_BYTES];    /* the first, of which hdr speaks */
        struct imghdr hdr;
        uint64_t cluster_bytes;
        uint64_t bound;                 /* file size rounded up to a cluster */
        uint64_t disk_bytes;            /* of the snapshot read */
        uint64_t disk_clusters;
        uint64_t disk_l1;               /* L1 entries of the disk part */
        struct snapshot *snapshots;
        size_t snaptable_bytes;
        const struct snapshot *snapshot;        /* the one opened; NULL = active layer (foreign) */
        uint64_t l1_offset;             /* of the table that maps what is read */
        uint64_t l1_used;               /* its entries that map the disk */
        uint64_t *state_l1;             /* those that map VM state; host-endian, validated */
        uint64_t state_l1_entries;
        unsigned state_l2_kept;
        uint64_t state_l2[STATE_L2_KEPT];       /* the first entries, as they are in the file */
        struct sectoc toc;
        struct sumtree *checksums;      /* NULL in a foreign file */
        struct sumtree *hostsums;
        char *parent_name;              /* NULL = no backing file */
        struct qs_image *parent;        /* owned */
        bool found_only;                /* a parent that qs_image_settle() will open */
        struct later *later;            /* of a top with such parents, else NULL */
        struct legacy *legacy;          /* reads data instead; NULL but for QCOW 1, AES */
        unsigned unit_bits;             /* of the top layer: see above */
        uint64_t units;
        struct qs_image_info info;
        /* any thread; NULL -> a validated host-endian table, once (INV-ONCE) */
        uint64_t *_Atomic *l1;          /* by cluster of the table */
        uint64_t *_Atomic *l2;          /* by L1 entry */
};

/* A stretch of guest addresses that one layer answers for in one way. */
struct extent {
        enum l2_kind kind;              /* L2_NONE only for a layer alone */
        struct qs_image *layer;
        uint64_t bytes;                 /* never reaches into another cluster when packed */
        uint64_t cluster;               /* of the layer, in which it starts */
        uint64_t skip;                  /* bytes of it before the stretch */
        uint64_t offset;                /* L2_RAW: of the first byte; L2_PACKED: of the stream */
        uint64_t stream_bytes;          /* L2_PACKED */
};

/* whole or an error that says what was to be read */
int image_pread(const struct qs_image *m, void *buf, size_t bytes, uint64_t offset,
                const char *what, struct err *e);
/* reads whole host clusters and compares them with HOSTSUMS */
int image_pread_verified(const struct qs_image *m, void *buf, uint64_t offset,
                         uint64_t clusters, const char *what, struct err *e);
/* the same of L1 or L2 tables of a tag, without COPIED, whether QEMU set it or not */
int image_table_read(const struct qs_image *m, void *buf, uint64_t offset, uint64_t clusters,
                     const char *what, struct err *e);
/* a sumtree_read_fn; ctx is the image. Unverified: the caller has a sum. */
int image_state_read(void *ctx, uint64_t offset, void *buf, size_t bytes, struct err *e);
/* where a cluster of the VM-state area is in the file */
int image_state_locate(const struct qs_image *m, uint64_t cluster, uint64_t *ret_offset,
                       struct err *e);
/* reads data clusters: behind the end of a foreign file, in its last cluster,
 * are zeros */
int image_pread_data(const struct qs_image *m, void *buf, size_t bytes, uint64_t offset,
                     struct err *e);
/* Room for the tables that map the disk, l1_offset and l1_used being set. */
int image_map_new(struct qs_image *m, struct err *e);
void image_map_free(struct qs_image *m);
/* What the guest address `at` and at most max > 0 bytes from there are, through
 * all layers: L2_ZERO, L2_RAW or L2_PACKED. */
int image_extent(struct qs_image *m, uint64_t at, uint64_t max, struct extent *ret,
                 struct err *e);

/* where L2 table i of the disk is in the file; 0 = there is none */
int image_l1_entry(struct qs_image *m, uint64_t i, uint64_t *ret, struct err *e);
/* An L2 table of the disk and its place in the file; 0 and NULL = none. */
int image_l2_table(struct qs_image *m, uint64_t l1, const uint64_t **ret, uint64_t *ret_offset,
                   struct err *e);
/* Fills in facts of all layers, and identity. */
int image_identify(struct qs_image *top, struct err *e);

struct qs_image *image_of_reader(const struct qs_reader *r);

/* *m is zeroed memory to be closed also on failure.
 * header and snapshot table only; byte 100 stays locked (imglock.h) */
int image_open_tables(struct qs_image *m, int fd, const char *path, struct err *e);
/* the same again, of a file that was changed meanwhile */
int image_load_tables(struct qs_image *m, struct err *e);
/* Is the header that was read still the one? */
bool image_header_stands(const struct qs_image *m);
/* The byte of the snapshot that is read, imglock_tag(). */
int image_lock_snapshot(const struct qs_image *m, uint32_t *ret_id, struct err *e);
/* after that, its active layer or a snapshot, and what it says of itself */
int image_open_native(struct qs_image *m, const char *tag, struct err *e);
/* Snapshot i of an image of which only the tables were opened; the caller keeps
 * those locked. */
int image_open_sibling(const struct qs_image *of, uint32_t i, struct qs_image **ret,
                       struct err *e);
/* one layer: its parents are not looked for. Of a file of ours only the
 * snapshot stays locked. */
int image_open_layer(int fd, const char *path, const char *tag, struct qs_image **ret,
                     struct err *e);
/* A parent that is opened later: its header and the name of its own parent, without
 * locks (INV-FOUND). Takes the descriptor. */
int image_find_layer(int *fd, const char *path, struct qs_image **ret, struct err *e);

/* image-parent.c: what a delta says of its parent against what that one says */
int image_check_kin(const struct qs_image *child, const struct qs_image *parent, struct err *e);
/* image-later.c: top has parents that were only found */
int image_open_later(struct qs_image *top, struct err *e);
void image_later_free(struct qs_image *top);

#endif
