/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/sections.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

static const char magic[8] = { 'S', 'N', 'A', 'P', 'S', 'E', 'C', 'T' };

#define HEAD_BYTES (sizeof(magic) + 8)
#define ROW_BYTES (SECTIONS_NAME_BYTES + 8)

size_t sections_bytes(const struct section *s, size_t n)
{
        size_t bytes = HEAD_BYTES + n * ROW_BYTES;

        if (n > SECTIONS_MAX)
                return 0;
        for (size_t i = 0; i < n; i++) {
                if (s[i].bytes > SECTIONS_BYTES_MAX - bytes)
                        return 0;
                bytes += s[i].bytes;
        }
        return bytes;
}

static bool name_ok(const char *name)
{
        size_t n = 0;

        while (n < SECTIONS_NAME_BYTES && name[n]) {
                bool ok = (name[n] >= 'A' && name[n] <= 'Z') ||
                          (name[n] >= '0' && name[n] <= '9') || name[n] == '_';

                if (!ok)
                        return false;
                n++;
        }
        if (n == 0 || n == SECTIONS_NAME_BYTES)
                return false;
        while (n < SECTIONS_NAME_BYTES) {
                if (name[n++])
                        return false;
        }
        return true;
}

void sections_encode(const struct section *s, size_t n, uint8_t *buf)
{
        uint8_t *row = buf + HEAD_BYTES;
        uint8_t *data = row + n * ROW_BYTES;

        ASSERT(n <= SECTIONS_MAX);
        memcpy(buf, magic, sizeof(magic));
        put_le32(buf + sizeof(magic), SECTIONS_VERSION);
        put_le32(buf + sizeof(magic) + 4, (uint32_t)n);
        for (size_t i = 0; i < n; i++, row += ROW_BYTES) {
                ASSERT(name_ok(s[i].name) && !sections_find(s, i, s[i].name));
                memcpy(row, s[i].name, SECTIONS_NAME_BYTES);
                put_le64(row + SECTIONS_NAME_BYTES, s[i].bytes);
                if (s[i].bytes)
                        memcpy(data, s[i].data, s[i].bytes);
                data += s[i].bytes;
        }
}

static int decode_head(const uint8_t *buf, size_t bytes, size_t *ret_n)
{
        if (bytes < HEAD_BYTES || bytes > SECTIONS_BYTES_MAX ||
            memcmp(buf, magic, sizeof(magic)) != 0)
                return -EBADMSG;
        if (get_le32(buf + sizeof(magic)) != SECTIONS_VERSION)
                return -ENOTSUP;

        uint32_t n = get_le32(buf + sizeof(magic) + 4);

        if (n > SECTIONS_MAX || bytes - HEAD_BYTES < n * ROW_BYTES)
                return -EBADMSG;
        *ret_n = n;
        return 0;
}

int sections_decode(const void *buf, size_t bytes, struct section ret[SECTIONS_MAX],
                    size_t *ret_n)
{
        const uint8_t *row = (const uint8_t *)buf + HEAD_BYTES;
        struct section s[SECTIONS_MAX];
        size_t n = 0;
        int rc = decode_head(buf, bytes, &n);

        if (rc < 0)
                return rc;

        const uint8_t *data = row + n * ROW_BYTES;
        size_t left = bytes - HEAD_BYTES - n * ROW_BYTES;

        for (size_t i = 0; i < n; i++, row += ROW_BYTES) {
                uint64_t size = get_le64(row + SECTIONS_NAME_BYTES);

                memcpy(s[i].name, row, SECTIONS_NAME_BYTES);
                if (!name_ok(s[i].name) || sections_find(s, i, s[i].name) || size > left)
                        return -EBADMSG;
                s[i].data = data;
                s[i].bytes = size;
                data += size;
                left -= size;
        }
        if (left)
                return -EBADMSG;
        for (size_t i = 0; i < n; i++)
                ret[i] = s[i];
        *ret_n = n;
        return 0;
}

const struct section *sections_find(const struct section *s, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++) {
                if (!strcmp(s[i].name, name))
                        return &s[i];
        }
        return NULL;
}
