/* SPDX-License-Identifier: Apache-2.0 */
/* vmm save: asks a VM to save itself, shows how far it is and, on a signal, stops it */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/json.h"
#include "common/options.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/httpc.h"
#include "vmm/job.h"
#include "vmm/rundir.h"
#include "vmm/save-disks.h"
#include "vmm/save.h"

#define USAGE "save NAME IMAGE [OPTIONS]"

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --tag TAG           name of the snapshot inside the image (default: 'default'), which\n"
        "                      an existing IMAGE gets in addition\n"
        "  --compress none|zstd[:LEVEL]\n"
        "                      how clusters are stored (default: none, or as in the IMAGE\n"
        "                      that gets a snapshot)\n"
        "  --cluster-size N    4K to 2M, a power of two (default: 16K)\n"
        "  --backing PARENT    store only what differs from PARENT, an image in the same folder\n"
        "  --paused            let the guest stand still while it is copied\n"
        "  --stop              the same, and end the VM once the image is there\n"
        "  --staging SIZE      use at most so much memory for what the guest changes before\n"
        "                      it is copied\n"
        "  --disks auto|reflink|copy|none\n"
        "                      keep the VM's disks beside IMAGE: sharing blocks where the\n"
        "                      file system can (auto, default), or fail (reflink); by a copy;\n"
        "                      or only note which they are\n"
        "  --force             replace IMAGE if it exists; with --tag, only its snapshot of\n"
        "                      that name\n"
        "  --progress          show how far the save is; a line of JSON each, and the result\n"
        "                      as one too, where standard output is no terminal\n"
        "  --json              print times and sizes as JSON\n"
        "  --help              show this\n";

struct save_cmd {
        struct qs_writer_options writer;        /* its backing is as given */
        bool stop;
        bool paused;
        uint64_t staging_bytes;
        const char *disks;              /* NULL = as the VM likes */
        bool progress;
        bool json;
        bool help;
};

static int read_tag(void *command, const char *value, struct err *e)
{
        struct save_cmd *o = command;

        return qs_tag_parse(value, o->writer.tag, e);
}

static int read_compress(void *command, const char *value, struct err *e)
{
        struct save_cmd *o = command;

        return qs_compress_parse(value, &o->writer, e);
}

static int read_cluster_size(void *command, const char *value, struct err *e)
{
        struct save_cmd *o = command;

        return qs_cluster_size_parse(value, &o->writer, e);
}

static int read_staging(void *command, const char *value, struct err *e)
{
        struct save_cmd *o = command;

        return option_number(value, SAVE_STAGING_MIN, INT64_MAX, "size of staging memory",
                             &o->staging_bytes, e);
}

static int read_disks(void *command, const char *value, struct err *e)
{
        struct save_cmd *o = command;
        enum disks_mode mode;

        o->disks = value;
        return disks_mode_parse(value, &mode, e);
}

static const struct option_row options[] = {
        OPTION_READ("tag", read_tag),
        OPTION_READ("compress", read_compress),
        OPTION_READ("cluster-size", read_cluster_size),
        OPTION_TEXT("backing", struct save_cmd, writer.backing),
        OPTION_FLAG("stop", struct save_cmd, stop),
        OPTION_FLAG("paused", struct save_cmd, paused),
        OPTION_READ("staging", read_staging),
        OPTION_READ("disks", read_disks),
        OPTION_FLAG("force", struct save_cmd, writer.force),
        OPTION_FLAG("progress", struct save_cmd, progress),
        OPTION_FLAG("json", struct save_cmd, json),
        OPTION_FLAG("help", struct save_cmd, help),
        OPTION_END,
};

static int parse(int argc, char **argv, struct save_cmd *o, struct err *e)
{
        int rc = options_parse("vmm save", options, argc, argv, o, NULL, e);

        if (rc < 0 || o->help)
                return rc;
        if (o->stop && o->paused)
                return err_msg(e, EINVAL, "--stop and --paused exclude each other");
        if (o->staging_bytes && (o->stop || o->paused))
                return err_msg(e, EINVAL, "--staging is for a guest that runs: it does not go "
                               "with --stop and --paused");
        return cli_operands(argc, argv, 2, USAGE, e);
}

/* The VM's process has a working directory of its own. */
static int absolute(const char *path, char *buf, size_t room, struct err *e)
{
        char cwd[PATH_MAX];
        int n;

        if (path[0] == '/') {
                n = snprintf(buf, room, "%s", path);
        } else {
                if (!getcwd(cwd, sizeof(cwd)))
                        return err_set(e, errno, "find the current folder");
                n = snprintf(buf, room, "%s/%s", cwd, path);
        }
        if ((size_t)n >= room)
                return err_msg(e, ENAMETOOLONG, "the path '%s' is too long", path);
        return 0;
}

/* Puts a path into the request. */
static int put_path(struct json_object *body, const char *key, const char *path, struct err *e)
{
        char buf[PATH_MAX];
        int rc = absolute(path, buf, sizeof(buf), e);

        if (rc == 0)
                json_put_str(body, key, buf);
        return rc;
}

/* The body of the request. A machine copies its guest live unless it is told. */
static int put_request(struct json_object *body, const struct save_cmd *o, const char *image,
                       struct err *e)
{
        int rc = put_path(body, "snapshot_path", image, e);

