/* SPDX-License-Identifier: Apache-2.0 */
/* fcregions.h - where Firecracker has a guest's memory: guest-physical space <-> its
 * memory file, and the section of our images that says so.
 *
 * A memory file has no head: it is the regions of guest memory one behind the other.
 * Neither it nor the UFFD handshake (fcuffd.h) holds a guest-physical address; the
 * table here does. It is made from a vmstate file (fcvmstate.h), or, where that cannot
 * be read, from the rule by which a version of Firecracker places memory.
 *
 * Threads: pure functions. No I/O.
 * Errors:  a negative errno and a sentence.
 */
#ifndef COMMON_WIRE_FCREGIONS_H
#define COMMON_WIRE_FCREGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/fcuffd.h"

/* an image with both is a Firecracker snapshot: see snapback-image(5) */
#define FC_SECTION_REGIONS "FC-REGIONS"
#define FC_SECTION_VMSTATE "FC-VMSTATE"

/* what the store can hold */
#define FC_GPA_END (1ull << 46)

enum fc_arch { FC_ARCH_X86_64, FC_ARCH_AARCH64 };

struct fc_extent {
        uint64_t gpa;
        uint64_t bytes;
        uint64_t file_offset;           /* in the memory file: the sum of those before */
};

/* 1..FC_REGIONS_MAX extents of whole 4 KiB pages that ascend and do not overlap */
struct fc_regions {
        uint32_t page_bytes;            /* of the host: 4096 or 2 MiB; 0 = not known */
        uint32_t n;
        struct fc_extent at[FC_REGIONS_MAX];
};

/* Gives the extents their file offsets; -EBADMSG when they are not as above. */
int fc_regions_finish(struct fc_regions *r, struct err *e);
/* the length of the memory file */
uint64_t fc_regions_bytes(const struct fc_regions *r);

/* Are these the regions of a guest that was restored from that snapshot? 0: the i-th
 * of both is the same memory. -EINVAL when count, a size or an offset differs. Pages
 * of another size are allowed: a guest can be restored with others than it had. */
int fc_regions_match(const struct fc_regions *r, const struct fc_region *hello, size_t n,
                     struct err *e);

/* ---- without a table: the rule ------------------------------------------- */

/* the versions of Firecracker from which on memory is placed so */
enum fc_layout { FC_LAYOUT_V1_0, FC_LAYOUT_V1_13 };

/* Where bytes of RAM lie, if none of it was plugged in later; pages are not known. */
int fc_regions_layout(enum fc_arch arch, enum fc_layout layout, uint64_t bytes,
                      struct fc_regions *ret, struct err *e);
/* do all layouts agree? */
bool fc_regions_certain(enum fc_arch arch, uint64_t bytes);

/* ---- FC-REGIONS ---------------------------------------------------------- */

#define FC_REGIONS_BYTES_MAX (16u + 24u * FC_REGIONS_MAX)

/* returns the length */
size_t fc_regions_encode(const struct fc_regions *r, uint8_t buf[FC_REGIONS_BYTES_MAX]);
/* -EBADMSG, or -ENOTSUP for a version to come; *ret is whole and checked on success */
int fc_regions_decode(const void *data, size_t bytes, struct fc_regions *ret, struct err *e);

#endif
