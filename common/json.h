/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - checked access to json-c objects that came from outside.
 *
 * All json_take_*(): the field must be there with the right type and range,
 * else -EBADMSG and a sentence that names it; *ret is written on success
 * only. json_parse() limits depth and size and refuses trailing bytes.
 * Ownership: json_parse() returns a reference the caller puts; json_take_obj
 * and json_take_array borrow from their parent.
 */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define JSON_DEPTH_MAX 16

int json_parse(const char *text, size_t bytes, struct json_object **ret, struct err *e);
int json_take_u64(struct json_object *o, const char *key, uint64_t max, uint64_t *ret,
                  struct err *e);
int json_take_bool(struct json_object *o, const char *key, bool *ret, struct err *e);
/* borrowed, NUL-terminated, without embedded NULs */
int json_take_str(struct json_object *o, const char *key, const char **ret, struct err *e);
int json_take_obj(struct json_object *o, const char *key, struct json_object **ret,
                  struct err *e);
int json_take_array(struct json_object *o, const char *key, size_t max_items,
                    struct json_object **ret, struct err *e);

void json_put_u64(struct json_object *o, const char *key, uint64_t v);
void json_put_str(struct json_object *o, const char *key, const char *v);
void json_put_bool(struct json_object *o, const char *key, bool v);
void json_put_null(struct json_object *o, const char *key);
/* with so many digits behind the point; json-c alone writes 0.3 as 0.29999999999999999 */
void json_put_decimal(struct json_object *o, const char *key, double v, int digits);

static inline void auto_json(struct json_object **o)
{
        json_object_put(*o);
}
#define AUTO_JSON __attribute__((cleanup(auto_json))) struct json_object

#endif
