/* SPDX-License-Identifier: Apache-2.0 */
/* hex.h - short byte strings in saved JSON, as lower-case hexadecimal. */
#ifndef VMM_HEX_H
#define VMM_HEX_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* 0 or -ENOMEM */
int hex_put(struct json_object *o, const char *key, const uint8_t *data, size_t bytes);
/* At most max bytes; -EBADMSG and a sentence for anything else. ret_data may be
 * written on failure too. */
int hex_take(struct json_object *o, const char *key, size_t max, uint8_t *ret_data,
             size_t *ret_bytes, struct err *e);

#endif
