/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pvh.h"

#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define NOTE_NAME "Xen"
#define NOTE_PHYS32_ENTRY 18            /* XEN_ELFNOTE_PHYS32_ENTRY */

/* A kernel has less than ten program headers; a file that claims more is none. */
#define PHDRS_MAX 64

bool pvh_is_elf(const void *file, size_t bytes)
{
        return bytes >= SELFMAG && memcmp(file, ELFMAG, SELFMAG) == 0;
}

static bool in_file(uint64_t offset, uint64_t len, size_t bytes)
{
        return offset <= bytes && len <= bytes - offset;
}

static int check_header(const Elf64_Ehdr *h, size_t bytes, struct err *e)
{
        if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
            h->e_machine != EM_X86_64)
                return err_msg(e, ENOTSUP, "an ELF file, but not for 64-bit x86");
        if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > PHDRS_MAX)
                return err_msg(e, EBADMSG, "an ELF file with %u program headers of %u bytes",
                               h->e_phnum, h->e_phentsize);
        if (!in_file(h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr), bytes))
                return err_msg(e, EBADMSG, "an ELF file whose program headers lie outside it");
        return 0;
}

static int take_segment(const uint8_t *file, size_t bytes, const Elf64_Phdr *ph, struct pvh *pvh,
                        struct err *e)
{
        if (ph->p_memsz == 0)
                return 0;
        if (!in_file(ph->p_offset, ph->p_filesz, bytes) || ph->p_filesz > ph->p_memsz)
                return err_msg(e, EBADMSG, "an ELF file with a segment that lies outside it");
        if (ph->p_paddr < BOOT_KERNEL_MIN_GPA || ph->p_paddr >= RAM_LOW_END_GPA ||
            ph->p_memsz > RAM_LOW_END_GPA - ph->p_paddr)
                return err_msg(e, EBADMSG, "it wants to be loaded at %#llx, which is not memory "
                               "between 1 MiB and 3 GiB", (unsigned long long)ph->p_paddr);
        if (pvh->nsegments == PVH_SEGMENTS_MAX)
                return err_msg(e, EBADMSG, "an ELF file with more than %d segments",
                               PVH_SEGMENTS_MAX);
        pvh->segments[pvh->nsegments++] = (struct pvh_segment){
                .gpa = ph->p_paddr,
                .data = file + ph->p_offset,
                .data_bytes = ph->p_filesz,
                .memory_bytes = ph->p_memsz,
        };
        pvh->end_gpa = MAX(pvh->end_gpa, ph->p_paddr + ph->p_memsz);
        return 0;
}

/* The entry of one note, or 0 */
static uint64_t entry_of(const Elf64_Nhdr *n, const uint8_t *name, const uint8_t *desc)
{
        if (n->n_type != NOTE_PHYS32_ENTRY || n->n_namesz != sizeof(NOTE_NAME) ||
            memcmp(name, NOTE_NAME, sizeof(NOTE_NAME)) != 0)
                return 0;
        if (n->n_descsz == 4)
                return get_le32(desc);
        return n->n_descsz == 8 ? get_le64(desc) : 0;
}

/* Walks the notes of one PT_NOTE; a broken one ends the walk. */
static uint64_t find_entry(const uint8_t *notes, uint64_t bytes, uint64_t align)
{
        uint64_t at = 0;

        align = align == 8 ? 8 : 4;
        while (bytes - at >= sizeof(Elf64_Nhdr)) {
                Elf64_Nhdr n;

                memcpy(&n, notes + at, sizeof(n));

                uint64_t name_at = at + sizeof(n);
                uint64_t desc_at = ALIGN_UP(name_at + n.n_namesz, align);
                uint64_t next_at = ALIGN_UP(desc_at + n.n_descsz, align);

                if (name_at + n.n_namesz > bytes || desc_at + n.n_descsz > bytes)
                        return 0;

                uint64_t entry = entry_of(&n, notes + name_at, notes + desc_at);

                if (entry)
                        return entry;
                if (next_at >= bytes)
                        return 0;
                at = next_at;
        }
        return 0;
}

