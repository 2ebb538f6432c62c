/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmd-image.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/image-check.h"
#include "vmm/image-compare.h"
#include "vmm/image-write.h"
#include "vmm/job.h"
#include "vmm/meta.h"
#include "vmm/options.h"

#define PASSPHRASE_FILE_MAX 4096u

static const char help[] =
        "usage: vmm image check IMAGE [--json]       structure: tables, references, refcounts\n"
        "       vmm image verify IMAGE [--json]      that, and every stored byte\n"
        "       vmm image info IMAGE [--allow-parent DIR] [--json]\n"
        "                                            what the image is and holds\n"
        "       vmm image list IMAGE [--json]        its snapshots\n"
        "       vmm image compare IMAGE_A IMAGE_B [--tag TAG]\n"
        "                        [--allow-parent DIR] [--passphrase-file FILE] [--json]\n"
        "                                            do they hold the same memory?\n"
        "       vmm image delete IMAGE --tag TAG     takes a snapshot out of it\n"
        "       vmm image compact IMAGE [--json]     makes it as small as what it holds\n"
        "       vmm image optimize IMAGE [--compress none|zstd[:LEVEL]] [--cluster-size N]\n"
        "                        [--json]            compresses anew, working set first\n"
        "       vmm image export IMAGE RAW [--tag TAG] [--allow-parent DIR]\n"
        "                        [--passphrase-file FILE] [--force]\n"
        "       vmm image import RAW IMAGE [--tag TAG] [--compress none|zstd[:LEVEL]]\n"
        "                        [--cluster-size N] [--backing PARENT] [--force] [--json]\n"
        "       vmm image flatten IMAGE [--allow-parent DIR] [--compress none|zstd[:LEVEL]]\n"
        "                        [--cluster-size N] [--force] [--json]\n"
        "                                            the same, without its parents\n"
        "       vmm image rebase IMAGE --backing PARENT [--allow-parent DIR]\n"
        "                        [--compress none|zstd[:LEVEL]] [--cluster-size N] [--force]\n"
        "                        [--json]\n"
        "                                            the same, over another parent\n\n"
        "RAW is memory as a flat file at guest-physical offsets, holes included.\n\n"
        "  --tag TAG           the snapshot to read, or the name of the new one, which\n"
        "                      an existing IMAGE gets in addition\n"
        "  --compress none|zstd[:LEVEL]\n"
        "                      how clusters are stored (default: none, or as they are in an\n"
        "                      IMAGE that exists)\n"
        "  --cluster-size N    4K to 2M, a power of two (default: 16K, or as it is)\n"
        "  --backing PARENT    store only what differs from PARENT, an image in the same folder\n"
        "  --allow-parent DIR  its parents may lie in DIR too\n"
        "  --passphrase-file FILE\n"
        "                      the first line decrypts an image that QEMU made with AES\n"
        "  --force             replace the target if it exists; with --tag, only its\n"
        "                      snapshot of that name; rewrite an image although deltas\n"
        "                      were made of it, which are lost then\n"
        "  --json              print the result as JSON\n"
        "  --help              show this\n";

struct image_cmd {
        struct qs_writer_options writer;        /* see vmm/image-write.h */
        struct qs_open_options open;
        char *passphrase;               /* owned; NULL = none */
        bool json;
        bool help;
        char **operands;
};

typedef int image_fn(const struct image_cmd *o, struct err *e);

static int open_image(const char *path, int *ret_fd, struct err *e)
{
        *ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        return *ret_fd < 0 ? err_set(e, errno, "open '%s'", path) : 0;
}

static int image_check_cmd(const struct image_cmd *o, struct err *e)
{
        return image_check(o->operands[0], false, o->json, e);
}

static int image_verify_cmd(const struct image_cmd *o, struct err *e)
{
        return image_check(o->operands[0], true, o->json, e);
}

static const char *date_text(uint64_t wall_ns, char *buf, size_t room)
{
        time_t t = (time_t)(wall_ns / NS_PER_SEC);
        struct tm tm;

        localtime_r(&t, &tm);
        strftime(buf, room, "%Y-%m-%d %H:%M:%S", &tm);
        return buf;
}

