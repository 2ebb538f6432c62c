/* SPDX-License-Identifier: Apache-2.0 */
/* an image's RAM into a flat sparse file: threads take stretches of it by a
 * counter; what is zero stays a hole, what lies between the file's parts is left out */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "common/publish.h"
#include "qcowstore/chunk.h"
#include "qcowstore/crew.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/sum.h"
#include "qcowstore/tally.h"

/* zero stretches are cheap to skip only in large steps */
#define EXPORT_BYTES (8u << 20)

struct export_job {
        struct qs_image *image;
        struct publish *publish;
        const struct qs_flat_part *parts;
        size_t n;
        uint64_t stretch_clusters;
        struct tally tally;
        _Atomic uint64_t next;                  /* stretch */
        _Atomic bool failed;
};

/* Other programs store zeros, too; we leave them out. */
static bool is_hole(const struct qs_image *m, const uint8_t *p, uint64_t bytes)
{
        return !m->hdr.format_version && sum_all_zero(p, bytes);
}

/* Memory from gpa on, as far as it is of a part, to its place in the file. */
static int write_parts(const struct export_job *job, const uint8_t *p, uint64_t bytes,
                       uint64_t gpa)
{
        for (size_t i = 0; i < job->n; i++) {
                const struct qs_flat_part *part = &job->parts[i];
                uint64_t lo = MAX(gpa, part->gpa);
                uint64_t hi = MIN(gpa + bytes, part->gpa + part->bytes);

                if (lo >= hi)
                        continue;

                int rc = io_pwrite_full(publish_fd(job->publish), p + (lo - gpa), hi - lo,
                                        part->offset + (lo - part->gpa));

                if (rc < 0)
                        return rc;
        }
        return 0;
}

static int write_data(struct export_job *job, const uint8_t *p, uint64_t bytes, uint64_t at)
{
        uint64_t step = 1ull << job->image->unit_bits;
        uint64_t done = 0;

        while (done < bytes) {
                uint64_t end = done;

                while (end < bytes && !is_hole(job->image, p + end, MIN(step, bytes - end)))
                        end = MIN(end + step, bytes);

                int rc = write_parts(job, p + done, end - done, at + done);

                if (rc < 0)
                        return rc;
                done = MIN(end + step, bytes);
        }
        return 0;
}

/* Clusters [first, first + n) have data; buf has room for n. */
static int copy_run(struct export_job *job, struct qs_reader *r, uint64_t first, uint64_t n,
                    uint8_t *buf, struct err *e)
{
        const struct qs_image *m = job->image;
        uint64_t at = first << m->unit_bits;
        uint64_t bytes = MIN(n << m->unit_bits, m->disk_bytes - at);
        int rc = qs_clusters_read(r, first, n, buf, e);

        if (rc < 0)
                return rc;
        rc = write_data(job, buf, bytes, at);
        return rc < 0 ? publish_write_error(job->publish, rc, e) : 0;
}

/* Length of the run with data from `first` on, at most max. */
static int data_run(struct qs_reader *r, uint64_t first, uint64_t max, uint64_t *ret,
                    struct err *e)
{
        uint64_t n = 0;
        enum qs_kind kind = QS_RAW;

        while (n < max && kind != QS_ZERO) {
                int rc = qs_cluster_kind(r, first + n, &kind, e);

                if (rc < 0)
                        return rc;
                n += kind != QS_ZERO;
        }
        *ret = n;
        return 0;
}

static int copy_stretch(struct export_job *job, struct qs_reader *r, uint64_t first, uint64_t end,
                        uint8_t *buf, struct err *e)
{
        uint64_t room = chunk_bytes(job->image->unit_bits) >>
                        job->image->unit_bits;

        while (first < end) {
                uint64_t n;
                int rc = qs_zero_run(r, first, end - first, &n, e);

                first += rc < 0 ? 0 : n;
                if (rc == 0)
                        rc = data_run(r, first, MIN(end - first, room), &n, e);
                if (rc == 0 && n > 0)
                        rc = copy_run(job, r, first, n, buf, e);
                if (rc < 0)
                        return rc;
                first += n;
        }
        return 0;
}

