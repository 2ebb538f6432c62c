/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: PVH kernels are found out by their note, bad files are refused in one
 *   sentence, and hvm_start_info leads to all the guest needs.
 * Method: a made-up ELF; one changed field per case; files end where their heap
 *   block ends, for ASan. */
#include "vmm/pvh.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define ENTRY (16 * MIB + 0x850)

/* Two segments, two notes of which the second is Xen's */
struct elf {
        Elf64_Ehdr h;
        Elf64_Phdr note, text, data;
        struct {
                Elf64_Nhdr n;
                char name[4];
                uint8_t desc[8];        /* 5 used, padded */
        } gnu;
        struct {
                Elf64_Nhdr n;
                char name[4];
                uint64_t desc;
        } __attribute__((packed)) xen;
        uint8_t content[64];
};

static struct elf make(void)
{
        struct elf f = {
                .h = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 },
                       .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
                       .e_phoff = offsetof(struct elf, note), .e_phentsize = sizeof(Elf64_Phdr),
                       .e_phnum = 3 },
                .note = { .p_type = PT_NOTE, .p_offset = offsetof(struct elf, gnu),
                          .p_filesz = offsetof(struct elf, content) - offsetof(struct elf, gnu),
                          .p_align = 4 },
                .text = { .p_type = PT_LOAD, .p_offset = offsetof(struct elf, content),
                          .p_filesz = 40, .p_memsz = 0x1000, .p_paddr = 16 * MIB },
                .data = { .p_type = PT_LOAD, .p_offset = offsetof(struct elf, content) + 40,
                          .p_filesz = 24, .p_memsz = 24, .p_paddr = 32 * MIB },
                .gnu = { .n = { 4, 5, 3 }, .name = "GNU" },
                .xen = { .n = { 4, 8, 18 }, .name = "Xen", .desc = ENTRY },
        };

        return f;
}

static void good_file(void)
{
        struct elf f = make();
        struct pvh pvh;

        CU_ASSERT(pvh_is_elf(&f, sizeof(f)));
        CU_ASSERT_EQUAL_FATAL(pvh_parse(&f, sizeof(f), &pvh, NULL), 0);
        CU_ASSERT_EQUAL(pvh.entry_gpa, ENTRY);
        CU_ASSERT_EQUAL(pvh.nsegments, 2);
        CU_ASSERT_EQUAL(pvh.segments[0].gpa, 16 * MIB);
        CU_ASSERT_PTR_EQUAL(pvh.segments[0].data, f.content);
        CU_ASSERT_EQUAL(pvh.segments[0].data_bytes, 40);
        CU_ASSERT_EQUAL(pvh.segments[0].memory_bytes, 0x1000);
        CU_ASSERT_EQUAL(pvh.end_gpa, 32 * MIB + 24);

        f.xen.n.n_descsz = 4;           /* both widths are in use */
        CU_ASSERT_EQUAL(pvh_parse(&f, sizeof(f), &pvh, NULL), 0);
        CU_ASSERT_EQUAL(pvh.entry_gpa, ENTRY);
}

#define FIELD(f) offsetof(struct elf, f), sizeof(((struct elf *)0)->f)

static void one_field_changed(void)
{
        static const struct {
                const char *text;       /* NULL: accepted */
                size_t offset, width;
                uint64_t value;
                int rc;
        } t[] = {
                { "not an ELF", FIELD(h.e_ident[0]), 0x7e, -EBADMSG },
                { "64-bit x86", FIELD(h.e_ident[4]), ELFCLASS32, -ENOTSUP },
                { "64-bit x86", FIELD(h.e_ident[5]), ELFDATA2MSB, -ENOTSUP },
                { "64-bit x86", FIELD(h.e_machine), EM_AARCH64, -ENOTSUP },
                { "program headers", FIELD(h.e_phentsize), 55, -EBADMSG },
                { "program headers", FIELD(h.e_phnum), 0, -EBADMSG },
                { "program headers", FIELD(h.e_phnum), 0xffff, -EBADMSG },
                { "lie outside", FIELD(h.e_phoff), UINT64_MAX, -EBADMSG },
                { "lie outside", FIELD(h.e_phoff), sizeof(struct elf) - 100, -EBADMSG },
                { "outside it", FIELD(text.p_filesz), sizeof(struct elf), -EBADMSG },
                { "outside it", FIELD(text.p_offset), UINT64_MAX, -EBADMSG },
                { "outside it", FIELD(text.p_memsz), 39, -EBADMSG },
                { "loaded at", FIELD(text.p_memsz), UINT64_MAX, -EBADMSG },
                { "loaded at", FIELD(data.p_paddr), 0xff000, -EBADMSG },
                { "loaded at", FIELD(data.p_paddr), (3ull << 30) - 23, -EBADMSG },
                { NULL, FIELD(data.p_paddr), (3ull << 30) - 24, 0 },
                { "loaded at", FIELD(data.p_paddr), UINT64_MAX, -EBADMSG },
                { NULL, FIELD(data.p_memsz), 0, 0 },
                { "without a PVH entry", FIELD(note.p_type), PT_NULL, -ENOTSUP },
                { "without a PVH entry", FIELD(note.p_offset), UINT64_MAX, -ENOTSUP },
                { "without a PVH entry", FIELD(note.p_filesz), 40, -ENOTSUP },
                { "without a PVH entry", FIELD(gnu.n.n_descsz), UINT32_MAX, -ENOTSUP },
                { "without a PVH entry", FIELD(gnu.n.n_namesz), UINT32_MAX, -ENOTSUP },
                { "without a PVH entry", FIELD(xen.n.n_type), 17, -ENOTSUP },
                { "without a PVH entry", FIELD(xen.n.n_descsz), 2, -ENOTSUP },
                { "without a PVH entry", FIELD(xen.name[0]), 'x', -ENOTSUP },
                { "without a PVH entry", FIELD(xen.desc), 0, -ENOTSUP },
                { "in no segment", FIELD(xen.desc), 16 * MIB + 0x1000, -EBADMSG },
                { "in no segment", FIELD(xen.desc), (1ull << 32) + ENTRY, -EBADMSG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct elf *f = malloc(sizeof(*f));
                struct pvh pvh;
                struct err e = { 0 };

                CU_ASSERT_PTR_NOT_NULL_FATAL(f);
                *f = make();
                memcpy((uint8_t *)f + t[i].offset, &t[i].value, t[i].width);
                CU_ASSERT_EQUAL(pvh_parse(f, sizeof(*f), &pvh, &e), t[i].rc);
                if (t[i].text)
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t[i].text));
                free(f);
        }
}

