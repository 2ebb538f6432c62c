/* SPDX-License-Identifier: Apache-2.0 */
/* blocks.h - the RAM blocks of a QEMU machine and where in an image each byte lies.
 *
 * A stream speaks of offsets in named blocks; an image has guest-physical space. A block
 * is cut into extents that follow each other in the block and lie anywhere on the disk.
 *
 * INV-BIJECTIVE: after qemu_blocks_seal() every byte of every block has one place in the
 * image, and no place has two: what is saved by the table can be found again by it.
 *
 * Ownership: the table owns what it points to; qemu_blocks_fini() takes an all-zero one.
 * Threads:   constant once it is sealed.
 * Errors:    -EBADMSG and a sentence that names the block: tables come from streams,
 *            options and images.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_BLOCKS_H
#define PAGESERVER_ADAPTERS_QEMU_BLOCKS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemuwire.h"
#include "qcowstore/store.h"

/* RAM is cut at 4 GiB; more cuts than that are nobody's */
#define QEMU_EXTENTS_MAX 4
/* of the host, below a block: hugetlbfs has 1 GiB */
#define QEMU_HOST_PAGE_BYTES_MAX (1u << 30)

struct qemu_extent {
        uint64_t at;                    /* in the block */
        uint64_t gpa;                   /* in the image */
        uint64_t bytes;
};

struct qemu_block {
        char name[QEMU_NAME_MAX + 1];
        uint64_t bytes;
        uint32_t page_size;             /* of the host's memory below it */
        size_t n_extents;
        struct qemu_extent extents[QEMU_EXTENTS_MAX];   /* in order, without gaps; 0 bytes: none */
};

/* an extent, from the image's side */
struct qemu_place {
        uint64_t gpa;
        uint64_t bytes;
        uint64_t at;
        unsigned block;
};

struct qemu_blocks {
        struct qemu_block *at;          /* in the order of the stream */
        size_t n;
        uint64_t disk_bytes;            /* of the image */
        /* by qemu_blocks_seal(): all extents, their gpa ascending */
        struct qemu_place *places;
        size_t n_places;
};

/* One more block, without extents, on pages of QEMU_PAGE_MIN. The name has any
 * bytes; one that is no text, or not new, is refused. */
int qemu_blocks_add(struct qemu_blocks *b, const char *name, size_t name_bytes, uint64_t bytes,
                    struct err *e);
/* Checks all of the table, pages being of page_size bytes, and makes places. */
int qemu_blocks_seal(struct qemu_blocks *b, uint32_t page_size, struct err *e);
void qemu_blocks_fini(struct qemu_blocks *b);

/* index, or -1 */
int qemu_blocks_find(const struct qemu_blocks *b, const char *name);
/* Where offset of a block lies, and for how many bytes what follows it in the block
 * follows in the image too. false: the block is shorter. */
bool qemu_blocks_gpa(const struct qemu_blocks *b, unsigned block, uint64_t offset,
                     uint64_t *ret_gpa, uint64_t *ret_run);
/* The other way round. false: no block has that place. To walk an image in order, use
 * places. */
bool qemu_blocks_at(const struct qemu_blocks *b, uint64_t gpa, unsigned *ret_block,
                    uint64_t *ret_offset, uint64_t *ret_run);
/* What the writer of an image is to ask for: all places, and gaps between them only
 * where there are too many stretches. Returns how many. */
size_t qemu_blocks_ranges(const struct qemu_blocks *b,
                          struct qs_ram_range ret[QS_RAM_RANGES_MAX]);

/* The list "blocks" of section QEMU-BLOCKS. decode gives a table to be sealed, of an
 * image of disk_bytes. */
struct json_object *qemu_blocks_encode(const struct qemu_blocks *b);
int qemu_blocks_decode(struct json_object *list, uint64_t disk_bytes, struct qemu_blocks *ret,
                       struct err *e);

#endif
