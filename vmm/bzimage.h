/* SPDX-License-Identifier: Apache-2.0 */
/* bzimage.h - Linux's boot format, by the 64-bit entry (boot protocol 2.12 on).
 *
 * Pure functions over bytes; the file is untrusted. What bzimage_parse()
 * returned points into the file and needs no more checks but against RAM.
 */
#ifndef VMM_BZIMAGE_H
#define VMM_BZIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/memmap.h"

#define BZIMAGE_PARAMS_BYTES 4096
#define BZIMAGE_ENTRY_OFFSET 0x200      /* of the 64-bit entry, from where it is loaded */

struct bzimage {
        const uint8_t *header;          /* goes to the same place in boot_params */
        size_t header_bytes;
        const uint8_t *code;            /* protected-mode part */
        size_t code_bytes;
        uint64_t load_gpa;              /* aligned, >= BOOT_KERNEL_MIN_GPA */
        uint64_t init_bytes;            /* to be free at load_gpa; >= code_bytes */
        uint64_t initrd_end_gpa_max;
        size_t cmdline_bytes_max;       /* without NUL */
};

/* What the guest is told besides the header. */
struct bzimage_setup {
        uint64_t cmdline_gpa;
        uint64_t initrd_gpa, initrd_bytes;
        uint64_t rsdp_gpa;
        const struct memmap *memmap;
};

bool bzimage_is(const void *file, size_t bytes);
/* The sentences do not name the file. */
int bzimage_parse(const void *file, size_t bytes, struct bzimage *ret, struct err *e);
void bzimage_params(const struct bzimage *image, const struct bzimage_setup *setup,
                    uint8_t ret_params[BZIMAGE_PARAMS_BYTES]);

#endif
