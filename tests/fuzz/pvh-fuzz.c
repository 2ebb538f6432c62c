/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no file makes the PVH parser read outside it or run for ever, and what
 *   it accepts keeps the promises of pvh.h.
 * Method: libFuzzer, or mutations of one good ELF (mutate.h). */
#include "vmm/pvh.h"

#include <elf.h>
#include <string.h>

#include "common/check.h"
#include "tests/fuzz/mutate.h"

static void check_promises(const uint8_t *data, size_t bytes, const struct pvh *pvh)
{
        bool entry_found = false;

        ASSERT(pvh->nsegments >= 1 && pvh->nsegments <= PVH_SEGMENTS_MAX);
        for (unsigned i = 0; i < pvh->nsegments; i++) {
                const struct pvh_segment *s = &pvh->segments[i];

                ASSERT(s->data >= data && s->data_bytes <= bytes &&
                       (size_t)(s->data - data) <= bytes - s->data_bytes);
                ASSERT(s->memory_bytes >= s->data_bytes && s->memory_bytes > 0);
                ASSERT(s->gpa >= BOOT_KERNEL_MIN_GPA && s->gpa < RAM_LOW_END_GPA);
                ASSERT(s->memory_bytes <= RAM_LOW_END_GPA - s->gpa);
                ASSERT(pvh->end_gpa >= s->gpa + s->memory_bytes);
                entry_found |= pvh->entry_gpa >= s->gpa &&
                               pvh->entry_gpa - s->gpa < s->memory_bytes;
        }
        ASSERT(entry_found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        struct pvh pvh;
        struct err e = { 0 };
        int rc = pvh_parse(data, bytes, &pvh, &e);

        if (rc == 0)
                check_promises(data, bytes, &pvh);
        else
                ASSERT(e.code == rc && e.text[0]);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        struct {
                Elf64_Ehdr h;
                Elf64_Phdr note, load[2];
                Elf64_Nhdr gnu;
                char gnu_name[4];
                uint32_t gnu_desc;
                Elf64_Nhdr xen;
                char xen_name[4];
                uint32_t xen_desc;
                uint8_t content[64];
        } good = {
                .h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 },
                       .e_machine = EM_X86_64, .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3 },
                .gnu = { 4, 4, 3 }, .gnu_name = "GNU",
                .xen = { 4, 4, 18 }, .xen_name = "Xen", .xen_desc = 0x100010,
        };
        const uint8_t *base = (const uint8_t *)&good;

        good.h.e_phoff = (size_t)((const uint8_t *)&good.note - base);
        good.note = (Elf64_Phdr){ .p_type = PT_NOTE, .p_align = 4,
                                  .p_offset = (size_t)((const uint8_t *)&good.gnu - base),
                                  .p_filesz = 40 };
        for (unsigned i = 0; i < 2; i++)
                good.load[i] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_filesz = 32, .p_memsz = 64,
                                             .p_offset = (size_t)(good.content - base) + i * 32,
                                             .p_paddr = 0x100000 + i * 0x1000 };

        struct pvh pvh;

        ASSERT(pvh_parse(&good, sizeof(good), &pvh, NULL) == 0);
        return mutate_main(argc, argv, base, sizeof(good));
}

#endif
