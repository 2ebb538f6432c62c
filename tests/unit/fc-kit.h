/* SPDX-License-Identifier: Apache-2.0 */
/* fc-kit.h - vmstate files as the versions of Firecracker write them: right up to the
 * list of memory regions, filler behind it, and a CRC.
 */
#ifndef TESTS_UNIT_FC_KIT_H
#define TESTS_UNIT_FC_KIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FC_KIT_REGIONS_MAX 100u
#define FC_KIT_BYTES_MAX 8192u

struct fc_kit_region {
        uint64_t gpa;
        uint64_t bytes;
        bool plugged_in;                /* v1.14: later, in slots of 128 MiB */
};

struct fc_kit {
        unsigned minor;                 /* 1..16: Firecracker v1.MINOR */
        bool aarch64;
        bool huge_pages;
        const char *initrd;             /* NULL = none */
        unsigned capabilities;
        uint64_t memory_mib;
        uint8_t filler;
        unsigned n;
        struct fc_kit_region at[FC_KIT_REGIONS_MAX];
        const char *version;            /* of the snapshot; NULL = that of Firecracker */
};

/* returns the length */
size_t fc_kit_vmstate(const struct fc_kit *kit, uint8_t buf[FC_KIT_BYTES_MAX]);
/* the CRC of what is before its last 8 bytes */
void fc_kit_seal(uint8_t *data, size_t bytes);

#endif
