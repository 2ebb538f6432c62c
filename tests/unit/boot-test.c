/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: kernel, initrd and tables lie where the guest is told, and a guest that
 *   is too small is refused with the size it needs.
 * Method: a made-up bzImage into real RAM of 64 MiB and 5 GiB; no KVM. */
#include "vmm/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define KERNEL_BYTES 0x3000
#define INITRD_BYTES (MIB + 5)

static uint8_t kernel[KERNEL_BYTES], initrd[INITRD_BYTES];

static const struct acpi_machine one_cpu = { .cpus = 1 };
static const struct acpi_machine two_cpus = { .cpus = 2 };

static struct boot_source source(uint32_t init_bytes, uint32_t initrd_addr_max)
{
        memset(kernel, 0x90, sizeof(kernel));
        memset(initrd, 0x77, sizeof(initrd));
        memset(kernel + 0x1f1, 0, 0x26c - 0x1f1);
        kernel[0x1f1] = 3;
        put_le16(kernel + 0x1fe, 0xaa55);
        kernel[0x201] = 0x6a;
        memcpy(kernel + 0x202, "HdrS", 4);
        put_le16(kernel + 0x206, 0x020f);
        kernel[0x211] = 1;
        put_le32(kernel + 0x22c, initrd_addr_max);
        put_le16(kernel + 0x236, 1);
        put_le32(kernel + 0x238, 100);
        put_le64(kernel + 0x258, 16 * MIB);
        put_le32(kernel + 0x260, init_bytes);
        return (struct boot_source){
                .kernel = kernel, .kernel_bytes = sizeof(kernel), .kernel_name = "vmlinuz",
                .initrd = initrd, .initrd_bytes = sizeof(initrd), .cmdline = "console=ttyS0",
        };
}

static struct ram new_ram(uint64_t bytes)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, bytes, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, NULL), 0);
        return ram;
}

static void all_is_in_place(void)
{
        static const struct {
                uint64_t ram_bytes, initrd_gpa;
        } t[] = {
                { 64 * MIB, 62 * MIB + 0xff000 },
                { 5120 * MIB, 2048 * MIB - MIB - 0x1000 },      /* below initrd_addr_max */
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct ram ram = new_ram(t[i].ram_bytes);
                struct boot_source s = source(20 * MIB, 0x7fffffff);
                struct boot_entry entry;

                CU_ASSERT_EQUAL_FATAL(boot_load(&ram, &two_cpus, &s, &entry, NULL), 0);
                CU_ASSERT_EQUAL(entry.protocol, BOOT_LINUX64);
                CU_ASSERT_EQUAL(entry.rip_gpa, 16 * MIB + 0x200);
                CU_ASSERT_EQUAL(memcmp(ram_at(&ram, 16 * MIB, 0x2800), kernel + 0x800, 0x2800), 0);

                const uint8_t *params = ram_at(&ram, entry.info_gpa, 4096);

                CU_ASSERT_EQUAL(get_le32(params + 0x218), t[i].initrd_gpa);
                CU_ASSERT_EQUAL(get_le32(params + 0x21c), INITRD_BYTES);
                CU_ASSERT_EQUAL(memcmp(ram_at(&ram, t[i].initrd_gpa, INITRD_BYTES), initrd,
                                       INITRD_BYTES), 0);
                CU_ASSERT_STRING_EQUAL((char *)ram_at(&ram, get_le32(params + 0x228), 20),
                                       "console=ttyS0");
                CU_ASSERT_EQUAL(memcmp(ram_at(&ram, 0xe0000, 8), "RSD PTR ", 8), 0);
                CU_ASSERT_EQUAL(memcmp(ram_at(&ram, 0xffff0, 5), "\xb0\xfe\xe6\x64\xf4", 5), 0);
                CU_ASSERT_EQUAL(get_le16(ram_at(&ram, 0x40e, 2)), 0x9fc0);
                ram_unmap(&ram);
        }
}

