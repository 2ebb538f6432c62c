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
#include "common/options.h"
#include "vmm/cli.h"
#include "vmm/image-check.h"
#include "vmm/image-compare.h"
#include "vmm/image-firecracker.h"
#include "vmm/image-info.h"
#include "vmm/image-qemu.h"
#include "vmm/image-workingset.h"
#include "vmm/image-write.h"
#include "vmm/job.h"
#include "vmm/kept-disks.h"

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
        "       vmm image workingset IMAGE [--tag TAG] [--allow-parent DIR]\n"
        "                        [--json | --clear | --from DELTA | --from-file FILE]\n"
        "                                            what its guest touches first\n"
        "       vmm image export IMAGE RAW [--tag TAG] [--allow-parent DIR]\n"
        "                        [--passphrase-file FILE] [--force]\n"
        "       vmm image import RAW IMAGE [--tag TAG] [--compress none|zstd[:LEVEL]]\n"
        "                        [--cluster-size N] [--backing PARENT] [--force] [--json]\n"
        "       vmm image export [--firecracker MEM] --vmstate FILE IMAGE [--tag TAG]\n"
        "                        [--allow-parent DIR] [--force]\n"
        "       vmm image import --firecracker MEM --vmstate FILE IMAGE [--layout v1.0|v1.13]\n"
        "                        [the options of import]\n"
        "                                            a snapshot of Firecracker's\n"
        "       vmm image export --qemu IMAGE STREAM [--tag TAG] [--allow-parent DIR] [--force]\n"
        "       vmm image import --qemu STREAM IMAGE [the options of import but --json]\n"
        "                                            a migration stream of QEMU's, or a file\n"
        "                                            that 'virsh save' wrote\n"
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
        "  --firecracker MEM   the memory file of a snapshot of Firecracker's\n"
        "  --vmstate FILE      its vmstate file\n"
        "  --layout v1.0|v1.13 how it places memory, where FILE cannot be asked: as\n"
        "                      Firecracker v1.0 to v1.12, or as v1.13 and later\n"
        "  --qemu              the machine is one of QEMU's: see qemu-snapshot(1)\n"
        "  --passphrase-file FILE\n"
        "                      the first line decrypts an image that QEMU made with AES\n"
        "  --clear             take the working set out\n"
        "  --from DELTA        let it be what a clone wrote that was saved with\n"
        "                      'vmm save --backing IMAGE'\n"
        "  --from-file FILE    let it be what FILE says, an address and a length in each\n"
        "                      line, as 'vmm image workingset' prints them\n"
        "  --force             replace the target if it exists; with --tag, only its\n"
        "                      snapshot of that name; rewrite an image although deltas\n"
        "                      were made of it, which are lost then\n"
        "  --json              print the result as JSON\n"
        "  --help              show this\n";

