/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: good kernels are placed as the boot protocol says, bad ones are refused
 *   in one sentence, and boot_params tells the guest the truth.
 * Method: a made-up image; one changed field per case; no byte beyond the file
 *   is read (the file ends at the end of its heap block, for ASan). */
#include "vmm/bzimage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define FILE_BYTES 0x3000

/* As Debian's: protocol 2.15, 3 setup sectors */
static void make(uint8_t *f)
{
        for (unsigned i = 0; i < FILE_BYTES; i++)
                f[i] = (uint8_t)(i * 7);
        f[0x1f1] = 3;
        put_le16(f + 0x1fe, 0xaa55);
        f[0x200] = 0xeb;
        f[0x201] = 0x6a;
        memcpy(f + 0x202, "HdrS", 4);
        put_le16(f + 0x206, 0x020f);
        f[0x211] = 0x01;
        put_le32(f + 0x22c, 0x7fffffff);
        put_le32(f + 0x230, 0x200000);
        f[0x234] = 1;
        put_le16(f + 0x236, 0x7f);
        put_le32(f + 0x238, 2047);
        put_le64(f + 0x258, 16 * MIB);
        put_le32(f + 0x260, 0x3377000);
}

static void good_image(void)
{
        uint8_t f[FILE_BYTES];
        struct bzimage image;

        make(f);
        CU_ASSERT(bzimage_is(f, sizeof(f)));
        CU_ASSERT_EQUAL_FATAL(bzimage_parse(f, sizeof(f), &image, NULL), 0);
        CU_ASSERT_PTR_EQUAL(image.code, f + 0x800);
        CU_ASSERT_EQUAL(image.code_bytes, FILE_BYTES - 0x800);
        CU_ASSERT_PTR_EQUAL(image.header, f + 0x1f1);
        CU_ASSERT_EQUAL(image.header_bytes, 0x26c - 0x1f1);
        CU_ASSERT_EQUAL(image.load_gpa, 16 * MIB);
        CU_ASSERT_EQUAL(image.init_bytes, 0x3377000);
        CU_ASSERT_EQUAL(image.initrd_end_gpa_max, 0x80000000);
        CU_ASSERT_EQUAL(image.cmdline_bytes_max, 2047);
}

static void one_field_changed(void)
{
        static const struct {
                const char *text;       /* NULL: accepted */
                unsigned offset, width;
                uint64_t value;
                int rc;
        } t[] = {
                { "not a bzImage", 0x1fe, 2, 0x55aa, -EBADMSG },
                { "not a bzImage", 0x202, 1, 'h', -EBADMSG },
                { "too old", 0x206, 2, 0x020b, -ENOTSUP },
                { NULL, 0x206, 2, 0x020c, 0 },
                { "no 64-bit entry", 0x236, 2, 0x7e, -ENOTSUP },
                { "zImage", 0x211, 1, 0, -ENOTSUP },
                { "setup header", 0x201, 1, 0x61, -EBADMSG },
                { NULL, 0x201, 1, 0x62, 0 },
                { NULL, 0x201, 1, 0xff, 0 },            /* clipped before 0x290 */
                { "truncated", 0x1f1, 1, 0xff, -EBADMSG },
                { NULL, 0x1f1, 1, 0, 0 },               /* means 4 */
                { "loaded at", 0x258, 8, 3ull << 30, -EBADMSG },
                { "loaded at", 0x258, 8, UINT64_MAX, -EBADMSG },
                { NULL, 0x258, 8, MIB, 0 },
                { NULL, 0x258, 8, 0, 0 },               /* relocatable */
                { NULL, 0x260, 4, 0, 0 },
                { NULL, 0x260, 4, UINT32_MAX, 0 },      /* RAM is checked by boot.c */
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                uint8_t *f = malloc(FILE_BYTES);
                struct bzimage image;
                struct err e = { 0 };

                CU_ASSERT_PTR_NOT_NULL_FATAL(f);
                make(f);
                for (unsigned b = 0; b < t[i].width; b++)
                        f[t[i].offset + b] = (uint8_t)(t[i].value >> 8 * b);
                CU_ASSERT_EQUAL(bzimage_parse(f, FILE_BYTES, &image, &e), t[i].rc);
                if (t[i].text) {
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t[i].text));
                } else {
                        CU_ASSERT(image.load_gpa >= BOOT_KERNEL_MIN_GPA);
                        CU_ASSERT(image.init_bytes >= image.code_bytes);
                }
                free(f);
        }
}

