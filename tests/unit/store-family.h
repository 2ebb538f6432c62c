/* SPDX-License-Identifier: Apache-2.0 */
/* store-family.h - images with parents for tests: small ones of our own, whose headers
 * are patched to name each other as deltas would. Setup that fails aborts. */
#ifndef TESTS_UNIT_STORE_FAMILY_H
#define TESTS_UNIT_STORE_FAMILY_H

#include <stddef.h>
#include <stdint.h>

#include "tests/unit/store-kit.h"

#define FAMILY_RAM_BYTES (24u * 4096)

/* What a child must know of its parent. */
struct kin {
        uint8_t uuid[16];
        uint64_t state;
};

struct family {
        char folder[KIT_PATH_MAX];
        char parent[KIT_PATH_MAX];
        char child[KIT_PATH_MAX];
        struct kit_ram parent_ram;
        struct kit_ram child_ram;
        struct kin kin;                 /* of the parent */
};

/* Two files, "parent" and "child", in a folder of their own; the child, which names
 * no parent yet, has every third page of its own. */
void family_begin(struct family *f, unsigned parent_bits, unsigned child_bits);
/* asserts that no other file is left in the folder */
void family_end(struct family *f);
/* What child over parent holds, for free(): a cluster with any data is the child's. */
uint8_t *family_merged(const struct family *f, unsigned child_bits);

/* pages: bit i = page i holds data, of this seed; others are zero */
struct kit_ram family_ram(uint32_t pages, uint64_t seed);
void family_save(const char *path, struct kit_ram *ram, unsigned bits);
/* Makes the file a child of `name`, as a delta of ours would be; format NULL =
 * not said. */
void family_name_parent(const char *path, const char *name, const char *format,
                        const struct kin *kin);
struct kin family_kin(const char *path);

#endif