        if (rc == 0 && o->writer.backing)
                rc = put_path(body, "backing", o->writer.backing, e);
        if (o->stop || o->paused)
                json_put_str(body, "mode", o->stop ? "stop" : "paused");
        if (o->staging_bytes)
                json_put_u64(body, "staging", o->staging_bytes);
        if (o->disks)
                json_put_str(body, "disks", o->disks);
        if (o->writer.tag[0])
                json_put_str(body, "tag", o->writer.tag);
        json_put_u64(body, "cluster_size", 1ull << o->writer.cluster_bits);
        if (o->writer.compress == QS_COMPRESS_ZSTD) {
                json_put_str(body, "compress", "zstd");
                json_put_u64(body, "level", (uint64_t)o->writer.zstd_level);
        } else if (!o->writer.compress_alike) {
                json_put_str(body, "compress", "none");
        }
        json_put_bool(body, "force", o->writer.force);
        json_put_bool(body, "progress", true);  /* each line is a chance to see a signal */
        return rc;
}

/* A save that is waited for. */
struct wait {
        const char *name;
        struct json_object *body;
        struct job job;
        bool lines;                     /* on standard output, not a bar */
        bool cancelled;                 /* the VM was told so */
};

static void print_line(struct json_object *o)
{
        puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                            JSON_C_TO_STRING_NOSLASHESCAPE));
        fflush(stdout);
}

/* On a connection of its own: what becomes of the save is said on the save's. */
static void cancel(struct wait *w)
{
        AUTO_JSON *body = json_object_new_object();
        const char *path;

        w->cancelled = true;
        json_put_str(body, "action_type", "CancelSave");
        if (json_take_str(w->body, "snapshot_path", &path, NULL) == 0)
                json_put_str(body, "snapshot_path", path);
        (void)httpc_request(w->name, "PUT", "/actions", body, NULL, NULL);
}

static void on_line(void *ctx, struct json_object *line)
{
        struct wait *w = ctx;
        uint64_t done, total;

        if (json_take_u64(line, "done", INT64_MAX, &done, NULL) < 0 ||
            json_take_u64(line, "total", INT64_MAX, &total, NULL) < 0)
                return;                 /* the result */
        if (w->lines)
                print_line(line);
        if (!job_progress(&w->job, done, total) && !w->cancelled)
                cancel(w);
}

/* Until the VM has said how the save ended. Does not return when a signal ended it. */
static int save(struct wait *w, bool bar, struct json_object **ret, struct err *e)
{
        int rc;

        job_start(&w->job, "save", !bar);
        rc = httpc_stream(w->name, "PUT", "/snapshot/create", w->body, on_line, w, ret, e);
        if (rc < 0 && w->cancelled) {
                progress_say(&w->job.bar, "vmm: %s", e->text);
                rc = -ECANCELED;
        }
        return job_end(&w->job, rc);
}

static const char *text_of(struct json_object *o, const char *key)
{
        const char *text;

        return json_take_str(o, key, &text, NULL) == 0 ? text : "?";
}

static void print_disks(struct json_object *result)
{
        struct json_object *list = NULL;

        if (json_take_array(result, "disks", SIZE_MAX, &list, NULL) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *disk = json_object_array_get_idx(list, i);
                const char *mode = text_of(disk, "mode");

                if (!strcmp(mode, "none"))
                        printf("%s stays '%s'\n", text_of(disk, "id"), text_of(disk, "path"));
                else
                        printf("%s kept as '%s' (%s)\n", text_of(disk, "id"),
                               text_of(disk, "path"), mode);
        }
}

static void print_result(const char *name, const char *image, struct json_object *result)
{
        struct json_object *phases = NULL, *v = NULL;
        double pause_ms = 0, total_ms = 0;
        char size[SIZE_TEXT_MAX];

        json_object_object_get_ex(result, "phases", &phases);
        if (json_object_object_get_ex(phases, "pause", &v))
                pause_ms = json_object_get_double(v) / 1000;
        if (json_object_object_get_ex(phases, "total", &v))
                total_ms = json_object_get_double(v) / 1000;
        if (json_object_object_get_ex(result, "why_paused", &v))
                fprintf(stderr, "vmm: VM '%s' was not saved live: %s\n", name,
                        json_object_get_string(v));
        json_object_object_get_ex(result, "bytes", &v);
        printf("VM '%s' saved to '%s': %s in %.1f ms, paused for %.1f ms\n", name, image,
               size_text(json_object_get_uint64(v), size), total_ms, pause_ms);
        print_disks(result);
}

int cmd_save(const struct cli *cli, int argc, char **argv, struct err *e)
{
        struct save_cmd o = {
                .writer = { .cluster_bits = QS_CLUSTER_BITS_DEFAULT, .compress_alike = true },
        };
        AUTO_JSON *body = json_object_new_object();
        AUTO_JSON *result = NULL;
        AUTO_FD gone = -1;

        (void)cli;
        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }

        bool terminal = isatty(STDOUT_FILENO);
        struct wait w = { .name = argv[optind], .body = body, .lines = o.progress && !terminal };

        if (put_request(body, &o, argv[optind + 1], e) < 0 ||
            rundir_watch(w.name, &gone, e) < 0 ||
            save(&w, o.progress && terminal, &result, e) < 0)
                return CLI_FAILED;
        if (o.stop)
                rundir_wait_free(gone);
        if (w.lines)
                print_line(result);
        else if (o.json)
                cli_print_json(result);
        else
                print_result(w.name, argv[optind + 1], result);
        return 0;
}
