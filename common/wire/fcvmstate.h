/* SPDX-License-Identifier: Apache-2.0 */
/* fcvmstate.h - Firecracker's vmstate file, as far as we need it: whose it is, whether
 * it is whole, and where the guest's memory lies.
 *
 *     u64 magic, version, state, u64 CRC-64 of all before it      (little-endian)
 *
 * Three encodings of version and state were used: Versionize up to v1.6, bincode from
 * v1.7 to v1.14 (snapshot versions 1.0.0 to 8.0.0), bitcode since v1.15. Only bincode is
 * read, up to the list of memory regions; of the other two the sum alone is checked.
 *
 * Threads: pure functions. No I/O.
 * Errors:  -EBADMSG and a sentence.
 */
#ifndef COMMON_WIRE_FCVMSTATE_H
#define COMMON_WIRE_FCVMSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/fcregions.h"

/* Firecracker itself loads no longer ones. */
#define FC_VMSTATE_BYTES_MAX (10u << 20)
#define FC_VERSION_MAX 31u              /* bytes, without the NUL */

enum fc_encoding { FC_VERSIONIZE, FC_BINCODE, FC_BITCODE };

struct fc_vmstate {
        enum fc_arch arch;
        enum fc_encoding encoding;
        char version[FC_VERSION_MAX + 1];       /* of the snapshot; "" = not readable */
        bool has_regions;                       /* else regions is empty */
        struct fc_regions regions;
};

/* Never reads past bytes. A file of a version whose regions we can read must have
 * them, and as many bytes of RAM in them as it says the guest has. */
int fc_vmstate_parse(const void *data, size_t bytes, struct fc_vmstate *ret, struct err *e);

/* the versions of Firecracker that wrote it: "v1.7", "v1.15 or later" */
const char *fc_vmstate_writer(const struct fc_vmstate *v);

/* CRC-64/Redis; of a file with its CRC behind it the result is 0 */
uint64_t fc_crc64(const void *data, size_t bytes);

#endif
