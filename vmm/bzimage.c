/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bzimage.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define HEADER_OFFSET offsetof(struct boot_params, hdr)
/* The header ends where the byte of its own jump instruction says, and never
 * beyond the next field of boot_params. */
#define JUMP_OFFSET 0x201
#define JUMP_END 0x202
#define HEADER_END_MAX offsetof(struct boot_params, edd_mbr_sig_buffer)
/* what we read of it: init_size is the last field of protocol 2.12 */
#define HEADER_END_MIN (HEADER_OFFSET + offsetof(struct setup_header, init_size) + 4)

#define BOOT_FLAG 0xaa55
#define MAGIC "HdrS"
#define PROTOCOL_MIN 0x020c
#define SECTOR_BYTES 512
#define SETUP_SECTS_DEFAULT 4
#define LOADER_UNDEFINED 0xff
#define VID_MODE_NORMAL 0xffff

static_assert(sizeof(struct boot_params) == BZIMAGE_PARAMS_BYTES, "the zero page");
static_assert(HEADER_OFFSET == 0x1f1, "as in the file");
static_assert(offsetof(struct boot_params, e820_table) == 0x2d0, "the zero page");
static_assert(HEADER_END_MAX == 0x290, "the zero page");

bool bzimage_is(const void *file, size_t bytes)
{
        const uint8_t *p = file;

        return bytes >= HEADER_END_MIN && get_le16(p + 0x1fe) == BOOT_FLAG &&
               memcmp(p + 0x202, MAGIC, 4) == 0;
}

static int check_entry(const struct setup_header *h, struct err *e)
{
        if (h->version < PROTOCOL_MIN)
                return err_msg(e, ENOTSUP, "boot protocol %u.%u is too old, 2.12 (Linux 3.8) is "
                               "needed", h->version >> 8, h->version & 0xffu);
        if (!(h->xloadflags & XLF_KERNEL_64))
                return err_msg(e, ENOTSUP, "no 64-bit entry: this is a 32-bit kernel");
        if (!(h->loadflags & LOADED_HIGH))
                return err_msg(e, ENOTSUP, "a zImage that loads below 1 MiB, not a bzImage");
        return 0;
}

/* At its preferred address; a lower one would not do with less memory. */
static int choose_place(const struct setup_header *h, struct bzimage *image, struct err *e)
{
        uint64_t align = h->kernel_alignment, load_gpa = h->pref_address;

        if (load_gpa < BOOT_KERNEL_MIN_GPA && h->relocatable_kernel) {
                if (align == 0 || align & (align - 1))
                        return err_msg(e, EBADMSG, "kernel_alignment %#llx is no power of two",
                                       (unsigned long long)align);
                load_gpa = ALIGN_UP(BOOT_KERNEL_MIN_GPA, align);
        }
        if (load_gpa < BOOT_KERNEL_MIN_GPA || load_gpa >= RAM_LOW_END_GPA)
                return err_msg(e, EBADMSG, "it wants to be loaded at %#llx, which is not memory "
                               "below 3 GiB", (unsigned long long)load_gpa);
        image->load_gpa = load_gpa;
        image->init_bytes = MAX((uint64_t)h->init_size, image->code_bytes);
        return 0;
}

int bzimage_parse(const void *file, size_t bytes, struct bzimage *ret, struct err *e)
{
        const uint8_t *p = file;
        struct setup_header h = { 0 };

        if (!bzimage_is(file, bytes))
                return err_msg(e, EBADMSG, "not a bzImage");

        size_t end = MIN((size_t)JUMP_END + p[JUMP_OFFSET], MIN(HEADER_END_MAX, bytes));

        if (end < HEADER_END_MIN)
                return err_msg(e, EBADMSG, "its setup header ends at %#zx, before init_size", end);
        memcpy(&h, p + HEADER_OFFSET, MIN(sizeof(h), end - HEADER_OFFSET));

        int rc = check_entry(&h, e);

        if (rc < 0)
                return rc;

        unsigned setup_sects = h.setup_sects ? h.setup_sects : SETUP_SECTS_DEFAULT;
        size_t code_offset = (setup_sects + 1u) * SECTOR_BYTES;

        if (bytes <= code_offset + BZIMAGE_ENTRY_OFFSET)
                return err_msg(e, EBADMSG, "truncated: %zu bytes, the kernel begins at %zu", bytes,
                               code_offset);

        struct bzimage image = {
                .header = p + HEADER_OFFSET,
                .header_bytes = end - HEADER_OFFSET,
                .code = p + code_offset,
                .code_bytes = bytes - code_offset,
                .initrd_end_gpa_max = (uint64_t)h.initrd_addr_max + 1,
                .cmdline_bytes_max = h.cmdline_size,
        };

        rc = choose_place(&h, &image, e);
        if (rc == 0)
                *ret = image;
        return rc;
}

static void put_e820(struct boot_params *params, const struct memmap *memmap)
{
        ASSERT(memmap->nranges <= ARRAY_SIZE(params->e820_table));
        params->e820_entries = (uint8_t)memmap->nranges;
        for (unsigned i = 0; i < memmap->nranges; i++) {
                params->e820_table[i] = (struct boot_e820_entry){
                        .addr = memmap->ranges[i].gpa,
                        .size = memmap->ranges[i].bytes,
                        .type = memmap->ranges[i].type,
                };
        }
}

void bzimage_params(const struct bzimage *image, const struct bzimage_setup *setup,
                    uint8_t ret_params[BZIMAGE_PARAMS_BYTES])
{
        struct boot_params params = { 0 };

        ASSERT(HEADER_OFFSET + image->header_bytes <= HEADER_END_MAX);
        memcpy((uint8_t *)&params + HEADER_OFFSET, image->header, image->header_bytes);
        params.hdr.vid_mode = VID_MODE_NORMAL;
        params.hdr.type_of_loader = LOADER_UNDEFINED;
        params.hdr.loadflags |= LOADED_HIGH;
        params.hdr.code32_start = (uint32_t)image->load_gpa;
        params.hdr.ramdisk_image = (uint32_t)setup->initrd_gpa;
        params.hdr.ramdisk_size = (uint32_t)setup->initrd_bytes;
        params.ext_ramdisk_image = (uint32_t)(setup->initrd_gpa >> 32);
        params.ext_ramdisk_size = (uint32_t)(setup->initrd_bytes >> 32);
        params.hdr.cmd_line_ptr = (uint32_t)setup->cmdline_gpa;
        params.ext_cmd_line_ptr = (uint32_t)(setup->cmdline_gpa >> 32);
        params.hdr.setup_data = 0;
        params.acpi_rsdp_addr = setup->rsdp_gpa;
        put_e820(&params, setup->memmap);
        memcpy(ret_params, &params, sizeof(params));
}
