/* SPDX-License-Identifier: Apache-2.0 */
/* writer-priv.h - an image, or a tag of one, in the making. RAM first
 * (writer-ram.c), straight into the file; everything else waits in memory until
 * qs_writer_publish() (writer-tables.c) places it.
 */
#ifndef QCOWSTORE_WRITER_PRIV_H
#define QCOWSTORE_WRITER_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/publish.h"
#include "qcowstore/commit.h"
#include "qcowstore/dedup.h"
#include "qcowstore/delta.h"
#include "qcowstore/pool.h"
#include "qcowstore/readback.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/space.h"
#include "qcowstore/store.h"

/* A file without a name yet, that several writers put one tag each into; the
 * caller publishes it. */
struct writer_into {
        struct publish *file;
        const char *path;               /* for messages */
        uint8_t uuid[16];
        uint64_t seed;
        struct dedup *dedup;            /* for all of them */
        unsigned tags;                  /* that it has */
        /* for the last one: what the pool area shall have; 0 = none */
        const struct area_section *area;
        unsigned n_area;
};

struct qs_writer {
        /* constant after qs_writer_new() */
        struct qs_writer_options options;
        struct publish *publish;        /* a new file; else NULL */
        struct pool *pool;              /* the file that gets a tag; else NULL */
        struct writer_into *into;       /* whose publish is borrowed; else NULL */
        struct qs_image *clone_of;      /* RAM is this one's, as it is stored; else NULL */
        struct qs_image *replaced;      /* the tag that goes with it; NULL = none */
        unsigned cluster_bits;
        uint64_t cluster_bytes;
        uint64_t seed;
        struct delta *delta;            /* over a parent; NULL = none */
        uint64_t disk_l1;
        uint32_t refs_max;              /* of a content; tests lower it */
        /* one per L1 entry of the disk: NULL = all zero, else a struct writer_table, one
         * array behind the other. Put there by the first thread that needs it. */
        uint64_t *_Atomic *tables;
        /* counts and sums of a cluster given out are written by the thread that
         * writes the cluster, or by the placer */
        struct space space;
        struct dedup *dedup;            /* until the index is written */
        struct readback_shelf readbacks;
        /* one thread at a time */
        struct qs_ram_range ram[QS_RAM_RANGES_MAX];     /* qs_writer_ram() */
        size_t n_ram;
        bool ram_done;
        bool again;                     /* RAM was taken again */
        bool torn;                      /* and not to its end */
        bool published;
        unsigned sections;
        struct qs_ram_range *first;     /* qs_writer_first() */
        size_t n_first;
        struct section section[QS_SECTIONS_MAX];        /* name and bytes only */
        void *section_data[QS_SECTIONS_MAX];
        struct qs_writer_stats stats;
};

/* What is known of the clusters of one L1 entry, layout_l2_entries() of them; entry
 * NULL = all are zero or the parent's. */
struct writer_table {
        uint64_t *entry;                /* the L2 table, host-endian */
        uint64_t *sum;                  /* the block of CHECKSUMS, host-endian */
        uint8_t *shared;                /* for the stats: it was CHUNK_SHARED */
};

static inline size_t writer_table_bytes(unsigned cluster_bits)
{
        return (size_t)layout_l2_entries(cluster_bits) * (8 + 8 + 1);
}

static inline struct writer_table writer_table_at(uint64_t *table, unsigned cluster_bits)
{
        uint64_t n = layout_l2_entries(cluster_bits);

        return table ? (struct writer_table){ table, table + n, (uint8_t *)(table + 2 * n) }
                     : (struct writer_table){ 0 };
}

static inline struct writer_table writer_table(const struct qs_writer *w, uint64_t l1)
{
        return writer_table_at(atomic_load(&w->tables[l1]), w->cluster_bits);
}

/* The next tag of such a file. Of the options, force, append and backing are not
 * used. */
int writer_new_into(struct writer_into *into, const struct qs_writer_options *options,
                    struct qs_writer **ret, struct err *e);
int writer_fd(const struct qs_writer *w);
/* Nobody reads the tag that is replaced from now on; -EBUSY: somebody does. Opening
 * it on the pool's descriptor turns the lock into a reader's. */
int writer_lock_replaced(const struct qs_writer *w, struct err *e);
const char *writer_path(const struct qs_writer *w);
/* "write 'PATH': why", with the remedy */
int writer_write_error(const struct qs_writer *w, int rc, struct err *e);

#endif
