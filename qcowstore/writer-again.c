/* SPDX-License-Identifier: Apache-2.0 */
/* guest RAM that changed since it was taken
 *
 * Theory of operation
 *
 * The crew takes the changed RAM as it took all of it before: what is new is placed
 * behind what is there, or in what earlier passes gave back; what the file has is
 * referred to. An L2 entry that is replaced is only noted. So all that was there
 * before the pass stays as it is during it: a cluster of which a part is taken again
 * is read back, and what dedup knows is where it says, whoever asks.
 *
 * Behind the pass the noted entries are counted off. A host cluster that comes to 0
 * is nobody's: the published state of a pool counts those that it uses, and this
 * writer's references were added to that (INV-SHADOW). Dedup forgets all contents
 * in such clusters, then they may be given out again, to the next pass or for tables;
 * what is left at the end becomes a hole (INV-GONE). A host cluster of streams stays
 * as long as one of them is in use: nothing in it is overwritten, so dedup may well
 * remember the others.
 *
 * INV-GONE: a host cluster is given out again only when no L2 entry leads to it and
 *           dedup does not know it.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "qcowstore/crew.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/ramjob.h"
#include "qcowstore/sum.h"

/* What of the ranges is RAM; the caller frees *ret. */
static int clip(const struct qs_writer *w, const struct qs_ram_range *ranges, size_t n,
                struct qs_ram_range **ret, size_t *ret_n, struct err *e)
{
        struct qs_ram_range *all = calloc(n + w->n_ram + 1, sizeof(*all));
        size_t out = 0;

        if (!all)
                return err_set(e, ENOMEM, "take guest memory again");
        for (size_t i = 0, k = 0; i < n && k < w->n_ram;) {
                uint64_t from = MAX(ranges[i].gpa, w->ram[k].gpa);
                uint64_t end = ranges[i].gpa + ranges[i].bytes;
                uint64_t ram_end = w->ram[k].gpa + w->ram[k].bytes;

                if (from < MIN(end, ram_end))
                        all[out++] = (struct qs_ram_range){ from, MIN(end, ram_end) - from };
                if (end <= ram_end)
                        i++;
                else
                        k++;
        }
        *ret = all;
        *ret_n = out;
        return 0;
}

static struct l2entry place_of(const struct space *s, uint64_t entry)
{
        struct l2entry at;
        const char *wrong = l2entry_decode(entry, s->cluster_bits, s->room << s->cluster_bits, &at);

        ASSERT(!wrong && at.bytes > 0);
        return at;
}

/* Marks the host clusters that come to 0; returns how many. */
static uint64_t count_off(struct space *s, uint64_t entry, uint8_t *gone)
{
        struct l2entry at = place_of(s, entry);
        uint64_t n = 0;

        for (uint64_t i = at.offset >> s->cluster_bits;
             i <= (at.offset + at.bytes - 1) >> s->cluster_bits; i++) {
                ASSERT(s->refs[i] >= PLACER_REFS_PER_ENTRY);
                s->refs[i] -= PLACER_REFS_PER_ENTRY;
                if (s->refs[i] > 0)
                        continue;
                s->sums[i] = 0;
                gone[i] = 1;
                n++;
        }
        return n;
}

static bool is_gone(const void *ctx, uint64_t entry)
{
        const struct space *s = ctx;
        struct l2entry at = place_of(s, entry);

        return s->refs[at.offset >> s->cluster_bits] == 0 ||
               s->refs[(at.offset + at.bytes - 1) >> s->cluster_bits] == 0;
}

static int release(struct ramjob *job, struct err *e)
{
        struct qs_writer *w = job->w;
        AUTO_FREE uint8_t *gone = calloc(w->space.room, 1);
        uint64_t n = 0;

        if (!gone)
                return err_set(e, ENOMEM, "take guest memory again");
        for (uint64_t i = 0; i < job->n_old; i++)
                n += count_off(&w->space, job->old[i], gone);
        if (n == 0)
                return 0;
        dedup_forget(w->dedup, is_gone, &w->space);             /* INV-GONE */
        return space_recycle(&w->space, gone, e);
}

/* An L2 table without entries is as good as none. */
static void drop_empty_tables(struct qs_writer *w)
{
        for (uint64_t i = 0; i < w->disk_l1; i++) {
                uint64_t *table = atomic_load(&w->tables[i]);

                if (!table || !sum_all_zero(table, w->cluster_bytes))
                        continue;
                atomic_store(&w->tables[i], NULL);
                free(table);
        }
}

static int take_again(void *ctx, struct err *e)
{
        struct ramjob *job = ctx;
        int rc = ramplan_again(&job->plan, job->w, job->fetch.ranges, job->fetch.n_ranges, e);

        if (rc < 0)
                return rc;
        job->old = calloc(job->plan.clusters + 1, sizeof(*job->old));
        if (!job->old || !dedup_reserve(job->w->dedup, job->plan.clusters))
                return err_set(e, ENOMEM, "take guest memory again");
        rc = ramjob_run(job, e);
        if (rc == 0)
                rc = release(job, e);
        if (rc == 0)
                drop_empty_tables(job->w);
        return rc;
}

int qs_writer_again(struct qs_writer *w, const struct qs_ram_range *ranges, size_t n,
                    const struct qs_ram_source *source, qs_progress_fn *progress,
                    void *progress_ctx, struct err *e)
{
        ASSERT(w->ram_done && !w->torn && !w->published && !w->into);

        AUTO_FREE struct qs_ram_range *ram = NULL;
        size_t n_ram = 0;
        int rc = ramplan_check(w, ranges, n, e);

        if (rc == 0)
                rc = clip(w, ranges, n, &ram, &n_ram, e);
        if (rc < 0 || n_ram == 0)
                return rc;

        struct ramjob job = {
                .w = w, .fetch = { .w = w, .ranges = ram, .n_ranges = n_ram, .source = source,
                                   .again = true }, .progress = progress,
                .progress_ctx = progress_ctx, .in_progress = ATOMIC_FLAG_INIT,
        };

        heritage_init(&job.fetch.heritage, w, source->parent, true);
        w->again = w->torn = true;
        rc = crew_run(1, w->options.background, take_again, &job, e);
        w->torn = rc < 0;
        ramjob_fini(&job);
        free(job.old);
        return rc;
}