static void add_vm(struct qs_image *image, struct json_object *o)
{
        struct qs_reader *reader;
        AUTO_FREE void *data = NULL;
        struct meta m;
        size_t bytes;

        if (qs_reader_new(image, &reader, NULL) < 0)
                return;
        if (qs_section_read(reader, SECTION_META, &data, &bytes, NULL) == 0 &&
            meta_decode(data, bytes, &m, NULL) == 0) {
                struct json_object *vm = json_object_new_object();

                json_put_str(vm, "name", m.name);
                json_put_u64(vm, "memory", m.memory_bytes);
                json_put_u64(vm, "cpus", m.cpus);
                json_object_object_add(o, "vm", vm);
        }
        qs_reader_free(reader);
}

/* all of them, the nearest first */
static void add_parents(const struct qs_image *image, struct json_object *o)
{
        unsigned layers = qs_image_info(image)->layers;
        struct json_object *parents = json_object_new_array();

        for (unsigned n = 1; n < layers; n++)
                json_object_array_add(parents, json_object_new_string(qs_image_name(image, n)));
        json_object_object_add(o, "parents", parents);
}

static struct json_object *describe(const char *path, struct qs_image *image)
{
        const struct qs_image_info *i = qs_image_info(image);
        struct json_object *o = json_object_new_object();
        char uuid[33];

        for (size_t n = 0; n < sizeof(i->uuid); n++)
                snprintf(uuid + 2 * n, 3, "%02x", i->uuid[n]);
        json_put_str(o, "image", path);
        json_put_u64(o, "format_version", i->format_version);
        json_put_str(o, "uuid", i->format_version ? uuid : "");
        json_put_bool(o, "checksums", i->format_version > 0);
        json_put_bool(o, "changed", i->changed);
        if (i->parent)
                json_put_str(o, "parent", i->parent);
        add_parents(image, o);
        json_put_u64(o, "layers", i->layers);
        json_put_str(o, "tag", i->tag);
        json_put_u64(o, "date_ns", i->date_ns);
        json_put_u64(o, "disk_bytes", i->disk_bytes);
        json_put_u64(o, "file_bytes", i->file_bytes);
        json_put_bool(o, "is_parent", i->is_parent);
        json_put_u64(o, "cluster_size", 1ull << i->cluster_bits);
        json_put_str(o, "compress", i->compress == QS_COMPRESS_ZSTD ? "zstd" : "none");
        add_vm(image, o);
        return o;
}

static void print_origin(struct json_object *o, const struct qs_image_info *i)
{
        char date[32];

        if (i->format_version)
                printf("uuid:     %s\n",
                       json_object_get_string(json_object_object_get(o, "uuid")));
        else
                puts("uuid:     none: made by another program, without checksums");
        if (i->changed)
                puts("changed:  by another program; snapshots are as they were saved");
        if (i->parent)
                printf("parent:   %s, %u files in all\n", i->parent, i->layers);
        if (i->tag[0])
                printf("snapshot: %s, %s\n", i->tag, date_text(i->date_ns, date, sizeof(date)));
        else
                puts("snapshot: none, the active layer");
}

static void print_info(struct json_object *o, const struct qs_image_info *i)
{
        struct json_object *vm;
        char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

        printf("image:    %s\n", json_object_get_string(json_object_object_get(o, "image")));
        print_origin(o, i);
        printf("memory:   %s in clusters of %llu, %s\nfile:     %s\n",
               size_text(i->disk_bytes, a), 1ull << i->cluster_bits,
               i->compress == QS_COMPRESS_ZSTD ? "zstd" : "not compressed",
               size_text(i->file_bytes, b));
        if (i->is_parent)
                puts("deltas:   were made of it, so it must not change");
        if (!json_object_object_get_ex(o, "vm", &vm)) {
                puts("vm:       none, memory only");
                return;
        }
        printf("vm:       '%s', %s, %llu vCPUs\n",
               json_object_get_string(json_object_object_get(vm, "name")),
               size_text(json_object_get_uint64(json_object_object_get(vm, "memory")), a),
               (unsigned long long)json_object_get_uint64(json_object_object_get(vm, "cpus")));
}

