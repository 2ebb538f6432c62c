/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "vmm/cli.h"
#include "vmm/image-check.h"
#include "vmm/image-compare.h"
#include "vmm/image-info.h"
#include "vmm/image-write.h"
#include "vmm/job.h"
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

static int image_check_cmd(const struct image_cmd *o, struct err *e)
{
        return image_check(o->operands[0], false, o->json, e);
}

static int image_verify_cmd(const struct image_cmd *o, struct err *e)
{
        return image_check(o->operands[0], true, o->json, e);
}

static int image_info_cmd(const struct image_cmd *o, struct err *e)
{
        const struct qs_open_options options = { .allow_parent = o->open.allow_parent };

        return image_info(o->operands[0], &options, o->json, e) < 0 ? CLI_FAILED : 0;
}

static int image_list_cmd(const struct image_cmd *o, struct err *e)
{
        return image_list(o->operands[0], o->json, e) < 0 ? CLI_FAILED : 0;
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
        { "list", "image list IMAGE", 1, image_list_cmd },
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
