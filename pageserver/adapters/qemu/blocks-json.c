/* SPDX-License-Identifier: Apache-2.0 */
/* the list "blocks" of section QEMU-BLOCKS: [{"name":..,"bytes":..,"page_size":..,
 * "extents":[{"at":..,"gpa":..,"bytes":..},..]},..] */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "pageserver/adapters/qemu/blocks.h"

static struct json_object *encode_extent(const struct qemu_extent *x)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "at", x->at);
        json_put_u64(o, "gpa", x->gpa);
        json_put_u64(o, "bytes", x->bytes);
        return o;
}

static struct json_object *encode_block(const struct qemu_block *block)
{
        struct json_object *o = json_object_new_object();
        struct json_object *extents = json_object_new_array();

        json_put_str(o, "name", block->name);
        json_put_u64(o, "bytes", block->bytes);
        json_put_u64(o, "page_size", block->page_size);
        for (size_t i = 0; i < block->n_extents; i++)
                json_object_array_add(extents, encode_extent(&block->extents[i]));
        json_object_object_add(o, "extents", extents);
        return o;
}

struct json_object *qemu_blocks_encode(const struct qemu_blocks *b)
{
        struct json_object *list = json_object_new_array();

        for (size_t i = 0; i < b->n; i++)
                json_object_array_add(list, encode_block(&b->at[i]));
        return list;
}

static struct json_object *object_at(struct json_object *list, size_t i)
{
        struct json_object *o = json_object_array_get_idx(list, i);

        return json_object_is_type(o, json_type_object) ? o : NULL;
}

static int decode_extent(struct json_object *o, struct qemu_extent *ret, struct err *e)
{
        int rc = o ? json_take_u64(o, "at", QS_DISK_BYTES_MAX, &ret->at, e)
                   : err_msg(e, EBADMSG, "an extent is not a JSON object");

        if (rc == 0)
                rc = json_take_u64(o, "gpa", QS_DISK_BYTES_MAX, &ret->gpa, e);
        if (rc == 0)
                rc = json_take_u64(o, "bytes", QS_DISK_BYTES_MAX, &ret->bytes, e);
        return rc;
}

static int decode_extents(struct json_object *o, struct qemu_block *block, struct err *e)
{
        struct json_object *list;
        int rc = json_take_array(o, "extents", QEMU_EXTENTS_MAX, &list, e);

        if (rc < 0)
                return rc;
        block->n_extents = json_object_array_length(list);
        for (size_t i = 0; rc == 0 && i < block->n_extents; i++)
                rc = decode_extent(object_at(list, i), &block->extents[i], e);
        return rc;
}

static int decode_block(struct json_object *o, struct qemu_blocks *b, struct err *e)
{
        const char *name;
        uint64_t bytes, page_size;
        int rc = o ? json_take_str(o, "name", &name, e)
                   : err_msg(e, EBADMSG, "it is not a JSON object");

        if (rc == 0)
                rc = json_take_u64(o, "bytes", QS_DISK_BYTES_MAX, &bytes, e);
        if (rc == 0)
                rc = json_take_u64(o, "page_size", QEMU_HOST_PAGE_BYTES_MAX, &page_size, e);
        if (rc == 0)
                rc = qemu_blocks_add(b, name, strlen(name), bytes, e);
        if (rc < 0)
                return rc;

        struct qemu_block *block = &b->at[b->n - 1];

        block->page_size = (uint32_t)page_size;
        return decode_extents(o, block, e);
}

int qemu_blocks_decode(struct json_object *list, uint64_t disk_bytes, struct qemu_blocks *ret,
                       struct err *e)
{
        struct qemu_blocks b = { .disk_bytes = disk_bytes };
        size_t n = json_object_array_length(list);

        for (size_t i = 0; i < n; i++) {
                int rc = decode_block(object_at(list, i), &b, e);

                if (rc < 0) {
                        qemu_blocks_fini(&b);
                        return err_in(e, rc, "RAM block %zu of the list", i);
                }
        }
        *ret = b;
        return 0;
}
