/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-qemu.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/size.h"
#include "common/utf8.h"
#include "vmm/cli.h"
#include "vmm/program-path.h"

/* snapback-image(5), Machines of QEMU */
#define SECTION_BLOCKS "QEMU-BLOCKS"
#define BLOCKS_MAX 256
#define MACHINE_MAX 255

/* ---- the program that does it ------------------------------------------------------ */

/* program, mode and file, five options with a value each, --force, --, the image */
#define WORDS_MAX 20

struct words {
        const char *at[WORDS_MAX];
        size_t n;
        char compress[16];
        char cluster_size[16];
};

static void add(struct words *w, const char *word)
{
        ASSERT(w->n + 1 < WORDS_MAX);           /* NULL ends them */
        w->at[w->n++] = word;
}

/* value NULL: was not said */
static void add_option(struct words *w, const char *name, const char *value)
{
        if (!value)
                return;
        add(w, name);
        add(w, value);
}

static void add_format(struct words *w, const struct qs_writer_options *writer)
{
        if (writer->zstd_level) {
                if (writer->compress == QS_COMPRESS_NONE)
                        snprintf(w->compress, sizeof(w->compress), "none");
                else
                        snprintf(w->compress, sizeof(w->compress), "zstd:%d", writer->zstd_level);
                add_option(w, "--compress", w->compress);
        }
        if (writer->cluster_bits) {
                snprintf(w->cluster_size, sizeof(w->cluster_size), "%u",
                         1u << writer->cluster_bits);
                add_option(w, "--cluster-size", w->cluster_size);
        }
}

static int run(struct words *w, const char *image, bool force, struct err *e)
{
        char path[PATH_MAX];

        if (force)
                add(w, "--force");
        add(w, "--");
        add(w, image);
        if (qemu_snapshot_path(path, sizeof(path), e) < 0)
                return CLI_FAILED;
        execv(path, (char *const *)(uintptr_t)w->at);
        err_set(e, errno, "run '%s'", path);
        return CLI_FAILED;
}

int image_import_qemu(const char *stream, const char *image, const char *tag,
                      const struct qs_writer_options *writer, struct err *e)
{
        struct words w = { .n = 0 };

        add(&w, "qemu-snapshot");
        add_option(&w, "--import", stream);
        add_option(&w, "--tag", tag);
        add_option(&w, "--backing", writer->backing);
        add_format(&w, writer);
        return run(&w, image, writer->force, e);
}

int image_export_qemu(const char *image, const char *stream, const struct qs_open_options *how,
                      bool force, struct err *e)
{
        struct words w = { .n = 0 };

        add(&w, "qemu-snapshot");
        add_option(&w, "--export", stream);
        add_option(&w, "--tag", how->tag);
        add_option(&w, "--allow-parent", how->allow_parent);
        return run(&w, image, force, e);
}

/* ---- what an image holds ------------------------------------------------------------- */

/* -ENOENT when it is none */
static int read_blocks(struct qs_reader *reader, struct json_object **ret)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(reader, SECTION_BLOCKS, &data, &bytes, NULL);

        return rc < 0 ? rc : json_parse(data, bytes, ret, NULL);
}

bool image_qemu_is(struct qs_reader *reader)
{
        AUTO_JSON *section = NULL;

        return read_blocks(reader, &section) != -ENOENT;
}

/* of all blocks; -EBADMSG */
static int memory_of(struct json_object *blocks, uint64_t *ret)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < json_object_array_length(blocks); i++) {
                struct json_object *block = json_object_array_get_idx(blocks, i);
                uint64_t bytes;

                if (!json_object_is_type(block, json_type_object) ||
                    json_take_u64(block, "bytes", QS_DISK_BYTES_MAX, &bytes, NULL) < 0)
                        return -EBADMSG;
                sum += bytes;
        }
        *ret = sum;
        return 0;
}

static struct json_object *describe(struct json_object *section)
{
        struct json_object *blocks, *qemu;
        char mended[MACHINE_MAX + 1];
        const char *machine;
        uint64_t memory;

        if (json_take_str(section, "machine", &machine, NULL) < 0 ||
            json_take_array(section, "blocks", BLOCKS_MAX, &blocks, NULL) < 0 ||
            memory_of(blocks, &memory) < 0)
                return NULL;
        qemu = json_object_new_object();
        utf8_mend(machine, mended, sizeof(mended));
        for (char *p = mended; *p; p++) {
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        *p = '?';               /* it goes to a terminal */
        }
        json_put_str(qemu, "machine", mended);
        json_put_u64(qemu, "memory", memory);
        json_put_u64(qemu, "blocks", json_object_array_length(blocks));
        return qemu;
}

void image_qemu_describe(struct qs_image *image, struct json_object *o)
{
        AUTO_JSON *section = NULL;
        struct json_object *qemu = NULL;
        struct qs_reader *reader;

        if (qs_reader_new(image, &reader, NULL) < 0)
                return;
        if (read_blocks(reader, &section) == 0)
                qemu = describe(section);
        if (qemu)
                json_object_object_add(o, "qemu", qemu);
        qs_reader_free(reader);
}

bool image_qemu_print(struct json_object *o)
{
        struct json_object *qemu;
        const char *machine;
        char size[SIZE_TEXT_MAX];

        if (!json_object_object_get_ex(o, "qemu", &qemu))
                return false;
        machine = json_object_get_string(json_object_object_get(qemu, "machine"));
        printf("vm:       a machine of QEMU's, %s, %s in %llu blocks\n",
               *machine ? machine : "of a type that it did not say",
               size_text(json_object_get_uint64(json_object_object_get(qemu, "memory")), size),
               (unsigned long long)json_object_get_uint64(json_object_object_get(qemu, "blocks")));
        return true;
}
