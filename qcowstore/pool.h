/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - a file of ours that is opened to be changed: tags are added to it
 * and deleted from it.
 *
 * Theory of operation
 *
 * Whatever is changed is written anew, into clusters that the published state
 * does not use, is made durable, and then the first sector of the file switches
 * from the old state to the new one. Whoever opens the file meanwhile, or after
 * a crash, finds the one or the other (INV-SHADOW of space.h, INV-SWITCH).
 *
 * What belongs to a tag (its L1 and L2 tables, RAM, sections) never changes
 * while the tag exists, and is guarded by the tag's own CHECKSUMS and HOSTSUMS.
 * What belongs to the file is made anew by each change (commit.h): snapshot table,
 * active layer, refcounts, and the pool area, where the index of contents is.
 *
 * HOSTSUMS of the latest tag is right for all that any tag refers to: a tag
 * starts with what the latest one before it had, changes only what lies in
 * clusters that nobody used, and an older tag's clusters have not changed since.
 * So the next tag starts from the latest one's, also after a deletion.
 *
 * Superseded clusters are given out again by a later change, unless somebody
 * may still read the state that they belong to (imglock_readers()): then new
 * things go behind the end of the file.
 *
 * INV-SWITCH: nothing is written before pool_switch() that the published state
 *             uses, and nothing after it; the state published is durable first,
 *             whoever published it.
 * INV-LATEST: the default tag is the last one of the snapshot table.
 *
 * Ownership: the lock that keeps others from changing the file goes with the pool.
 * Threads:   one.
 * Errors:    sentences that name the file.
 */
#ifndef QCOWSTORE_POOL_H
#define QCOWSTORE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/sectoc.h"
#include "qcowstore/space.h"

struct pool {
        char *path;
        int fd;
        struct qs_image *latest;        /* the default tag, open; its header is the file's */
        bool readers;                   /* somebody may read superseded clusters */
        uint64_t file_bytes;            /* when it was opened */
        bool switched;
        bool unnamed;
        bool notes_only;
        /* what belongs to the file, as published; host-endian */
        uint64_t *reftable;
        uint64_t reftable_entries;
        uint32_t *refs;                 /* whole blocks, one for each entry */
        uint64_t *active_l1;            /* entries as they are */
        uint64_t area_l1;               /* of these, those of the pool area: the last ones */
        uint64_t *area;                 /* host cluster of each of its clusters; 0 = none */
        uint64_t area_clusters;
        struct sectoc area_toc;
};

/* -ENOENT: there is no such file. -EBUSY: somebody else changes it. */
int pool_open(const char *path, struct pool **ret, struct err *e);
/* The same of a file whose snapshots all stay: it may be a delta or a parent, for what
 * these know of each other (UUID, sum of the snapshot table) stays too. */
int pool_open_notes(const char *path, struct pool **ret, struct err *e);
/* A file that has no name yet, so that nobody else knows it: no locks, and nothing
 * is made durable. The descriptor is duplicated; path is for messages. */
int pool_open_unnamed(int fd, const char *path, struct pool **ret, struct err *e);
/* Without a switch before it the file is as it was. */
void pool_close(struct pool *p);

/* Counts and sums as published, and what may be given out. */
int pool_space(const struct pool *p, struct space *ret, struct err *e);
/* All that belongs to the file and will be made anew is used once less: snapshot
 * table, refcount table, active layer with all that it refers to, pool area. Not
 * the refcount blocks. Once. */
int pool_release_file(const struct pool *p, struct space *s, struct err *e);
/* All that a tag refers to, through its whole L1 or the disk's part of it, is
 * used `by` times more. m is the tag, open. */
int pool_count_tag(struct qs_image *m, bool disk_only, int by, struct space *s,
                   struct err *e);

/* reads a section of the pool area and compares its sum; the caller frees */
int pool_section(const struct pool *p, const struct section *s, void **ret, struct err *e);

/* The file is durable, then this is its first sector, then that is durable. */
int pool_switch(struct pool *p, const uint8_t sector[LAYOUT_SECTOR_BYTES], struct err *e);
/* pool_open()'s: reads and compares what belongs to the file */
int pool_load(struct pool *p, struct err *e);
/* "write 'PATH': why", with the remedy */
int pool_write_error(const struct pool *p, int rc, struct err *e);

#endif
