/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/boot.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "vmm/bzimage.h"
#include "vmm/memmap.h"
#include "vmm/pvh.h"

#define PAGE_BYTES 4096ull
#define RAM_STEP_BYTES (2ull << 20)

/* RAM is fresh: all that is not written here is zero. */
static void *must_at(const struct ram *ram, uint64_t gpa, uint64_t bytes)
{
        void *p = ram_at(ram, gpa, bytes);

        ASSERT(p);      /* below RAM_BYTES_MIN, or checked by the caller */
        return p;
}

/* ---- what every guest gets ----------------------------------------------- */

/* mov al, 0xfe; out 0x64, al; hlt: where a reboot through real mode lands */
static const uint8_t reset_stub[] = { 0xb0, 0xfe, 0xe6, 0x64, 0xf4 };

#define BIOS_EBDA_POINTER_GPA 0x40e

enum { GDT_CODE64 = 2, GDT_DATA, GDT_TSS, GDT_ENTRIES };

static const uint64_t gdt[GDT_ENTRIES] = {
        [GDT_CODE64] = 0x00af9b000000ffff,
        [GDT_DATA] = 0x00cf93000000ffff,
        [GDT_TSS] = 0x008f8b000000ffff,
};

#define PTE_TABLE 0x3                   /* present, writable */
#define PTE_2M 0x83                     /* ... and a leaf */
#define PAGE_DIRECTORIES 4              /* 1 GiB each */

/* The first 4 GiB, one to one, in 2 MiB pages. */
static void put_page_tables(const struct ram *ram)
{
        uint64_t pdpt_gpa = BOOT_PML4_GPA + PAGE_BYTES, pd_gpa = pdpt_gpa + PAGE_BYTES;
        uint8_t *pml4 = must_at(ram, BOOT_PML4_GPA, PAGE_BYTES);
        uint8_t *pdpt = must_at(ram, pdpt_gpa, PAGE_BYTES);
        uint8_t *pd = must_at(ram, pd_gpa, PAGE_DIRECTORIES * PAGE_BYTES);

        put_le64(pml4, pdpt_gpa | PTE_TABLE);
        for (uint64_t i = 0; i < PAGE_DIRECTORIES; i++)
                put_le64(pdpt + i * 8, (pd_gpa + i * PAGE_BYTES) | PTE_TABLE);
        for (uint64_t i = 0; i < PAGE_DIRECTORIES * PAGE_BYTES / 8; i++)
                put_le64(pd + i * 8, i << 21 | PTE_2M);
}

static void put_firmware(const struct ram *ram, const struct acpi_machine *machine)
{
        memcpy(must_at(ram, BOOT_GDT_GPA, sizeof(gdt)), gdt, sizeof(gdt));
        put_page_tables(ram);
        put_le16(must_at(ram, BIOS_EBDA_POINTER_GPA, 2), (BOOT_EBDA_GPA + 0xc00) >> 4);
        acpi_build(must_at(ram, BOOT_BIOS_GPA, ACPI_AREA_BYTES), BOOT_BIOS_GPA, machine);
        memcpy(must_at(ram, BOOT_RESET_STUB_GPA, sizeof(reset_stub)), reset_stub,
               sizeof(reset_stub));
}

static int put_cmdline(const struct ram *ram, const char *cmdline, size_t bytes_max,
                       struct err *e)
{
        size_t bytes = strlen(cmdline);

        bytes_max = MIN(bytes_max, BOOT_CMDLINE_BYTES_MAX - 1);
        if (bytes > bytes_max)
                return err_msg(e, E2BIG, "the command line has %zu characters, this kernel takes "
                               "%zu", bytes, bytes_max);
        memcpy(must_at(ram, BOOT_CMDLINE_GPA, bytes + 1), cmdline, bytes + 1);
        return 0;
}

/* ---- room for kernel and initrd ------------------------------------------ */

static int too_small(uint64_t need_bytes, struct err *e)
{
        return err_msg(e, ENOMEM, "it needs at least %llu MiB of guest RAM, initrd included: "
                       "give it more with --memory",
                       (unsigned long long)(ALIGN_UP(need_bytes, RAM_STEP_BYTES) >> 20));
}

/* Checks that the kernel fits, and puts the initrd above it at the top of low
 * RAM, page-aligned. *ret_gpa is 0 without initrd. */
static int place_initrd(const struct ram *ram, const struct boot_source *source,
                        uint64_t kernel_end_gpa, uint64_t end_gpa_max, uint64_t *ret_gpa,
                        struct err *e)
{
        if (source->initrd_bytes > RAM_LOW_END_GPA)
                return err_msg(e, E2BIG, "its initrd of %zu MiB is too large",
                               source->initrd_bytes >> 20);
        if (!source->initrd_bytes)
                end_gpa_max = RAM_LOW_END_GPA;
        end_gpa_max = ALIGN_DOWN(MIN(end_gpa_max, RAM_LOW_END_GPA), PAGE_BYTES);

