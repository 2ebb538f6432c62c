/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/json.h"

int hex_put(struct json_object *o, const char *key, const uint8_t *data, size_t bytes)
{
        static const char digits[] = "0123456789abcdef";
        AUTO_FREE char *text = malloc(2 * bytes + 1);

        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < bytes; i++) {
                text[2 * i] = digits[data[i] >> 4];
                text[2 * i + 1] = digits[data[i] & 15];
        }
        text[2 * bytes] = '\0';
        json_put_str(o, key, text);
        return 0;
}

static int digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

int hex_take(struct json_object *o, const char *key, size_t max, uint8_t *ret_data,
             size_t *ret_bytes, struct err *e)
{
        const char *text;
        int rc = json_take_str(o, key, &text, e);

        if (rc < 0)
                return rc;

        size_t bytes = strlen(text) / 2;

        if (strlen(text) % 2 || bytes > max)
                return err_msg(e, EBADMSG, "JSON field '%s' is not 0 to %zu bytes in hexadecimal",
                               key, max);
        for (size_t i = 0; i < bytes; i++) {
                int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return err_msg(e, EBADMSG, "JSON field '%s' is not hexadecimal", key);
                ret_data[i] = (uint8_t)(high << 4 | low);
        }
        *ret_bytes = bytes;
        return 0;
}
