/* SPDX-License-Identifier: Apache-2.0 */
/* two images' RAM: threads take stretches by a counter, in guest-physical order,
 * until one differs; what is zero in both is not read */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/crew.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/tally.h"

/* a multiple of every cluster */
#define STRETCH_BYTES (1u << QS_CLUSTER_BITS_MAX)

struct compare_job {
        struct qs_image *image[2];
        uint64_t bytes;                 /* of the larger one */
        struct tally tally;
        _Atomic uint64_t next;          /* stretch */
        _Atomic uint64_t first;         /* differing byte so far; UINT64_MAX = none */
        _Atomic bool failed;
};

struct side {
        struct qs_reader *reader;
        uint8_t *buf;
        bool zero;                      /* nothing in buf */
};

static void note_difference(struct compare_job *job, uint64_t at)
{
        uint64_t first = job->first;

        while (at < first && !atomic_compare_exchange_weak(&job->first, &first, at))
                ;
}

/* The stretch as its image has it; zeros behind the image's end. */
static int look(struct side *s, const struct qs_image *m, uint64_t at, struct err *e)
{
        uint64_t first = at >> m->unit_bits;
        uint64_t n = MIN(STRETCH_BYTES >> m->unit_bits, m->units - MIN(first, m->units));
        uint64_t zeros = 0;
        int rc = n ? qs_zero_run(s->reader, first, n, &zeros, e) : 0;

        s->zero = zeros == n;
        if (rc < 0 || s->zero)
                return rc;
        memset(s->buf + (n << m->unit_bits), 0, STRETCH_BYTES - (n << m->unit_bits));
        return qs_clusters_read(s->reader, first, n, s->buf, e);
}

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t n)
{
        size_t i = 0;

        while (i < n && a[i] == b[i])
                i++;
        return i;
}

static int compare_stretch(struct compare_job *job, struct side side[2], uint64_t at,
                           struct err *e)
{
        for (unsigned i = 0; i < 2; i++) {
                int rc = look(&side[i], job->image[i], at, e);

                if (rc < 0)
                        return rc;
        }
        if (side[0].zero && side[1].zero)
                return 0;
        for (unsigned i = 0; i < 2; i++) {
                if (side[i].zero)
                        memset(side[i].buf, 0, STRETCH_BYTES);
        }
        if (memcmp(side[0].buf, side[1].buf, STRETCH_BYTES) != 0)
                note_difference(job, at + first_difference(side[0].buf, side[1].buf,
                                                           STRETCH_BYTES));
        return 0;
}

static int compare_all(struct compare_job *job, struct side side[2], struct err *e)
{
        int rc = 0;

        /* stretches are dealt in order: what is not dealt yet comes later */
        while (rc == 0 && !job->failed && job->first == UINT64_MAX) {
                uint64_t at = atomic_fetch_add(&job->next, 1) * STRETCH_BYTES;

                if (at >= job->bytes)
                        break;
                rc = compare_stretch(job, side, at, e);
                if (rc == 0)
                        rc = tally_add(&job->tally, STRETCH_BYTES, e);
        }
        return rc;
}

static int worker(void *ctx, struct err *e)
{
        struct compare_job *job = ctx;
        struct side side[2] = { { 0 } };
        int rc = 0;

        for (unsigned i = 0; i < 2 && rc == 0; i++) {
                side[i].buf = malloc(STRETCH_BYTES);
                rc = side[i].buf ? qs_reader_new(job->image[i], &side[i].reader, e)
                                 : err_set(e, ENOMEM, "compare");
        }
        if (rc == 0)
                rc = compare_all(job, side, e);
        for (unsigned i = 0; i < 2; i++) {
                qs_reader_free(side[i].reader);
                free(side[i].buf);
        }
        if (rc < 0)
                job->failed = true;
        return rc;
}

int qs_compare(struct qs_image *a, struct qs_image *b, qs_progress_fn *progress,
               void *progress_ctx, uint64_t *ret_gpa, struct err *e)
{
        struct compare_job job = {
                .image = { a, b }, .bytes = MAX(a->disk_bytes, b->disk_bytes),
                .first = UINT64_MAX,
        };
        uint64_t stretches = DIV_ROUND_UP(job.bytes, STRETCH_BYTES);
        int rc;

        tally_init(&job.tally, progress, progress_ctx, stretches * STRETCH_BYTES);
        rc = crew_run((unsigned)MIN(crew_size(0), MAX(stretches, 1)), false, worker, &job, e);
        if (rc == 0)
                *ret_gpa = job.first;
        return rc;
}