        uint64_t initrd_bytes = ALIGN_UP(source->initrd_bytes, PAGE_BYTES);
        uint64_t need_bytes = ALIGN_UP(kernel_end_gpa, PAGE_BYTES) + initrd_bytes;
        uint64_t end_gpa = MIN(ram->slots[0].bytes, end_gpa_max);

        if (need_bytes > end_gpa_max)
                return err_msg(e, E2BIG, "it and its initrd of %zu MiB do not fit below %llu MiB",
                               source->initrd_bytes >> 20,
                               (unsigned long long)(end_gpa_max >> 20));
        if (need_bytes > end_gpa)
                return too_small(need_bytes, e);
        if (!source->initrd_bytes) {
                *ret_gpa = 0;
                return 0;
        }
        memcpy(must_at(ram, end_gpa - initrd_bytes, initrd_bytes), source->initrd,
               source->initrd_bytes);
        *ret_gpa = end_gpa - initrd_bytes;
        return 0;
}

static int load_bzimage(struct ram *ram, const struct boot_source *source,
                        const struct memmap *memmap, struct boot_entry *ret, struct err *e)
{
        struct bzimage image;
        struct bzimage_setup setup = {
                .cmdline_gpa = BOOT_CMDLINE_GPA,
                .initrd_bytes = source->initrd_bytes,
                .rsdp_gpa = BOOT_BIOS_GPA,
                .memmap = memmap,
        };
        int rc = bzimage_parse(source->kernel, source->kernel_bytes, &image, e);

        if (rc == 0)
                rc = put_cmdline(ram, source->cmdline, image.cmdline_bytes_max, e);
        if (rc == 0)
                rc = place_initrd(ram, source, image.load_gpa + image.init_bytes,
                                  image.initrd_end_gpa_max, &setup.initrd_gpa, e);
        if (rc < 0)
                return rc;
        memcpy(must_at(ram, image.load_gpa, image.init_bytes), image.code, image.code_bytes);
        bzimage_params(&image, &setup, must_at(ram, BOOT_PARAMS_GPA, BZIMAGE_PARAMS_BYTES));
        *ret = (struct boot_entry){
                .protocol = BOOT_LINUX64,
                .rip_gpa = image.load_gpa + BZIMAGE_ENTRY_OFFSET,
                .info_gpa = BOOT_PARAMS_GPA,
        };
        return 0;
}

static int load_pvh(struct ram *ram, const struct boot_source *source,
                    const struct memmap *memmap, struct boot_entry *ret, struct err *e)
{
        struct pvh pvh;
        struct pvh_setup setup = {
                .cmdline_gpa = BOOT_CMDLINE_GPA,
                .initrd_bytes = source->initrd_bytes,
                .rsdp_gpa = BOOT_BIOS_GPA,
                .memmap = memmap,
        };
        int rc = pvh_parse(source->kernel, source->kernel_bytes, &pvh, e);

        if (rc == 0)
                rc = put_cmdline(ram, source->cmdline, SIZE_MAX, e);
        if (rc == 0)
                rc = place_initrd(ram, source, pvh.end_gpa, RAM_LOW_END_GPA, &setup.initrd_gpa, e);
        if (rc < 0)
                return rc;
        for (unsigned i = 0; i < pvh.nsegments; i++) {
                const struct pvh_segment *s = &pvh.segments[i];

                memcpy(must_at(ram, s->gpa, s->memory_bytes), s->data, s->data_bytes);
        }
        pvh_info(&setup, BOOT_PVH_INFO_GPA, must_at(ram, BOOT_PVH_INFO_GPA, PVH_INFO_BYTES));
        *ret = (struct boot_entry){
                .protocol = BOOT_PVH,
                .rip_gpa = pvh.entry_gpa,
                .info_gpa = BOOT_PVH_INFO_GPA,
        };
        return 0;
}

int boot_load(struct ram *ram, const struct acpi_machine *machine,
              const struct boot_source *source, struct boot_entry *ret, struct err *e)
{
        struct memmap memmap;
        int rc;

        memmap_build(ram, &memmap);
        if (bzimage_is(source->kernel, source->kernel_bytes))
                rc = load_bzimage(ram, source, &memmap, ret, e);
        else if (pvh_is_elf(source->kernel, source->kernel_bytes))
                rc = load_pvh(ram, source, &memmap, ret, e);
        else
                rc = err_msg(e, EBADMSG, "neither a bzImage nor a PVH ELF");
        if (rc < 0)
                return err_in(e, rc, "kernel '%s'", source->kernel_name);
        put_firmware(ram, machine);
        return 0;
}

/* ---- registers ----------------------------------------------------------- */

#define CR0_PE 0x1ull
#define CR0_ET 0x10ull
#define CR0_NE 0x20ull
#define CR0_PG 0x80000000ull
#define CR4_PAE 0x20ull
#define EFER_LONG 0x500ull              /* LME, LMA */
#define RFLAGS_FIXED 0x2ull

