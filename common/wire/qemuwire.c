/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/qemuwire.h"

#include <string.h>

#include "common/utf8.h"

static bool has_control(const uint8_t *bytes, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (bytes[i] < 0x20 || bytes[i] == 0x7f)
                        return true;
        return false;
}

bool qemu_name_take(const uint8_t *bytes, size_t n, char ret[QEMU_NAME_MAX + 1])
{
        char text[QEMU_NAME_MAX + 1];
        char mended[QEMU_NAME_MAX + 1];

        if (n == 0 || n > QEMU_NAME_MAX || has_control(bytes, n))
                return false;
        memcpy(text, bytes, n);
        text[n] = '\0';
        if (strcmp(utf8_mend(text, mended, sizeof(mended)), text))
                return false;
        memcpy(ret, text, n + 1);
        return true;
}

unsigned qemu_ramblock_find(const struct qemu_ramblock *blocks, unsigned n, const uint8_t *name,
                            size_t bytes)
{
        for (unsigned i = 0; i < n; i++)
                if (strlen(blocks[i].name) == bytes && !memcmp(blocks[i].name, name, bytes))
                        return i;
        return n;
}