/* Follows the boot page tables as the CPU would; 0 when not present */
static uint64_t walk(const struct ram *ram, uint64_t va)
{
        uint64_t table = 0x9000;

        for (int shift = 39; shift >= 21; shift -= 9) {
                uint64_t e = get_le64(ram_at(ram, table + (va >> shift & 511) * 8, 8));

                if (!(e & 1))
                        return 0;
                if (shift == 21)
                        return (e & 0xfffffffe00000) | (va & 0x1fffff);
                table = e & 0xffffffffff000;
        }
        return 0;
}

static void page_tables_map_four_gib(void)
{
        static const uint64_t mapped[] = { 0x1000, 0x1fffff, 0x200000, 0x3fffffff, 0x40000000,
                                           0xbffff000, 0xfee00000, 0xffffffff };
        struct ram ram = new_ram(64 * MIB);
        struct boot_source s = source(MIB, 0x7fffffff);
        struct boot_entry entry;

        CU_ASSERT_EQUAL_FATAL(boot_load(&ram, &one_cpu, &s, &entry, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(mapped); i++)
                CU_ASSERT_EQUAL(walk(&ram, mapped[i]), mapped[i]);
        CU_ASSERT_EQUAL(walk(&ram, 4096 * MIB), 0);
        CU_ASSERT_EQUAL(walk(&ram, 1ull << 39), 0);
        ram_unmap(&ram);
}

static void refusals(void)
{
        struct ram ram = new_ram(64 * MIB);
        static char long_line[102];
        static const struct {
                const char *text;
                uint32_t init_bytes, initrd_addr_max;
                bool with_initrd;
                int rc;
        } t[] = {
                { NULL, 48 * MIB, 0x7fffffff, false, 0 },
                { NULL, 46 * MIB, 0x7fffffff, true, 0 },
                /* 16 + 48 + 1.0 MiB, in steps of 2 */
                { "kernel 'vmlinuz': it needs at least 66 MiB", 48 * MIB, 0x7fffffff, true,
                  -ENOMEM },
                { "at least 72 MiB", 0x3377000 + 4 * MIB, 0x7fffffff, false, -ENOMEM },
                { "do not fit below 15 MiB", MIB, 0xffffff - MIB, true, -E2BIG },
                { NULL, MIB, 0xfff, false, 0 },                 /* no initrd: no limit */
                { "do not fit below 3072 MiB", UINT32_MAX, 0x7fffffff, false, -E2BIG },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct boot_source s = source(t[i].init_bytes, t[i].initrd_addr_max);
                struct boot_entry entry;
                struct err e = { 0 };

                if (!t[i].with_initrd)
                        s.initrd_bytes = 0;
                CU_ASSERT_EQUAL(boot_load(&ram, &one_cpu, &s, &entry, &e), t[i].rc);
                if (t[i].text)
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t[i].text));
        }

        struct boot_source s = source(MIB, 0x7fffffff);
        struct boot_entry entry;
        struct err e = { 0 };

        memset(long_line, 'x', sizeof(long_line) - 1);
        s.cmdline = long_line;
        CU_ASSERT_EQUAL(boot_load(&ram, &one_cpu, &s, &entry, &e), -E2BIG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "101 characters"));
        s.cmdline = long_line + 1;
        CU_ASSERT_EQUAL(boot_load(&ram, &one_cpu, &s, &entry, &e), 0);
        s.kernel = initrd;
        CU_ASSERT_EQUAL(boot_load(&ram, &one_cpu, &s, &entry, &e), -EBADMSG);
        CU_ASSERT_STRING_EQUAL(e.text, "kernel 'vmlinuz': neither a bzImage nor a PVH ELF");
        ram_unmap(&ram);
}

static const CU_TestInfo cases[] = {
        { "all is where the guest is told", all_is_in_place },
        { "boot page tables map the first 4 GiB", page_tables_map_four_gib },
        { "what does not fit is refused with the size it needs", refusals },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("boot", cases);
}
