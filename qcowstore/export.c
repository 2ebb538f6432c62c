/* SPDX-License-Identifier: Apache-2.0 */
/* an image's RAM into a flat sparse file: threads take stretches of it by a
 * counter; what is zero stays a hole */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/chunk.h"
#include "qcowstore/crew.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/publish.h"
#include "qcowstore/sum.h"
#include "qcowstore/tally.h"

/* zero stretches are cheap to skip only in large steps */
#define EXPORT_BYTES (8u << 20)

struct export_job {
        struct qs_image *image;
        struct publish *publish;
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

static int write_data(struct export_job *job, const uint8_t *p, uint64_t bytes, uint64_t at)
{
        uint64_t step = 1ull << job->image->unit_bits;
        uint64_t done = 0;

        while (done < bytes) {
                uint64_t end = done;

                while (end < bytes && !is_hole(job->image, p + end, MIN(step, bytes - end)))
                        end = MIN(end + step, bytes);

                int rc = io_pwrite_full(publish_fd(job->publish), p + done, end - done, at + done);

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

static int run(struct export_job *job, struct err *e)
{
        if (ftruncate(publish_fd(job->publish), (off_t)job->image->disk_bytes) < 0)
                return publish_write_error(job->publish, -errno, e);
        return crew_run(crew_size(0), worker, job, e);
}

int qs_export(struct qs_image *m, const char *raw_path, bool force, qs_progress_fn *progress,
              void *progress_ctx, struct err *e)
{
        uint64_t step = MAX(EXPORT_BYTES, 1ull << m->unit_bits);
        struct export_job job = {
                .image = m, .stretch_clusters = step >> m->unit_bits,
        };
        int rc = publish_new(raw_path, force, &job.publish, e);

        tally_init(&job.tally, progress, progress_ctx, m->units << m->unit_bits);
        if (rc == 0)
                rc = run(&job, e);
        if (rc == 0)
                rc = publish_commit(job.publish, e);
        publish_free(job.publish);
        return rc;
}
