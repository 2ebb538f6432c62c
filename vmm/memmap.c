/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memmap.h"

#include "common/check.h"

static void add(struct memmap *m, uint64_t gpa, uint64_t end_gpa, enum memmap_type type)
{
        ASSERT(m->nranges < MEMMAP_RANGES_MAX && gpa < end_gpa);
        m->ranges[m->nranges++] =
                (struct memmap_range){ .gpa = gpa, .bytes = end_gpa - gpa, .type = type };
}

void memmap_build(const struct ram *ram, struct memmap *ret)
{
        struct memmap m = { 0 };

        add(&m, 0, BOOT_EBDA_GPA, MEMMAP_RAM);
        add(&m, BOOT_EBDA_GPA, BOOT_EBDA_END_GPA, MEMMAP_RESERVED);
        add(&m, BOOT_BIOS_GPA, BOOT_BIOS_END_GPA, MEMMAP_RESERVED);
        add(&m, BOOT_BIOS_END_GPA, ram->slots[0].bytes, MEMMAP_RAM);
        if (ram->nslots > 1)
                add(&m, ram->slots[1].gpa, ram_end_gpa(ram), MEMMAP_RAM);
        *ret = m;
}
