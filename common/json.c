/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

int json_parse(const char *text, size_t bytes, struct json_object **ret, struct err *e)
{
        if (bytes > INT32_MAX)
                return err_msg(e, EBADMSG, "JSON text of %zu bytes is too long", bytes);

        struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);

        if (!tok)
                return err_msg(e, ENOMEM, "no memory to parse JSON");
        json_tokener_set_flags(tok, JSON_TOKENER_STRICT);

        struct json_object *o = json_tokener_parse_ex(tok, text, (int)bytes);
        enum json_tokener_error why = json_tokener_get_error(tok);
        size_t end = json_tokener_get_parse_end(tok);

        json_tokener_free(tok);
        if (why != json_tokener_success || end != bytes ||
            !json_object_is_type(o, json_type_object)) {
                json_object_put(o);
                return err_msg(e, EBADMSG, "not a JSON object: %s",
                               why == json_tokener_success ? "unexpected text" :
                               json_tokener_error_desc(why));
        }
        *ret = o;
        return 0;
}

static int take(struct json_object *o, const char *key, enum json_type type,
                struct json_object **ret, struct err *e)
{
        struct json_object *v;

        if (!json_object_object_get_ex(o, key, &v))
                return err_msg(e, EBADMSG, "JSON field '%s' is missing", key);
        if (!json_object_is_type(v, type))
                return err_msg(e, EBADMSG, "JSON field '%s' is not of type %s", key,
                               json_type_to_name(type));
        *ret = v;
        return 0;
}

int json_take_u64(struct json_object *o, const char *key, uint64_t max, uint64_t *ret,
                  struct err *e)
{
        struct json_object *v;
        int rc = take(o, key, json_type_int, &v, e);

        if (rc < 0)
                return rc;
        /* get_uint64 clamps a negative number to 0: refuse it first */
        if (json_object_get_int64(v) < 0)
                return err_msg(e, EBADMSG, "JSON field '%s' is negative", key);

        uint64_t n = json_object_get_uint64(v);

        if (n > max)
                return err_msg(e, EBADMSG, "JSON field '%s' is %llu, more than %llu", key,
                               (unsigned long long)n, (unsigned long long)max);
        *ret = n;
        return 0;
}

int json_take_bool(struct json_object *o, const char *key, bool *ret, struct err *e)
{
        struct json_object *v;
        int rc = take(o, key, json_type_boolean, &v, e);

        if (rc == 0)
                *ret = json_object_get_boolean(v);
        return rc;
}

int json_take_str(struct json_object *o, const char *key, const char **ret, struct err *e)
{
        struct json_object *v;
        int rc = take(o, key, json_type_string, &v, e);

        if (rc < 0)
                return rc;

        const char *s = json_object_get_string(v);

        if (strlen(s) != (size_t)json_object_get_string_len(v))
                return err_msg(e, EBADMSG, "JSON field '%s' holds a NUL character", key);
        *ret = s;
        return 0;
}

int json_take_obj(struct json_object *o, const char *key, struct json_object **ret,
                  struct err *e)
{
        return take(o, key, json_type_object, ret, e);
}

int json_take_array(struct json_object *o, const char *key, size_t max_items,
                    struct json_object **ret, struct err *e)
{
        struct json_object *v;
        int rc = take(o, key, json_type_array, &v, e);

        if (rc < 0)
                return rc;
        if (json_object_array_length(v) > max_items)
                return err_msg(e, EBADMSG, "JSON field '%s' has %zu items, at most %zu are allowed",
                               key, json_object_array_length(v), max_items);
        *ret = v;
        return 0;
}

static void put(struct json_object *o, const char *key, struct json_object *v)
{
        int rc = json_object_object_add(o, key, v);

        ASSERT(rc == 0);
}

void json_put_u64(struct json_object *o, const char *key, uint64_t v)
{
        put(o, key, json_object_new_uint64(v));
}

void json_put_str(struct json_object *o, const char *key, const char *v)
{
        put(o, key, json_object_new_string(v));
}

void json_put_bool(struct json_object *o, const char *key, bool v)
{
        put(o, key, json_object_new_boolean(v));
}

void json_put_null(struct json_object *o, const char *key)
{
        put(o, key, NULL);
}

void json_put_decimal(struct json_object *o, const char *key, double v, int digits)
{
        char text[64];

        snprintf(text, sizeof(text), "%.*f", digits, v);
        put(o, key, json_object_new_double_s(v, text));
}
