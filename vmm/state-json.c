/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/state-json.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"

static uint64_t field_max(const struct state_field *f)
{
        return UINT64_MAX >> (64 - 8 * f->bytes);
}

/* x86 is little-endian: the low bytes of a uint64_t are the smaller number. */
uint64_t state_field_get(const struct state_field *f, const void *s, unsigned item)
{
        uint64_t v = 0;

        ASSERT(item < f->count);
        memcpy(&v, (const uint8_t *)s + f->offset + (size_t)item * f->stride, f->bytes);
        return v;
}

void state_field_set(const struct state_field *f, void *s, unsigned item, uint64_t v)
{
        ASSERT(item < f->count && v <= field_max(f));
        memcpy((uint8_t *)s + f->offset + (size_t)item * f->stride, &v, f->bytes);
}

void state_json_add(struct json_object *o, const char *key, struct json_object *v)
{
        ASSERT(v != NULL);

        int rc = json_object_object_add_ex(o, key, v, JSON_C_OBJECT_ADD_KEY_IS_NEW |
                                                      JSON_C_OBJECT_KEY_IS_CONSTANT);

        ASSERT(rc == 0);
}

static void append(struct json_object *array, uint64_t v)
{
        int rc = json_object_array_add(array, json_object_new_uint64(v));

        ASSERT(rc == 0);
}

static struct json_object *field_encode(const struct state_field *f, const void *s)
{
        if (f->count == 1)
                return json_object_new_uint64(state_field_get(f, s, 0));

        struct json_object *items = json_object_new_array_ext(f->count);

        for (unsigned i = 0; i < f->count; i++)
                append(items, state_field_get(f, s, i));
        return items;
}

struct json_object *state_table_encode(const struct state_table *t, const void *s)
{
        struct json_object *o = json_object_new_object();

        for (size_t i = 0; i < t->nfields; i++)
                state_json_add(o, t->fields[i].name, field_encode(&t->fields[i], s));
        return o;
}

/* The one place where a number of a saved state becomes a trusted one. */
static int number_decode(const struct state_table *t, const struct state_field *f,
                         struct json_object *v, void *s, unsigned item, struct err *e)
{
        /* get_int64 clamps what is above INT64_MAX, get_uint64 what is below 0 */
        if (!json_object_is_type(v, json_type_int) || json_object_get_int64(v) < 0)
                return err_msg(e, EBADMSG, "'%s' of '%s' is not a number from 0 up",
                               f->name, t->name);

        uint64_t n = json_object_get_uint64(v);

        if (n > field_max(f))
                return err_msg(e, EBADMSG, "'%s' of '%s' is %llu, more than %llu", f->name,
                               t->name, (unsigned long long)n,
                               (unsigned long long)field_max(f));
        state_field_set(f, s, item, n);
        return 0;
}

static int items_decode(const struct state_table *t, const struct state_field *f,
                        struct json_object *items, void *s, struct err *e)
{
        if (!json_object_is_type(items, json_type_array) ||
            json_object_array_length(items) != f->count)
                return err_msg(e, EBADMSG, "'%s' of '%s' is not an array of %u numbers",
                               f->name, t->name, f->count);
        for (unsigned i = 0; i < f->count; i++) {
                int rc = number_decode(t, f, json_object_array_get_idx(items, i), s, i, e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}

int state_table_decode(const struct state_table *t, struct json_object *o, void *s,
                       struct err *e)
{
        memset(s, 0, t->struct_bytes);
        for (size_t i = 0; i < t->nfields; i++) {
                const struct state_field *f = &t->fields[i];
                struct json_object *v;

                if (!json_object_object_get_ex(o, f->name, &v))
                        return err_msg(e, EBADMSG, "'%s' of '%s' is missing", f->name, t->name);

                int rc = f->count == 1 ? number_decode(t, f, v, s, 0, e)
                                       : items_decode(t, f, v, s, e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}

struct json_object *state_row_encode(const struct state_table *t, const void *s)
{
        struct json_object *row = json_object_new_array_ext((int)t->nfields);

        for (size_t i = 0; i < t->nfields; i++)
                append(row, state_field_get(&t->fields[i], s, 0));
        return row;
}

int state_row_decode(const struct state_table *t, struct json_object *row, void *s,
                     struct err *e)
{
        if (!json_object_is_type(row, json_type_array) ||
            json_object_array_length(row) != t->nfields)
                return err_msg(e, EBADMSG, "an entry of '%s' is not an array of %zu numbers",
                               t->name, t->nfields);
        memset(s, 0, t->struct_bytes);
        for (size_t i = 0; i < t->nfields; i++) {
                struct json_object *v = json_object_array_get_idx(row, i);
                int rc = number_decode(t, &t->fields[i], v, s, 0, e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}
