/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-write.h"

#include <errno.h>

#include "common/json.h"
#include "vmm/cli.h"
#include "vmm/job.h"

/* of optimize: three times the time of 9 would save another percent */
#define OPTIMIZE_LEVEL 9

static void print_stats(const char *path, const struct qs_writer_stats *stats)
{
        AUTO_JSON *j = json_object_new_object();

        json_put_str(j, "image", path);
        json_put_u64(j, "ram_bytes", stats->ram_bytes);
        json_put_u64(j, "bytes", stats->file_bytes);
        json_put_u64(j, "clusters_zero", stats->clusters_zero);
        json_put_u64(j, "clusters_same", stats->clusters_same);
        json_put_u64(j, "clusters_raw", stats->clusters_raw);
        json_put_u64(j, "clusters_packed", stats->clusters_packed);
        json_put_u64(j, "clusters_shared", stats->clusters_shared);
        cli_print_json(j);
}

/* of the job that wrote an image; the exit status */
static int finish(struct job *job, int rc, const char *path,
                  const struct qs_writer_stats *stats, bool json)
{
        if (job_end(job, rc) < 0)
                return CLI_FAILED;
        if (json)
                print_stats(path, stats);
        return 0;
}

int image_import(const struct qs_flat *from, const struct qs_blob *sections, size_t nsections,
                 const char *path, const struct qs_writer_options *writer, bool json,
                 struct err *e)
{
        struct qs_writer_options w = *writer;
        struct qs_writer_stats stats;
        struct job job;

        if (w.cluster_bits == 0)
                w.cluster_bits = QS_CLUSTER_BITS_DEFAULT;
        if (w.zstd_level == 0) {
                w.compress_alike = true;
                w.zstd_level = QS_ZSTD_LEVEL_DEFAULT;
        }
        job_start(&job, "import", json);

        int rc = qs_import_flat(from, sections, nsections, path, &w, job_progress, &job, &stats,
                                e);

        return finish(&job, rc, path, &stats, json);
}

static int rewrite(const char *path, const struct qs_open_options *open,
                   const struct qs_writer_options *writer, bool json, struct err *e)
{
        const struct qs_open_options how = { .allow_parent = open->allow_parent };
        struct qs_writer_options w = *writer;
        struct qs_writer_stats stats;
        struct qs_image *image;
        struct job job;

        if (qs_image_open_path(path, &how, &image, e) < 0)
                return CLI_FAILED;

        const struct qs_image_info *info = qs_image_info(image);

        if (w.cluster_bits == 0)
                w.cluster_bits = info->cluster_bits;
        if (w.zstd_level == 0) {
                w.compress = info->compress;
                w.zstd_level = QS_ZSTD_LEVEL_DEFAULT;
        }
        job_start(&job, "rewrite", json);

        int rc = qs_rewrite_in_place(image, &w, job_progress, &job, &stats, e);

        qs_image_close(image);
        return finish(&job, rc, path, &stats, json);
}

int image_flatten(const char *path, const struct qs_open_options *open,
                  const struct qs_writer_options *writer, bool json, struct err *e)
{
        if (writer->backing) {
                err_msg(e, EINVAL, "'vmm image flatten' makes an image that needs no parent: use "
                        "'vmm image rebase' with --backing");
                return CLI_FAILED;
        }
        return rewrite(path, open, writer, json, e);
}

int image_rebase(const char *path, const struct qs_open_options *open,
                 const struct qs_writer_options *writer, bool json, struct err *e)
{
        if (!writer->backing) {
                err_msg(e, EINVAL, "'vmm image rebase' needs --backing PARENT: to do without a "
                        "parent, use 'vmm image flatten'");
                return CLI_FAILED;
        }
        return rewrite(path, open, writer, json, e);
}

int image_compact(const char *path, bool json, struct err *e)
{
        struct qs_writer_stats stats;
        struct job job;

        job_start(&job, "compact", json);

        int rc = qs_compact(path, job_progress, &job, &stats, e);

        return finish(&job, rc, path, &stats, json);
}

int image_optimize(const char *path, const struct qs_writer_options *writer, bool json,
                   struct err *e)
{
        struct qs_writer_options w = *writer;
        struct qs_writer_stats stats;
        struct job job;

        if (w.zstd_level == 0) {
                w.compress = QS_COMPRESS_ZSTD;
                w.zstd_level = OPTIMIZE_LEVEL;
        }
        job_start(&job, "optimize", json);

        int rc = qs_optimize(path, &w, job_progress, &job, &stats, e);

        return finish(&job, rc, path, &stats, json);
}
