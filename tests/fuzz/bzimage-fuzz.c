/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no file makes the bzImage parser read outside it, and what it accepts
 *   keeps the promises of bzimage.h.
 * Method: libFuzzer, or mutations of one good header (mutate.h). */
#include "vmm/bzimage.h"

#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tests/fuzz/mutate.h"

static void check_promises(const uint8_t *data, size_t bytes, const struct bzimage *image)
{
        uint8_t params[BZIMAGE_PARAMS_BYTES];
        struct memmap map = { 0 };
        const struct bzimage_setup setup = { .memmap = &map };

        ASSERT(image->code >= data && image->code_bytes <= bytes &&
               image->code + image->code_bytes == data + bytes);
        ASSERT(image->code_bytes > BZIMAGE_ENTRY_OFFSET);
        ASSERT(image->init_bytes >= image->code_bytes);
        ASSERT(image->load_gpa >= BOOT_KERNEL_MIN_GPA && image->load_gpa < RAM_LOW_END_GPA);
        ASSERT(image->load_gpa + image->init_bytes > image->load_gpa);
        bzimage_params(image, &setup, params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        struct bzimage image;
        struct err e = { 0 };
        int rc = bzimage_parse(data, bytes, &image, &e);

        if (rc == 0)
                check_promises(data, bytes, &image);
        else
                ASSERT(e.code == rc && e.text[0]);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        static uint8_t good[0x700];

        good[0x1f1] = 1;
        put_le16(good + 0x1fe, 0xaa55);
        good[0x201] = 0x6a;
        memcpy(good + 0x202, "HdrS", 4);
        put_le16(good + 0x206, 0x020f);
        good[0x211] = 1;
        put_le32(good + 0x230, 0x200000);
        good[0x234] = 1;
        put_le16(good + 0x236, 1);
        put_le64(good + 0x258, 0x1000000);
        put_le32(good + 0x260, 0x3377000);

        struct bzimage image;

        ASSERT(bzimage_parse(good, sizeof(good), &image, NULL) == 0);
        return mutate_main(argc, argv, good, sizeof(good));
}

#endif
