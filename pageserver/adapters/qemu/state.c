/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/wire/qemuhead.h"

/* ---- QEMU-BLOCKS --------------------------------------------------------- */

struct json_object *qemu_state_encode(const struct qemu_state *s)
{
        struct json_object *o = json_object_new_object();
        struct json_object *ram = json_object_new_object();

        json_put_u64(o, "version", QEMU_STATE_VERSION);
        json_put_str(o, "program", PACKAGE_STRING);
        json_put_str(o, "machine", s->machine);
        json_put_u64(o, "page_size", s->page_size);
        json_put_bool(o, "footers", s->footers);
        json_put_u64(ram, "id", s->ram_id);
        json_put_u64(ram, "instance", s->ram_instance);
        json_put_u64(ram, "version", s->ram_version);
        json_object_object_add(o, "ram_section", ram);
        json_object_object_add(o, "blocks", qemu_blocks_encode(&s->blocks));
        return o;
}

static int take_u32(struct json_object *o, const char *key, uint32_t *ret, struct err *e)
{
        uint64_t v;
        int rc = json_take_u64(o, key, UINT32_MAX, &v, e);

        if (rc == 0)
                *ret = (uint32_t)v;
        return rc;
}

static int decode_machine(struct json_object *o, struct qemu_state *s, struct err *e)
{
        const char *name;
        int rc = json_take_str(o, "machine", &name, e);

        if (rc < 0 || !name[0])
                return rc;
        if (!qemu_name_take((const uint8_t *)name, strlen(name), s->machine))
                return err_msg(e, EBADMSG, "the machine's name is no text of 1 to %u bytes",
                               QEMU_NAME_MAX);
        return 0;
}

static int decode_ram(struct json_object *o, struct qemu_state *s, struct err *e)
{
        struct json_object *ram;
        int rc = json_take_obj(o, "ram_section", &ram, e);

        if (rc == 0)
                rc = take_u32(ram, "id", &s->ram_id, e);
        if (rc == 0)
                rc = take_u32(ram, "instance", &s->ram_instance, e);
        if (rc == 0)
                rc = take_u32(ram, "version", &s->ram_version, e);
        return rc;
}

static int decode(struct json_object *o, uint64_t disk_bytes, struct qemu_state *s,
                  struct err *e)
{
        struct json_object *blocks;
        uint32_t version;
        int rc = take_u32(o, "version", &version, e);

        if (rc == 0 && version != QEMU_STATE_VERSION)
                rc = err_msg(e, version ? ENOTSUP : EBADMSG, "it is of version %u, this program "
                             "knows %d: use a newer one", version, QEMU_STATE_VERSION);
        if (rc == 0)
                rc = decode_machine(o, s, e);
        if (rc == 0)
                rc = take_u32(o, "page_size", &s->page_size, e);
        if (rc == 0)
                rc = json_take_bool(o, "footers", &s->footers, e);
        if (rc == 0)
                rc = decode_ram(o, s, e);
        if (rc == 0)
                rc = json_take_array(o, "blocks", QEMU_BLOCKS_MAX, &blocks, e);
        if (rc == 0)
                rc = qemu_blocks_decode(blocks, disk_bytes, &s->blocks, e);
        return rc < 0 ? rc : qemu_blocks_seal(&s->blocks, s->page_size, e);
}

int qemu_state_decode(const char *text, size_t bytes, uint64_t disk_bytes,
                      struct qemu_state *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        struct qemu_state s = { 0 };
        int rc = json_parse(text, bytes, &o, e);

        if (rc == 0)
                rc = decode(o, disk_bytes, &s, e);
        if (rc < 0) {
                qemu_state_fini(&s);
                return err_in(e, rc, "section " QEMU_SECTION_BLOCKS);
        }
        *ret = s;
        return 0;
}

/* ---- the other sections -------------------------------------------------- */

