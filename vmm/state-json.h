/* SPDX-License-Identifier: Apache-2.0 */
/* state-json.h - kernel structs as JSON by tables of their fields.
 *
 * INV-TABLE: each struct has one table, and saving, loading and comparing walk
 * that same table; a field can not be in one and missing in another. What no
 * table names is padding or reserved and reads 0 after a load.
 *
 * Threads: no state; tables are constant.
 * Errors:  decoding treats JSON as untrusted: a missing field, a wrong type or
 *          a number too big for its field is -EBADMSG with the field's name.
 */
#ifndef VMM_STATE_JSON_H
#define VMM_STATE_JSON_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct state_field {
        const char *name;
        uint16_t offset;                /* of the (first) number in its struct */
        uint8_t bytes;                  /* 1, 2, 4 or 8: of one number */
        uint8_t count;                  /* 1: a number; more: an array */
        uint8_t stride;                 /* bytes from one item to the next */
};

struct state_table {
        const char *name;               /* in JSON, in messages and in differences */
        const struct state_field *fields;
        size_t nfields;
        size_t struct_bytes;
};

uint64_t state_field_get(const struct state_field *f, const void *s, unsigned item);
void state_field_set(const struct state_field *f, void *s, unsigned item, uint64_t v);

/* {"field": number or [numbers], ...} */
struct json_object *state_table_encode(const struct state_table *t, const void *s);
/* Fills *s, which has t->struct_bytes, zeroed where no field says else. */
int state_table_decode(const struct state_table *t, struct json_object *o, void *s,
                       struct err *e);

/* [number, ...] in the table's order, for structs that come by the hundred */
struct json_object *state_row_encode(const struct state_table *t, const void *s);
int state_row_decode(const struct state_table *t, struct json_object *row, void *s,
                     struct err *e);

/* json_object_object_add with a key that lives as long as the program */
void state_json_add(struct json_object *o, const char *key, struct json_object *v);

#endif