static bool in_segment(const struct pvh *pvh, uint64_t gpa)
{
        for (unsigned i = 0; i < pvh->nsegments; i++) {
                const struct pvh_segment *s = &pvh->segments[i];

                if (gpa >= s->gpa && gpa - s->gpa < s->memory_bytes)
                        return true;
        }
        return false;
}

int pvh_parse(const void *file, size_t bytes, struct pvh *ret, struct err *e)
{
        const uint8_t *p = file;
        struct pvh pvh = { 0 };
        uint64_t entry = 0;
        Elf64_Ehdr h;

        if (!pvh_is_elf(file, bytes) || bytes < sizeof(h))
                return err_msg(e, EBADMSG, "not an ELF file");
        memcpy(&h, p, sizeof(h));

        int rc = check_header(&h, bytes, e);

        for (unsigned i = 0; rc == 0 && i < h.e_phnum; i++) {
                Elf64_Phdr ph;

                memcpy(&ph, p + h.e_phoff + i * sizeof(ph), sizeof(ph));
                if (ph.p_type == PT_LOAD)
                        rc = take_segment(p, bytes, &ph, &pvh, e);
                else if (ph.p_type == PT_NOTE && !entry && in_file(ph.p_offset, ph.p_filesz, bytes))
                        entry = find_entry(p + ph.p_offset, ph.p_filesz, ph.p_align);
        }
        if (rc < 0)
                return rc;
        if (!entry)
                return err_msg(e, ENOTSUP, "an ELF file without a PVH entry: build the kernel with "
                               "CONFIG_PVH");
        if (!in_segment(&pvh, entry))
                return err_msg(e, EBADMSG, "its PVH entry %#llx lies in no segment",
                               (unsigned long long)entry);
        pvh.entry_gpa = (uint32_t)entry;
        *ret = pvh;
        return 0;
}

/* ---- hvm_start_info ------------------------------------------------------ */

#define START_MAGIC 0x336ec578
#define START_VERSION 1

struct start_info {
        uint32_t magic, version, flags, nr_modules;
        uint64_t modlist_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
        uint32_t memmap_entries, reserved;
};

struct module {
        uint64_t gpa, bytes, cmdline_gpa, reserved;
};

struct map_entry {
        uint64_t gpa, bytes;
        uint32_t type, reserved;
};

struct info_page {
        struct start_info start;
        struct module initrd;
        struct map_entry map[MEMMAP_RANGES_MAX];
};

static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");
static_assert(sizeof(struct module) == 32, "hvm_modlist_entry");
static_assert(sizeof(struct map_entry) == 24, "hvm_memmap_table_entry");
static_assert(sizeof(struct info_page) <= PVH_INFO_BYTES, "one page");

void pvh_info(const struct pvh_setup *setup, uint64_t info_gpa,
              uint8_t ret_info[PVH_INFO_BYTES])
{
        struct info_page page = {
                .start = {
                        .magic = START_MAGIC,
                        .version = START_VERSION,
                        .cmdline_gpa = setup->cmdline_gpa,
                        .rsdp_gpa = setup->rsdp_gpa,
                        .memmap_gpa = info_gpa + offsetof(struct info_page, map),
                        .memmap_entries = setup->memmap->nranges,
                },
        };

        if (setup->initrd_bytes) {
                page.start.nr_modules = 1;
                page.start.modlist_gpa = info_gpa + offsetof(struct info_page, initrd);
                page.initrd.gpa = setup->initrd_gpa;
                page.initrd.bytes = setup->initrd_bytes;
        }
        for (unsigned i = 0; i < setup->memmap->nranges; i++) {
                page.map[i].gpa = setup->memmap->ranges[i].gpa;
                page.map[i].bytes = setup->memmap->ranges[i].bytes;
                page.map[i].type = setup->memmap->ranges[i].type;
        }
        memset(ret_info, 0, PVH_INFO_BYTES);
        memcpy(ret_info, &page, sizeof(page));
}