int image_info(const char *path, const struct qs_open_options *options, bool json,
               struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_path(path, options, &image, e);

        if (rc < 0)
                return rc;

        AUTO_JSON *o = describe(path, image);

        if (json)
                cli_print_json(o);
        else
                print_info(o, qs_image_info(image));
        qs_image_close(image);
        return 0;
}

static int image_info_cmd(const struct image_cmd *o, struct err *e)
{
        const struct qs_open_options options = { .allow_parent = o->open.allow_parent };

        return image_info(o->operands[0], &options, o->json, e) < 0 ? CLI_FAILED : 0;
}

static struct json_object *snapshot_json(const struct qs_snapshot_info *s)
{
        struct json_object *o = json_object_new_object();

        json_put_str(o, "id", s->id);
        json_put_str(o, "tag", s->tag);
        json_put_u64(o, "date_ns", s->date_ns);
        json_put_u64(o, "state_bytes", s->state_bytes);
        json_put_bool(o, "default", s->is_default);
        json_put_bool(o, "changed", s->changed);
        return o;
}

static int image_list(const struct image_cmd *o, struct err *e)
{
        AUTO_FREE struct qs_snapshot_info *list = NULL;
        AUTO_JSON *array = json_object_new_array();
        AUTO_FD fd = -1;
        size_t n;

        if (open_image(o->operands[0], &fd, e) < 0 ||
            qs_snapshot_list(fd, o->operands[0], &list, &n, e) < 0)
                return CLI_FAILED;
        if (!o->json)
                printf("%-4s %-24s %-20s %12s\n", "ID", "TAG", "DATE", "STATE");
        for (size_t i = 0; i < n; i++) {
                char date[32], size[SIZE_TEXT_MAX];

                if (o->json)
                        json_object_array_add(array, snapshot_json(&list[i]));
                else
                        printf("%-4s %-24s %-20s %12s%s\n", list[i].id, list[i].tag,
                               date_text(list[i].date_ns, date, sizeof(date)),
                               size_text(list[i].state_bytes, size),
                               list[i].is_default ? "  (default)" : "");
        }
        if (o->json)
                cli_print_json(array);
        else if (n > 0 && list[0].changed)
                puts("The file was changed by another program.");
        return 0;
}

static int image_export(const struct image_cmd *o, struct err *e)
{
        struct qs_image *image;

        if (qs_image_open_path(o->operands[0], &o->open, &image, e) < 0)
                return CLI_FAILED;

        struct job job;

        job_start(&job, "export", o->json);

        int rc = job_end(&job, qs_export(image, o->operands[1], o->writer.force, job_progress,
                                         &job, e));

        qs_image_close(image);
        return rc < 0 ? CLI_FAILED : 0;
}

static int image_compare_cmd(const struct image_cmd *o, struct err *e)
{
        return image_compare(o->operands[0], o->operands[1], &o->open, o->json, e);
}

static int image_import_cmd(const struct image_cmd *o, struct err *e)
{
        struct qs_writer_options w = o->writer;

        if (o->open.tag && cli_parse_tag(o->open.tag, w.tag, e) < 0)
                return CLI_FAILED;
        w.append = o->open.tag != NULL;
        return image_import(o->operands[0], o->operands[1], &w, o->json, e);
}

static int image_flatten_cmd(const struct image_cmd *o, struct err *e)
{
        return image_flatten(o->operands[0], &o->open, &o->writer, o->json, e);
}

static int image_rebase_cmd(const struct image_cmd *o, struct err *e)
{
        return image_rebase(o->operands[0], &o->open, &o->writer, o->json, e);
}

static int image_compact_cmd(const struct image_cmd *o, struct err *e)
{
        return image_compact(o->operands[0], o->json, e);
}

static int image_optimize_cmd(const struct image_cmd *o, struct err *e)
{
        return image_optimize(o->operands[0], &o->writer, o->json, e);
}

