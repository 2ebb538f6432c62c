/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/ramjob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/clone.h"
#include "qcowstore/crew.h"
#include "qcowstore/l2entry.h"
#include "qcowstore/sum.h"

static_assert(CREW_MAX + CHUNKPOOL_SPARE < PLACER_AHEAD_MAX, "each ticket has a chunk");

static int fill(struct ramjob *job, struct ramfetch_tools *t, struct chunk *c, uint64_t i,
                struct err *e)
{
        struct qs_image *from = job->w->clone_of;
        struct ram_piece piece = ramplan_at(&job->plan, i);

        c->ahead = piece.ahead;
        if (!from)
                return ramfetch(&job->fetch, t, c, &piece, e);

        uint64_t end = MIN(piece.gpa + piece.bytes, job->w->options.disk_bytes);

        c->ram_bytes = end - piece.gpa;
        return clone_fill(from, c, piece.gpa >> c->cluster_bits,
                          (unsigned)layout_clusters(c->ram_bytes, c->cluster_bits), e);
}

/* 0 or a negative errno; v is used up */
static int pwritev_full(int fd, struct iovec *v, int n, uint64_t offset)
{
        while (n > 0) {
                ssize_t got = pwritev(fd, v, n, (off_t)offset);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                offset += (uint64_t)got;
                for (; n > 0 && (size_t)got >= v->iov_len; v++, n--)
                        got -= (ssize_t)v->iov_len;
                if (n > 0) {
                        v->iov_base = (uint8_t *)v->iov_base + got;
                        v->iov_len -= (size_t)got;
                }
        }
        return 0;
}

/* The chunk's raw clusters, straight from where they are. Their stored bytes
 * are their plain content, and so is the sum. */
static int write_raw(struct qs_writer *w, const struct chunk *c, uint64_t offset)
{
        struct iovec v[CHUNK_CLUSTERS_MAX];
        uint64_t host = offset >> w->cluster_bits;
        int n = 0;

        for (unsigned i = 0; i < c->n; i++) {
                if (c->cluster[i].kind != CHUNK_RAW)
                        continue;

                uint8_t *p = (uint8_t *)(uintptr_t)c->plain + ((size_t)i << c->cluster_bits);

                w->space.sums[host++] = c->cluster[i].sum;
                if (n > 0 && (uint8_t *)v[n - 1].iov_base + v[n - 1].iov_len == p)
                        v[n - 1].iov_len += w->cluster_bytes;
                else
                        v[n++] = (struct iovec){ p, w->cluster_bytes };
        }
        return pwritev_full(writer_fd(w), v, n, offset);
}

static int write_run(struct qs_writer *w, const struct placer_run *run)
{
        uint64_t host = run->offset >> w->cluster_bits;

        for (size_t at = 0; at < run->bytes; at += w->cluster_bytes)
                w->space.sums[host++] = sum_bytes(run->data + at, w->cluster_bytes, w->seed);
        return io_pwrite_full(writer_fd(w), run->data, run->bytes, run->offset);
}

static uint64_t *table_of(struct qs_writer *w, uint64_t l1)
{
        uint64_t *present = atomic_load(&w->tables[l1]);

        if (present)
                return present;

        AUTO_FREE uint64_t *fresh = calloc(1, writer_table_bytes(w->cluster_bits));

        if (fresh && atomic_compare_exchange_strong(&w->tables[l1], &present, fresh))
                return ptr_take(&fresh);
        return present;
}

static void note_old(struct ramjob *job, uint64_t entry)
{
        if (entry == 0 || entry == L2ENTRY_ZERO)
                return;

        uint64_t i = atomic_fetch_add(&job->n_old, 1);

        ASSERT(i < job->plan.clusters);
        job->old[i] = entry;
}

