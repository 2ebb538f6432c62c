/* SPDX-License-Identifier: Apache-2.0 */
/* guest RAM into the file */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "qcowstore/crew.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/ramjob.h"

/* Of an image that somebody else made, whose seed a new file may have taken over
 * (heritage.h), guests may know it: what is not written down has one of its own. */
static int seed_of(const struct qs_writer *w, uint64_t *ret, struct err *e)
{
        *ret = w->seed;
        if (!w->pool && getrandom(ret, sizeof(*ret), 0) != sizeof(*ret))
                return err_set(e, errno, "get random bytes");
        return 0;
}

/* What the file has already. */
static int make_dedup(struct qs_writer *w, uint64_t clusters, struct err *e)
{
        struct pool *pool = w->pool;
        uint64_t seed;

        if (w->into)                    /* of all tags of the file that is made */
                w->dedup = w->into->dedup;
        if (w->dedup)
                return 0;

        int rc = seed_of(w, &seed, e);

        if (rc < 0)
                return rc;
        w->dedup = dedup_new(seed, MIN(clusters + (pool ? dedupindex_size(pool) : 0),
                                       DEDUP_CONTENTS_MAX), w->refs_max);
        if (!w->dedup)
                return err_set(e, ENOMEM, "place guest memory");
        if (!pool)
                return 0;
        if (dedupindex_present(pool))
                return dedupindex_load(pool, &w->space, w->dedup, e);

        rc = dedupindex_build(pool, &w->space, w->dedup, e);

        /* which opens all tags */
        return rc == 0 && w->replaced ? writer_lock_replaced(w, e) : rc;
}

/* The order, and what the file has already; on one thread. */
static int prepare(void *ctx, struct err *e)
{
        struct ramjob *job = ctx;

        heritage_init(&job->fetch.heritage, job->w, job->fetch.source ? job->fetch.source->parent
                                                                      : NULL, false);

        int rc = ramplan_init(&job->plan, job->w, job->fetch.ranges, job->fetch.n_ranges, e);

        return rc < 0 ? rc : make_dedup(job->w, job->plan.clusters, e);
}

int qs_writer_ram(struct qs_writer *w, const struct qs_ram_range *ranges, size_t n,
                  const struct qs_ram_source *source, qs_progress_fn *progress,
                  void *progress_ctx, struct err *e)
{
        ASSERT(!w->ram_done && !w->published);
        if (n > QS_RAM_RANGES_MAX)
                return err_msg(e, EINVAL, "more than %d ranges of guest memory",
                               QS_RAM_RANGES_MAX);

        int rc = ramplan_check(w, ranges, n, e);

        if (rc < 0)
                return rc;

        struct ramjob job = {
                .w = w, .fetch = { .w = w, .ranges = ranges, .n_ranges = n, .source = source },
                .progress = progress, .progress_ctx = progress_ctx,
                .in_progress = ATOMIC_FLAG_INIT,
        };

        rc = crew_run(1, w->options.background, prepare, &job, e);
        if (rc == 0)
                rc = ramjob_run(&job, e);
        if (rc == 0) {
                w->stats.ram_bytes = job.plan.ram_bytes;
                memcpy(w->ram, ranges, n * sizeof(*ranges));
                w->n_ram = n;
                w->ram_done = true;
        }
        ramjob_fini(&job);
        return rc;
}