#define SEGMENT_CODE 11                 /* execute, read, accessed */
#define SEGMENT_DATA 3                  /* read, write, accessed */
#define SEGMENT_TSS 11                  /* 32/64-bit, busy */

#define MSR_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1ull
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED_FIXED_WB 0xc06ull  /* as firmware leaves it: else Linux has no PAT */

static struct kvm_segment flat(unsigned index, uint8_t type, bool long_mode)
{
        return (struct kvm_segment){
                .limit = UINT32_MAX,
                .selector = (uint16_t)(index * 8),
                .type = type,
                .present = 1,
                .s = 1,
                .l = long_mode,
                .db = !long_mode,
                .g = 1,
        };
}

static struct kvm_segment tss(unsigned index, uint32_t limit)
{
        return (struct kvm_segment){ .limit = limit, .selector = (uint16_t)(index * 8),
                                     .type = SEGMENT_TSS, .present = 1 };
}

static void enter_linux64(const struct boot_entry *entry, struct kvm_sregs *s, struct kvm_regs *r)
{
        s->cs = flat(GDT_CODE64, SEGMENT_CODE, true);
        s->tr = tss(GDT_TSS, 0xffff);
        s->gdt.base = BOOT_GDT_GPA;
        s->gdt.limit = sizeof(gdt) - 1;
        s->cr0 = CR0_PG | CR0_NE | CR0_ET | CR0_PE;
        s->cr3 = BOOT_PML4_GPA;
        s->cr4 = CR4_PAE;
        s->efer = EFER_LONG;
        r->rsi = entry->info_gpa;
        r->rsp = BOOT_STACK_TOP_GPA;
}

static void enter_pvh(const struct boot_entry *entry, struct kvm_sregs *s, struct kvm_regs *r)
{
        s->cs = flat(GDT_CODE64, SEGMENT_CODE, false);
        s->tr = tss(GDT_TSS, 0x67);
        s->cr0 = CR0_ET | CR0_PE;
        s->cr4 = 0;
        s->efer = 0;
        r->rbx = entry->info_gpa;
}

static int set_registers(struct kvm *kvm, const struct boot_entry *entry, struct err *e)
{
        struct kvm_sregs s;
        struct kvm_regs r = { .rip = entry->rip_gpa, .rflags = RFLAGS_FIXED };
        int rc = kvm_call(kvm, kvm->vcpu_fd[0], KVM_GET_SREGS, &s);

        if (rc < 0)
                return err_set(e, -rc, "KVM: read the registers of vCPU 0");
        s.ds = s.es = s.fs = s.gs = s.ss = flat(GDT_DATA, SEGMENT_DATA, false);
        s.idt.base = s.idt.limit = 0;
        if (entry->protocol == BOOT_LINUX64)
                enter_linux64(entry, &s, &r);
        else
                enter_pvh(entry, &s, &r);
        rc = kvm_call(kvm, kvm->vcpu_fd[0], KVM_SET_SREGS, &s);
        if (rc == 0)
                rc = kvm_call(kvm, kvm->vcpu_fd[0], KVM_SET_REGS, &r);
        if (rc < 0)
                return err_set(e, -rc, "KVM: set the registers of vCPU 0");
        return 0;
}

/* Reads or writes one MSR; whether the host knows it. */
static bool msr(struct kvm *kvm, unsigned cpu, unsigned long request, uint32_t index,
                uint64_t *value)
{
        union {
                struct kvm_msrs msrs;
                uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
        } m = { .msrs.nmsrs = 1 };

        m.msrs.entries[0] = (struct kvm_msr_entry){ .index = index, .data = *value };
        if (kvm_call(kvm, kvm->vcpu_fd[cpu], request, &m) != 1)
                return false;
        *value = m.msrs.entries[0].data;
        return true;
}

/* What firmware would have set up. A host that does not know one of them costs
 * the guest its PAT or its fast strings only: no error. */
static void set_msrs(struct kvm *kvm, unsigned cpu)
{
        uint64_t misc = 0, mtrr = MTRR_ENABLED_FIXED_WB;

        if (msr(kvm, cpu, KVM_GET_MSRS, MSR_MISC_ENABLE, &misc)) {
                misc |= MISC_ENABLE_FAST_STRING;
                (void)msr(kvm, cpu, KVM_SET_MSRS, MSR_MISC_ENABLE, &misc);
        }
        (void)msr(kvm, cpu, KVM_SET_MSRS, MSR_MTRR_DEF_TYPE, &mtrr);
}

int boot_set_vcpus(struct kvm *kvm, const struct boot_entry *entry, struct err *e)
{
        for (unsigned i = 0; i < kvm->cpus; i++)
                set_msrs(kvm, i);
        /* the others wait for INIT and SIPI, as KVM made them */
        return set_registers(kvm, entry, e);
}