static int note_clusters(struct ramjob *job, const struct chunk *c, struct err *e)
{
        struct qs_writer *w = job->w;
        uint64_t entries = layout_l2_entries(c->cluster_bits);
        uint64_t l1 = c->first / entries;
        bool again = job->fetch.again;

        if (c->count[CHUNK_ZERO] + c->count[CHUNK_SAME] + c->count[CHUNK_KEPT] == c->n &&
            !(again && atomic_load(&w->tables[l1])))
                return 0;

        /* a chunk is aligned to its size and never crosses an L2 table */
        struct writer_table t = writer_table_at(table_of(w, l1), c->cluster_bits);

        if (!t.entry)
                return err_set(e, ENOMEM, "keep an L2 table");
        for (unsigned i = 0; i < c->n; i++) {
                const struct chunk_cluster *k = &c->cluster[i];
                uint64_t at = c->first % entries + i;

                if (k->kind == CHUNK_KEPT)
                        continue;
                if (again)
                        note_old(job, t.entry[at]);
                t.entry[at] = k->entry;
                t.sum[at] = k->sum;
                t.shared[at] = k->kind == CHUNK_SHARED;
        }
        return 0;
}

static void add_stats(struct ramjob *job, const struct chunk *c)
{
        for (unsigned k = 0; k < CHUNK_KINDS; k++)
                job->count[k] += c->count[k];
        for (unsigned i = 0; job->fetch.again && i < c->n; i++) {
                if (c->cluster[i].kind != CHUNK_KEPT)
                        job->count[c->cluster[i].was]--;
        }
}

static int tell_progress(struct ramjob *job, uint64_t bytes, struct err *e)
{
        uint64_t done = atomic_fetch_add(&job->done_bytes, bytes) + bytes;

        if (job->progress && !atomic_flag_test_and_set(&job->in_progress)) {
                bool go = job->progress(job->progress_ctx, done, job->plan.ram_bytes);

                atomic_flag_clear(&job->in_progress);
                if (!go)
                        return err_msg(e, ECANCELED, "cancelled");
        }
        return 0;
}

/* Lets the kernel begin to write what nobody will change any more, so that
 * little is left to wait for at the end. Only a hint: errors come by fdatasync. */
static void start_writeback(struct qs_writer *w, const struct chunk *c)
{
        uint64_t raw = (uint64_t)c->count[CHUNK_RAW] << w->cluster_bits;
        int fd = writer_fd(w);

        if (raw)
                sync_file_range(fd, (off_t)c->to.raw_offset, (off_t)raw, SYNC_FILE_RANGE_WRITE);
        for (size_t k = 0; k < ARRAY_SIZE(c->to.run); k++) {
                if (c->to.run[k].bytes)
                        sync_file_range(fd, (off_t)c->to.run[k].offset,
                                        (off_t)c->to.run[k].bytes, SYNC_FILE_RANGE_WRITE);
        }
}

static int write_chunk(struct ramjob *job, const struct chunk *c, struct err *e)
{
        struct qs_writer *w = job->w;
        int rc = write_raw(w, c, c->to.raw_offset);

        for (size_t k = 0; rc == 0 && k < ARRAY_SIZE(c->to.run); k++)
                rc = write_run(w, &c->to.run[k]);
        if (rc < 0)
                return writer_write_error(w, rc, e);
        start_writeback(w, c);
        if (c->ahead)                   /* it comes again, as RAM */
                return 0;
        rc = note_clusters(job, c, e);
        if (rc < 0)
                return rc;
        add_stats(job, c);
        return tell_progress(job, c->ram_bytes, e);
}

static bool order_is_chosen(const struct ramjob *job)
{
        return job->fetch.source && job->fetch.source->next && !job->fetch.again;
}

static uint64_t piece_of(struct ramjob *job, uint64_t ticket)
{
        const struct qs_ram_source *source = job->fetch.source;
        uint64_t gpa;

        /* an answer that is not heeded would be lost: do not ask for what is ahead */
        if (!order_is_chosen(job) || ticket < job->plan.n_ahead)
                return ticket;
        return ramorder_take(&job->order, source->next(source->ctx, &gpa) ? &gpa : NULL);
}