static int copy_all(struct export_job *job, struct qs_reader *r, struct err *e)
{
        AUTO_FREE uint8_t *buf = malloc(chunk_bytes(job->image->unit_bits));
        int rc = buf ? 0 : err_set(e, ENOMEM, "export");

        while (rc == 0 && !job->failed) {
                uint64_t first = atomic_fetch_add(&job->next, 1) * job->stretch_clusters;
                uint64_t end = MIN(first + job->stretch_clusters, job->image->units);

                if (first >= job->image->units)
                        break;
                rc = copy_stretch(job, r, first, end, buf, e);
                if (rc == 0)
                        rc = tally_add(&job->tally, (end - first) << job->image->unit_bits, e);
        }
        return rc;
}

static int worker(void *ctx, struct err *e)
{
        struct export_job *job = ctx;
        struct qs_reader *r = NULL;
        int rc = qs_reader_new(job->image, &r, e);

        if (rc == 0)
                rc = copy_all(job, r, e);
        qs_reader_free(r);
        if (rc < 0)
                job->failed = true;
        return rc;
}

static int write_ram(struct export_job *job, struct err *e)
{
        const struct qs_flat_part *last = &job->parts[job->n - 1];

        if (ftruncate(publish_fd(job->publish), (off_t)(last->offset + last->bytes)) < 0)
                return publish_write_error(job->publish, -errno, e);
        return crew_run(crew_size(0), false, worker, job, e);
}

static int write_blob(const struct publish *p, const struct qs_blob *blob, struct err *e)
{
        int rc = io_pwrite_full(publish_fd(p), blob->data, blob->bytes, 0);

        return rc < 0 ? publish_write_error(p, rc, e) : 0;
}

int qs_export_blob(const struct qs_blob *blob, bool force, struct err *e)
{
        struct publish *p = NULL;
        int rc = publish_new(blob->name, force, &p, e);

        if (rc == 0)
                rc = write_blob(p, blob, e);
        if (rc == 0)
                rc = publish_commit(p, e);
        publish_free(p);
        return rc;
}

/* Both are there and durable before the first gets its name; when the second cannot get
 * its own, or either cannot keep it over a crash, both lose them again. */
static int commit_both(struct publish *ram, struct publish *beside, struct err *e)
{
        int rc = publish_settle(beside, e);

        if (rc == 0)
                rc = publish_commit(ram, e);
        if (rc == 0)
                rc = publish_commit(beside, e);
        if (rc < 0) {
                publish_retract(ram);
                publish_retract(beside);
        }
        return rc;
}

int qs_export_flat(struct qs_image *m, const struct qs_flat *flat, const struct qs_blob *beside,
                   bool force, qs_progress_fn *progress, void *progress_ctx, struct err *e)
{
        const struct qs_flat_part all = { .bytes = m->disk_bytes };
        uint64_t step = MAX(EXPORT_BYTES, 1ull << m->unit_bits);
        struct export_job job = {
                .image = m, .stretch_clusters = step >> m->unit_bits,
                .parts = flat->n ? flat->parts : &all, .n = flat->n ? flat->n : 1,
        };
        struct publish *other = NULL;
        int rc = publish_new(flat->path, force, &job.publish, e);

        tally_init(&job.tally, progress, progress_ctx, m->units << m->unit_bits);
        if (rc == 0 && beside)
                rc = publish_new(beside->name, force, &other, e);
        if (rc == 0 && beside)
                rc = write_blob(other, beside, e);
        if (rc == 0)
                rc = write_ram(&job, e);
        if (rc == 0)
                rc = other ? commit_both(job.publish, other, e) :
                             publish_commit(job.publish, e);
        publish_free(other);
        publish_free(job.publish);
        return rc;
}

int qs_export(struct qs_image *m, const char *raw_path, bool force, qs_progress_fn *progress,
              void *progress_ctx, struct err *e)
{
        const struct qs_flat flat = { .path = raw_path };

        return qs_export_flat(m, &flat, NULL, force, progress, progress_ctx, e);
}