struct image_cmd {
        struct qs_writer_options writer;        /* see vmm/image-write.h */
        struct qs_open_options open;
        struct firecracker_files firecracker;
        struct workingset_change workingset;
        char *passphrase;               /* owned; NULL = none */
        bool qemu;
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

static int image_export_firecracker_cmd(const struct image_cmd *o, struct err *e)
{
        return image_export_firecracker(o->operands[0], &o->firecracker, &o->open,
                                        o->writer.force, o->json, e);
}

static int image_compare_cmd(const struct image_cmd *o, struct err *e)
{
        return image_compare(o->operands[0], o->operands[1], &o->open, o->json, e);
}

/* for a new image or snapshot; a tag means that the file may be there */
static int named_writer(const struct image_cmd *o, struct qs_writer_options *ret, struct err *e)
{
        *ret = o->writer;
        ret->append = o->open.tag != NULL;
        return o->open.tag ? qs_tag_parse(o->open.tag, ret->tag, e) : 0;
}

static int image_import_cmd(const struct image_cmd *o, struct err *e)
{
        const struct qs_flat flat = { .path = o->operands[0] };
        struct qs_writer_options w;

        if (named_writer(o, &w, e) < 0)
                return CLI_FAILED;
        return image_import(&flat, NULL, 0, o->operands[1], &w, o->json, e);
}

static int image_import_firecracker_cmd(const struct image_cmd *o, struct err *e)
{
        struct qs_writer_options w;

        if (named_writer(o, &w, e) < 0)
                return CLI_FAILED;
        return image_import_firecracker(&o->firecracker, o->operands[0], &w, o->json, e);
}

static int image_import_qemu_cmd(const struct image_cmd *o, struct err *e)
{
        return image_import_qemu(o->operands[0], o->operands[1], o->open.tag, &o->writer, e);
}

static int image_export_qemu_cmd(const struct image_cmd *o, struct err *e)
{
        return image_export_qemu(o->operands[0], o->operands[1], &o->open, o->writer.force, e);
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

static int image_workingset_cmd(const struct image_cmd *o, struct err *e)
{
        return image_workingset(o->operands[0], &o->open, &o->workingset, o->json, e);
}

static int image_delete(const struct image_cmd *o, struct err *e)
{
        if (!o->open.tag) {
                err_msg(e, EINVAL, "image delete needs --tag: see 'vmm image list'");
                return CLI_FAILED;
        }

        AUTO_FREE struct kept_disks *kept = NULL;
        size_t n;

        (void)kept_disks_of_image(o->operands[0], o->open.tag, &kept, &n);
        if (qs_snapshot_delete(o->operands[0], o->open.tag, e) < 0)
                return CLI_FAILED;
        kept_disks_remove(o->operands[0], kept, n);
        return 0;
}

static const struct action {
        const char *name;
        const char *operands;
        int count;
        image_fn *run;
        image_fn *run_firecracker;      /* with --firecracker, of one operand; NULL = not so */
        image_fn *run_qemu;             /* with --qemu, of as many; NULL = not so */
} actions[] = {
        { "check", "image check IMAGE", 1, image_check_cmd, NULL, NULL },
        { "verify", "image verify IMAGE", 1, image_verify_cmd, NULL, NULL },
        { "info", "image info IMAGE", 1, image_info_cmd, NULL, NULL },
        { "list", "image list IMAGE", 1, image_list_cmd, NULL, NULL },
        { "compare", "image compare IMAGE_A IMAGE_B", 2, image_compare_cmd, NULL, NULL },
        { "export", "image export IMAGE RAW", 2, image_export, image_export_firecracker_cmd,
          image_export_qemu_cmd },
        { "compact", "image compact IMAGE", 1, image_compact_cmd, NULL, NULL },
        { "delete", "image delete IMAGE --tag TAG", 1, image_delete, NULL, NULL },
        { "import", "image import RAW IMAGE", 2, image_import_cmd,
          image_import_firecracker_cmd, image_import_qemu_cmd },
        { "flatten", "image flatten IMAGE", 1, image_flatten_cmd, NULL, NULL },
        { "optimize", "image optimize IMAGE", 1, image_optimize_cmd, NULL, NULL },
        { "workingset", "image workingset IMAGE", 1, image_workingset_cmd, NULL, NULL },
        { "rebase", "image rebase IMAGE --backing PARENT", 1, image_rebase_cmd, NULL, NULL },
};

/* export and import have two forms; no other action knows Firecracker */
static int run_firecracker(const struct action *a, struct image_cmd *o, int argc, char **argv,
                           struct err *e)
{
        char operands[80];

        if (!a->run_firecracker) {
                err_msg(e, EINVAL, "'vmm image %s' knows no --firecracker, --vmstate and "
                        "--layout: they are for import and export", a->name);
                return CLI_FAILED;
        }
        snprintf(operands, sizeof(operands), "image %s --firecracker MEM --vmstate FILE IMAGE",
                 a->name);
        if (cli_operands(argc, argv, 1, operands, e) < 0)
                return CLI_FAILED;
        o->operands = argv + optind;
        return a->run_firecracker(o, e);
}

static int run_qemu(const struct action *a, struct image_cmd *o, int argc, char **argv,
                    struct err *e)
{
        if (!a->run_qemu) {
                err_msg(e, EINVAL, "'vmm image %s' knows no --qemu: it is for import and export",
                        a->name);
                return CLI_FAILED;
        }
        if (o->json || o->passphrase) {
                err_msg(e, EINVAL, "--json and --passphrase-file do not go with --qemu");
                return CLI_FAILED;
        }
        if (cli_operands(argc, argv, 2, a->run_qemu == image_import_qemu_cmd ?
                         "image import --qemu STREAM IMAGE" :
                         "image export --qemu IMAGE STREAM", e) < 0)
                return CLI_FAILED;
        o->operands = argv + optind;
        return a->run_qemu(o, e);
}

static int run_action(const struct action *a, struct image_cmd *o, int argc, char **argv,
                      struct err *e)
{
        const struct firecracker_files *f = &o->firecracker;

        if (f->mem || f->vmstate || f->layout)
                return run_firecracker(a, o, argc, argv, e);
        if (o->qemu)
                return run_qemu(a, o, argc, argv, e);
        if (cli_operands(argc, argv, a->count, a->operands, e) < 0)
                return CLI_FAILED;
        o->operands = argv + optind;
        return a->run(o, e);
}

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

        return qs_compress_parse(value, &o->writer, e);
}

static int read_cluster_size(void *command, const char *value, struct err *e)
{
        struct image_cmd *o = command;

        return qs_cluster_size_parse(value, &o->writer, e);
}

static const struct option_row options[] = {
        OPTION_TEXT("tag", struct image_cmd, open.tag),
        OPTION_READ("compress", read_compress),
        OPTION_READ("cluster-size", read_cluster_size),
        OPTION_TEXT("backing", struct image_cmd, writer.backing),
        OPTION_TEXT("allow-parent", struct image_cmd, open.allow_parent),
        OPTION_READ("passphrase-file", read_passphrase),
        OPTION_TEXT("firecracker", struct image_cmd, firecracker.mem),
        OPTION_TEXT("vmstate", struct image_cmd, firecracker.vmstate),
        OPTION_TEXT("layout", struct image_cmd, firecracker.layout),
        OPTION_FLAG("qemu", struct image_cmd, qemu),
        OPTION_FLAG("clear", struct image_cmd, workingset.clear),
        OPTION_TEXT("from", struct image_cmd, workingset.from),
        OPTION_TEXT("from-file", struct image_cmd, workingset.from_file),
        OPTION_FLAG("force", struct image_cmd, writer.force),
        OPTION_FLAG("json", struct image_cmd, json),
        OPTION_FLAG("help", struct image_cmd, help),
        OPTION_END,
};

static int run(struct image_cmd *o, int argc, char **argv, struct err *e)
{
        if (options_parse("vmm image", options, argc, argv, o, NULL, e) < 0)
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
                return run_action(&actions[i], o, argc, argv, e);
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