static void every_length(void)
{
        struct elf whole = make();
        unsigned accepted = 0;

        for (size_t bytes = 0; bytes <= sizeof(whole); bytes++) {
                uint8_t *f = malloc(bytes ? bytes : 1);
                struct pvh pvh;

                CU_ASSERT_PTR_NOT_NULL_FATAL(f);
                memcpy(f, &whole, bytes);
                accepted += pvh_parse(f, bytes, &pvh, NULL) == 0;
                free(f);
        }
        CU_ASSERT_EQUAL(accepted, 1);
}

static void too_many_segments(void)
{
        struct {
                struct elf elf;
                Elf64_Phdr phdrs[PVH_SEGMENTS_MAX + 2];
        } f = { .elf = make() };
        struct pvh pvh;
        struct err e;

        f.phdrs[0] = f.elf.note;
        for (unsigned i = 1; i < ARRAY_SIZE(f.phdrs); i++)
                f.phdrs[i] = f.elf.text;
        f.elf.h.e_phoff = (size_t)((uint8_t *)f.phdrs - (uint8_t *)&f);
        f.elf.h.e_phnum = PVH_SEGMENTS_MAX + 1;
        CU_ASSERT_EQUAL(pvh_parse(&f, sizeof(f), &pvh, &e), 0);
        f.elf.h.e_phnum++;
        CU_ASSERT_EQUAL(pvh_parse(&f, sizeof(f), &pvh, &e), -EBADMSG);
}

static void info_leads_to_all(void)
{
        uint8_t p[PVH_INFO_BYTES];
        struct ram ram;
        struct memmap map;
        struct pvh_setup setup = { .cmdline_gpa = 0x20000, .initrd_gpa = 0x3000000,
                                   .initrd_bytes = 777, .rsdp_gpa = 0xe0000, .memmap = &map };

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 64 * MIB, NULL), 0);
        memmap_build(&ram, &map);
        pvh_info(&setup, 0x6000, p);
        CU_ASSERT_EQUAL(get_le32(p), 0x336ec578);
        CU_ASSERT_EQUAL(get_le32(p + 4), 1);
        CU_ASSERT_EQUAL(get_le32(p + 12), 1);
        CU_ASSERT_EQUAL(get_le64(p + 24), 0x20000);
        CU_ASSERT_EQUAL(get_le64(p + 32), 0xe0000);

        const uint8_t *mod = p + (get_le64(p + 16) - 0x6000);
        const uint8_t *mem = p + (get_le64(p + 40) - 0x6000);

        CU_ASSERT_EQUAL(get_le64(mod), 0x3000000);
        CU_ASSERT_EQUAL(get_le64(mod + 8), 777);
        CU_ASSERT_EQUAL(get_le32(p + 48), 4);
        CU_ASSERT_EQUAL(get_le64(mem + 3 * 24), MIB);
        CU_ASSERT_EQUAL(get_le64(mem + 3 * 24 + 8), 63 * MIB);
        CU_ASSERT_EQUAL(get_le32(mem + 3 * 24 + 16), 1);
        CU_ASSERT_EQUAL(get_le32(mem + 24 + 16), 2);

        setup.initrd_bytes = 0;
        pvh_info(&setup, 0x6000, p);
        CU_ASSERT_EQUAL(get_le32(p + 12), 0);
        CU_ASSERT_EQUAL(get_le64(p + 16), 0);
}

static const CU_TestInfo cases[] = {
        { "a good file", good_file },
        { "one field changed", one_field_changed },
        { "a file of every length", every_length },
        { "too many segments", too_many_segments },
        { "start_info leads to all", info_leads_to_all },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("pvh", cases);
}