static void placement_without_preference(void)
{
        uint8_t f[FILE_BYTES];
        struct bzimage image;

        make(f);
        put_le64(f + 0x258, 0);
        CU_ASSERT_EQUAL_FATAL(bzimage_parse(f, sizeof(f), &image, NULL), 0);
        CU_ASSERT_EQUAL(image.load_gpa, 2 * MIB);
        put_le32(f + 0x230, 0x300000);                  /* no power of two */
        CU_ASSERT_EQUAL(bzimage_parse(f, sizeof(f), &image, NULL), -EBADMSG);
        put_le32(f + 0x230, 0);
        CU_ASSERT_EQUAL(bzimage_parse(f, sizeof(f), &image, NULL), -EBADMSG);
        f[0x234] = 0;                                   /* and not relocatable */
        CU_ASSERT_EQUAL(bzimage_parse(f, sizeof(f), &image, NULL), -EBADMSG);
}

static void every_length(void)
{
        uint8_t whole[FILE_BYTES];
        unsigned accepted = 0;

        make(whole);
        for (size_t bytes = 0; bytes <= FILE_BYTES; bytes++) {
                uint8_t *f = malloc(bytes ? bytes : 1);
                struct bzimage image;

                CU_ASSERT_PTR_NOT_NULL_FATAL(f);
                memcpy(f, whole, bytes);
                accepted += bzimage_parse(f, bytes, &image, NULL) == 0;
                free(f);
        }
        /* the code begins at 0x800 and must reach beyond its entry at +0x200 */
        CU_ASSERT_EQUAL(accepted, FILE_BYTES - 0xa00);
}

static void params_tell_the_truth(void)
{
        uint8_t f[FILE_BYTES], p[BZIMAGE_PARAMS_BYTES];
        struct bzimage image;
        struct ram ram;
        struct memmap map;
        struct bzimage_setup setup = { .cmdline_gpa = 0x20000, .initrd_gpa = 0x7654000,
                                       .initrd_bytes = 0x123456, .rsdp_gpa = 0xe0000,
                                       .memmap = &map };

        make(f);
        put_le64(f + 0x250, 0xbad);                     /* setup_data */
        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 5ull << 30, NULL), 0);
        memmap_build(&ram, &map);
        CU_ASSERT_EQUAL_FATAL(bzimage_parse(f, sizeof(f), &image, NULL), 0);
        bzimage_params(&image, &setup, p);
        CU_ASSERT_EQUAL(memcmp(p + 0x202, "HdrS", 4), 0);
        CU_ASSERT_EQUAL(p[0x210], 0xff);
        CU_ASSERT_EQUAL(p[0x211] & 1, 1);
        CU_ASSERT_EQUAL(get_le16(p + 0x1fa), 0xffff);
        CU_ASSERT_EQUAL(get_le32(p + 0x214), 16 * MIB);
        CU_ASSERT_EQUAL(get_le32(p + 0x218), 0x7654000);
        CU_ASSERT_EQUAL(get_le32(p + 0x21c), 0x123456);
        CU_ASSERT_EQUAL(get_le32(p + 0x228), 0x20000);
        CU_ASSERT_EQUAL(get_le64(p + 0x250), 0);
        CU_ASSERT_EQUAL(get_le64(p + 0x070), 0xe0000);
        CU_ASSERT_EQUAL(p[0], 0);                       /* no screen */
        CU_ASSERT_EQUAL(get_le32(p + 0x26c), 0);        /* behind the header */

        static const struct {
                uint64_t gpa, bytes;
                uint32_t type;
        } want[] = {
                { 0, 0x9f000, 1 }, { 0x9f000, 0x1000, 2 }, { 0xe0000, 0x20000, 2 },
                { MIB, (3ull << 30) - MIB, 1 }, { 4ull << 30, 2ull << 30, 1 },
        };

        CU_ASSERT_EQUAL(p[0x1e8], ARRAY_SIZE(want));
        for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
                CU_ASSERT_EQUAL(get_le64(p + 0x2d0 + i * 20), want[i].gpa);
                CU_ASSERT_EQUAL(get_le64(p + 0x2d8 + i * 20), want[i].bytes);
                CU_ASSERT_EQUAL(get_le32(p + 0x2e0 + i * 20), want[i].type);
        }
}

static const CU_TestInfo cases[] = {
        { "a good image", good_image },
        { "one field changed", one_field_changed },
        { "placement without a preferred address", placement_without_preference },
        { "a file of every length", every_length },
        { "boot_params tell the truth", params_tell_the_truth },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("bzimage", cases);
}
