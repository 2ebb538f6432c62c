/* SPDX-License-Identifier: Apache-2.0 */
/* sectoc.h - the table of sections at the start of a VM-state area.
 *
 *      0  "SNAPBACK"    8  u32 version (1)    12  u32 count    16  zeros
 *     64  count entries of 64 bytes: char name[16], u64 offset, u64 bytes,
 *         u64 sum, u32 flags, zeros
 *
 * 4096 bytes, little-endian, guarded by toc_sum of the snapshot's entry.
 * offset is cluster-aligned in the VM-state area; sections ascend and do not
 * overlap. sum covers the bytes; with SECTION_TREE bytes counts the sums of
 * the tree and sum covers its first level.
 *
 * Pure: no I/O. Errors: -EBADMSG, -ENOTSUP for a newer version.
 */
#ifndef QCOWSTORE_SECTOC_H
#define QCOWSTORE_SECTOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

#define SECTOC_BYTES 4096
#define SECTION_TREE 1u

struct section {
        char name[QS_SECTION_NAME_MAX + 1];
        uint64_t offset;
        uint64_t bytes;
        uint64_t sum;
        uint32_t flags;
};

struct sectoc {
        unsigned count;
        struct section section[QS_SECTIONS_MAX];
};

/* is this the start of a VM-state area of ours? */
bool sectoc_magic(const uint8_t *bytes, size_t len);
void sectoc_encode(const struct sectoc *toc, uint8_t buf[SECTOC_BYTES]);
int sectoc_parse(const uint8_t buf[SECTOC_BYTES], unsigned cluster_bits, uint64_t state_bytes,
                 struct sectoc *ret, struct err *e);
/* NULL when there is none */
const struct section *sectoc_find(const struct sectoc *toc, const char *name);
/* bytes of the VM-state area that a section occupies */
uint64_t sectoc_extent(const struct section *s, unsigned cluster_bits);
/* 1 to QS_SECTION_NAME_MAX printable characters without a space */
bool sectoc_name_ok(const char *name);

#endif