static int image_delete(const struct image_cmd *o, struct err *e)
{
        if (!o->open.tag) {
                err_msg(e, EINVAL, "image delete needs --tag: see 'vmm image list'");
                return CLI_FAILED;
        }
        return qs_snapshot_delete(o->operands[0], o->open.tag, e) < 0 ? CLI_FAILED : 0;
}

static const struct action {
        const char *name;
        const char *operands;
        int count;
        image_fn *run;
} actions[] = {
        { "check", "image check IMAGE", 1, image_check_cmd },
        { "verify", "image verify IMAGE", 1, image_verify_cmd },
        { "info", "image info IMAGE", 1, image_info_cmd },
        { "list", "image list IMAGE", 1, image_list },
        { "compare", "image compare IMAGE_A IMAGE_B", 2, image_compare_cmd },
        { "export", "image export IMAGE RAW", 2, image_export },
        { "compact", "image compact IMAGE", 1, image_compact_cmd },
        { "delete", "image delete IMAGE --tag TAG", 1, image_delete },
        { "import", "image import RAW IMAGE", 2, image_import_cmd },
        { "flatten", "image flatten IMAGE", 1, image_flatten_cmd },
        { "optimize", "image optimize IMAGE", 1, image_optimize_cmd },
        { "rebase", "image rebase IMAGE --backing PARENT", 1, image_rebase_cmd },
};

/* The first line of a file, which may be a pipe. */
static int read_passphrase(void *command, const char *value, struct err *e)
{
        struct image_cmd *o = command;
        AUTO_FD fd = open(value, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        size_t n;

        if (fd < 0)
                return err_set(e, errno, "open '%s'", value);
        free(ptr_take(&o->passphrase));

        int rc = io_read_all(fd, PASSPHRASE_FILE_MAX, &o->passphrase, &n);

        if (rc < 0)
                return err_set(e, -rc, "read '%s'", value);
        o->passphrase[strcspn(o->passphrase, "\n")] = '\0';
        return 0;
}

static int read_compress(void *command, const char *value, struct err *e)
{
        struct image_cmd *o = command;

        return cli_parse_compress(value, &o->writer, e);
}

static int read_cluster_size(void *command, const char *value, struct err *e)
{
        struct image_cmd *o = command;

        return cli_parse_cluster_size(value, &o->writer, e);
}

static const struct option_row options[] = {
        OPTION_TEXT("tag", struct image_cmd, open.tag),
        OPTION_READ("compress", read_compress),
        OPTION_READ("cluster-size", read_cluster_size),
        OPTION_TEXT("backing", struct image_cmd, writer.backing),
        OPTION_TEXT("allow-parent", struct image_cmd, open.allow_parent),
        OPTION_READ("passphrase-file", read_passphrase),
        OPTION_FLAG("force", struct image_cmd, writer.force),
        OPTION_FLAG("json", struct image_cmd, json),
        OPTION_FLAG("help", struct image_cmd, help),
        OPTION_END,
};

static int run(struct image_cmd *o, int argc, char **argv, struct err *e)
{
        if (options_parse("image", options, argc, argv, o, e) < 0)
                return CLI_FAILED;
        o->open.passphrase = o->passphrase;
        if (o->help || optind == argc) {
                cli_help(help);
                return o->help ? 0 : CLI_FAILED;
        }
        for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
                if (strcmp(actions[i].name, argv[optind]))
                        continue;
                optind++;
                if (cli_operands(argc, argv, actions[i].count, actions[i].operands, e) < 0)
                        return CLI_FAILED;
                o->operands = argv + optind;
                return actions[i].run(o, e);
        }
        err_msg(e, EINVAL, "there is no action 'image %s': see 'vmm image --help'", argv[optind]);
        return CLI_FAILED;
}

int cmd_image(const struct cli *cli, int argc, char **argv, struct err *e)
{
        struct image_cmd o = { 0 };

        (void)cli;

        int status = run(&o, argc, argv, e);

        free(o.passphrase);
        return status;
}