static int check_head(const struct qemu_state *s, struct err *e)
{
        struct qemuhead head;
        size_t used;
        int rc = qemuhead_parse(s->head, s->head_bytes, true, &head, &used, e);

        if (rc == 0 && (used != s->head_bytes || strcmp(head.machine, s->machine) != 0 ||
                        head.page_bytes != s->page_size))
                rc = err_msg(e, EBADMSG, "it is not of the machine that " QEMU_SECTION_BLOCKS
                             " tells of");
        if (rc == -EAGAIN)
                rc = err_msg(e, EBADMSG, "it is cut");
        return rc < 0 ? err_in(e, rc, "section " QEMU_SECTION_HEAD) : 0;
}

/* that QEMU can leave out */
static int load_vmdesc(struct qs_reader *reader, struct qemu_state *s, struct err *e)
{
        struct err why;
        int rc = qs_section_read(reader, QEMU_SECTION_VMDESC, (void **)&s->vmdesc,
                                 &s->vmdesc_bytes, &why);

        if (rc == -ENOENT)
                return 0;
        if (rc < 0 && e)
                *e = why;
        return rc;
}

static int load_rest(struct qs_reader *reader, struct qemu_state *s, struct err *e)
{
        int rc = qs_section_read(reader, QEMU_SECTION_HEAD, (void **)&s->head, &s->head_bytes, e);

        if (rc == 0)
                rc = check_head(s, e);
        if (rc == 0)
                rc = qs_section_read(reader, QEMU_SECTION_DEVICES, (void **)&s->devices,
                                     &s->devices_bytes, e);
        if (rc == 0 && (s->devices_bytes == 0 || s->devices[0] != QEMU_FULL))
                rc = err_msg(e, EBADMSG, "section " QEMU_SECTION_DEVICES " does not begin with a "
                             "device");
        if (rc < 0)
                return rc == -ENOENT ? -EBADMSG : rc;
        return load_vmdesc(reader, s, e);
}

int qemu_state_load(struct qs_image *image, struct qs_reader *reader, struct qemu_state *ret,
                    struct err *e)
{
        AUTO_FREE void *text = NULL;
        struct qemu_state s = { 0 };
        size_t bytes;
        const char *path = qs_image_name(image, 0);
        int rc = qs_section_read(reader, QEMU_SECTION_BLOCKS, &text, &bytes, e);

        if (rc == -ENOENT)
                return err_msg(e, ENOENT, "'%s' holds no QEMU machine: it cannot be reverted with "
                               "qemu-snapshot", path);
        if (rc == 0)
                rc = qemu_state_decode(text, bytes, qs_image_info(image)->disk_bytes, &s, e);
        if (rc == 0)
                rc = load_rest(reader, &s, e);
        if (rc < 0) {
                qemu_state_fini(&s);
                return err_in(e, rc, "image '%s'", path);
        }
        *ret = s;
        return 0;
}

static int put_blocks(struct qs_writer *writer, const struct qemu_state *s, struct err *e)
{
        AUTO_JSON *o = qemu_state_encode(s);
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE);

        return qs_writer_section(writer, QEMU_SECTION_BLOCKS, text, strlen(text), e);
}

int qemu_state_put(struct qs_writer *writer, const struct qemu_state *s, struct err *e)
{
        int rc = put_blocks(writer, s, e);

        ASSERT(s->blocks.n_places > 0 && s->head_bytes > 0 && s->devices_bytes > 0);
        if (rc == 0)
                rc = qs_writer_section(writer, QEMU_SECTION_HEAD, s->head, s->head_bytes, e);
        if (rc == 0)
                rc = qs_writer_section(writer, QEMU_SECTION_DEVICES, s->devices, s->devices_bytes,
                                       e);
        if (rc == 0 && s->vmdesc)
                rc = qs_writer_section(writer, QEMU_SECTION_VMDESC, s->vmdesc, s->vmdesc_bytes, e);
        return rc;
}

void qemu_state_fini(struct qemu_state *s)
{
        qemu_blocks_fini(&s->blocks);
        free(s->head);
        free(s->devices);
        free(s->vmdesc);
        *s = (struct qemu_state){ 0 };
}