/* A piece of guest RAM into c, and all that can be placed then into the file. */
static int one_chunk(struct ramjob *job, struct ramfetch_tools *t, struct chunk *c,
                     uint64_t ticket, struct err *e)
{
        int rc = fill(job, t, c, piece_of(job, ticket), e);

        if (rc < 0)
                return rc;
        c = placer_place(job->placer, ticket, c);
        while (rc == 0 && c) {
                struct chunk *next = c->next;

                rc = write_chunk(job, c, e);
                chunkpool_give(job->pool, c);
                c = next;
        }
        return rc;
}

static int worker(void *ctx, struct err *e)
{
        struct ramjob *job = ctx;
        struct ramfetch_tools t;
        struct chunk *c;
        int rc = ramfetch_tools_init(&t, &job->fetch, e);

        while (rc == 0 && (c = chunkpool_take(job->pool))) {
                /* with the chunk in hand, so that who has the lowest goes on */
                uint64_t ticket = atomic_fetch_add(&job->next, 1);

                if (ticket >= job->plan.chunks) {
                        chunkpool_give(job->pool, c);
                        break;
                }
                rc = one_chunk(job, &t, c, ticket, e);
        }
        ramfetch_tools_fini(&t);
        if (rc < 0) {
                placer_stop(job->placer);
                chunkpool_stop(job->pool);
        }
        return rc;
}

static void tell_stats(const struct ramjob *job)
{
        struct qs_writer_stats *s = &job->w->stats;

        s->clusters_zero += job->count[CHUNK_ZERO] + job->count[CHUNK_BLANK];
        s->clusters_raw += job->count[CHUNK_RAW];
        s->clusters_packed += job->count[CHUNK_PACKED];
        s->clusters_shared += job->count[CHUNK_SHARED];
        s->clusters_same += job->count[CHUNK_SAME];
}

/* The last tail; then the file's space is ours again. */
static int finish(struct ramjob *job, struct err *e)
{
        struct qs_writer *w = job->w;
        struct placer_run tail;

        placer_finish(job->placer, &tail);
        if (tail.bytes) {
                int rc = write_run(w, &tail);

                if (rc < 0)
                        return writer_write_error(w, rc, e);
        }
        if (job->progress && !job->progress(job->progress_ctx, job->plan.ram_bytes,
                                            job->plan.ram_bytes))
                return err_msg(e, ECANCELED, "cancelled");
        tell_stats(job);
        return 0;
}

int ramjob_run(struct ramjob *job, struct err *e)
{
        struct qs_writer *w = job->w;
        unsigned threads = (unsigned)MIN(crew_size(w->options.threads), MAX(job->plan.chunks, 1));
        unsigned chunks = (unsigned)MIN(threads + CHUNKPOOL_SPARE, MAX(job->plan.chunks, 1));
        /* INV-ROOM of the placer */
        int rc = space_reserve(&w->space, job->plan.clusters + 1, e);

        if (rc == 0 && order_is_chosen(job))
                rc = ramorder_init(&job->order, &job->plan, e);
        if (rc < 0)
                return rc;
        job->placer = placer_new(&w->space, w->dedup);
        job->pool = chunkpool_new(chunks, w->cluster_bits, w->options.compress,
                                  w->options.zstd_level, w->seed, w->dedup);
        if (!job->placer || !job->pool)
                return err_set(e, ENOMEM, "place guest memory");
        rc = crew_run(threads, w->options.background, worker, job, e);
        return rc < 0 ? rc : finish(job, e);
}

void ramjob_fini(struct ramjob *job)
{
        chunkpool_free(job->pool);
        placer_free(job->placer);
        ramorder_fini(&job->order);
        ramplan_fini(&job->plan);
}
