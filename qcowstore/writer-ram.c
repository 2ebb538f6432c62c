/* SPDX-License-Identifier: Apache-2.0 */
/* guest RAM into the file: threads take chunks by a counter and prepare them;
 * the placer, in guest-physical order, says where they go; then they are
 * written by whoever brought the one that the others had to wait for */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/chunkpool.h"
#include "qcowstore/clone.h"
#include "qcowstore/crew.h"
#include "qcowstore/dedupindex.h"
#include "qcowstore/placer.h"
#include "qcowstore/ramplan.h"
#include "qcowstore/sum.h"
#include "qcowstore/writer-priv.h"

struct ram_job {
        /* constant while threads run */
        struct qs_writer *w;
        const struct qs_ram_range *ranges;
        size_t n_ranges;
        const struct qs_ram_source *source;
        qs_progress_fn *progress;
        void *progress_ctx;
        struct ramplan plan;
        struct placer *placer;
        struct chunkpool *pool;
        /* any thread */
        _Atomic uint64_t next;
        _Atomic uint64_t done_bytes;
        atomic_flag in_progress;        /* a thread is in the progress function */
        _Atomic uint64_t raw;
        _Atomic uint64_t packed;
        _Atomic uint64_t shared;
        _Atomic uint64_t same;
        _Atomic uint64_t zero;
};

static_assert(CREW_MAX + CHUNKPOOL_SPARE < PLACER_AHEAD_MAX, "each ticket has a chunk");

static int check_ranges(const struct qs_writer *w, const struct qs_ram_range *r, size_t n,
                        struct err *e)
{
        uint64_t end = 0;

        if (n > QS_RAM_RANGES_MAX)
                return err_msg(e, EINVAL, "more than %d ranges of guest memory",
                               QS_RAM_RANGES_MAX);
        for (size_t i = 0; i < n; i++) {
                if (!IS_ALIGNED(r[i].gpa | r[i].bytes, LAYOUT_PAGE_BYTES) || r[i].gpa < end ||
                    r[i].gpa > w->options.disk_bytes || r[i].bytes == 0 ||
                    r[i].bytes > w->options.disk_bytes - r[i].gpa)
                        return err_msg(e, EINVAL, "the ranges of guest memory are not sorted, "
                                       "overlap or exceed its size");
                end = r[i].gpa + r[i].bytes;
        }
        return 0;
}

/* 0 with *ret NULL = all zero */
static int get_span(struct ram_job *job, uint64_t gpa, size_t bytes, void *buf,
                    const uint8_t **ret, struct err *e)
{
        bool zero = false;
        struct err why = { 0 };
        const void *p = job->source->span(job->source->ctx, gpa, bytes, buf, &zero, &why);

        if (!zero && !p) {
                if (why.code == 0)
                        return err_msg(e, EIO, "guest memory could not be read");
                *e = why;
                return why.code;
        }
        *ret = zero ? NULL : p;
        return 0;
}

/* The part of a range within [gpa, gpa + bytes); bytes 0 = none. */
static struct qs_ram_range overlap(const struct qs_ram_range *r, uint64_t gpa, uint64_t bytes)
{
        uint64_t lo = MAX(r->gpa, gpa);
        uint64_t hi = MIN(r->gpa + r->bytes, gpa + bytes);

        return (struct qs_ram_range){ lo, hi > lo ? hi - lo : 0 };
}

/* Content of a piece that is not all of one range. */
static int compose(struct ram_job *job, struct chunk *c, const struct ram_piece *piece,
                   const uint8_t **ret, struct err *e)
{
        bool any = false;

        memset(c->buf, 0, c->bytes);
        for (size_t i = 0; i < job->n_ranges; i++) {
                struct qs_ram_range part = overlap(&job->ranges[i], piece->gpa, piece->bytes);
                uint8_t *to = c->buf + (part.gpa - piece->gpa);
                const uint8_t *from = NULL;

                if (part.bytes == 0)
                        continue;

                int rc = get_span(job, part.gpa, part.bytes, to, &from, e);

                if (rc < 0)
                        return rc;
                any |= from != NULL;
                if (!from)
                        memset(to, 0, part.bytes);
                else if (from != to)
                        memcpy(to, from, part.bytes);
        }
        *ret = any ? c->buf : NULL;
        return 0;
}

/* Plain content of a piece of RAM, and what the parent has there. */
static int fetch(struct ram_job *job, struct delta_view *view, struct chunk *c,
                 const struct ram_piece *piece, struct err *e)
{
        struct qs_ram_range only = { 0 };
        const uint8_t *plain = NULL;
        uint64_t gpa = piece->gpa;
        uint64_t end = gpa;
        int rc;

        c->ram_bytes = 0;
        for (size_t i = 0; i < job->n_ranges; i++) {
                struct qs_ram_range part = overlap(&job->ranges[i], gpa, piece->bytes);

                if (part.bytes) {
                        c->ram_bytes += part.bytes;
                        end = part.gpa + part.bytes;
                        only = part;
                }
        }
        if (view)
                end = MIN(gpa + piece->bytes, job->w->options.disk_bytes);

        size_t whole = ALIGN_UP(end - gpa, job->w->cluster_bytes);

        if (only.gpa == gpa && only.bytes == whole)
                rc = get_span(job, gpa, whole, c->buf, &plain, e);
        else
                rc = c->ram_bytes ? compose(job, c, piece, &plain, e) : 0;
        if (rc == 0 && view)
                rc = delta_view_at(view, gpa, whole, &c->base, e);
        if (rc < 0)
                return rc;
        chunk_fill(c, gpa >> c->cluster_bits,
                   (unsigned)layout_clusters(end - gpa, c->cluster_bits), plain);
        return 0;
}

static int fill(struct ram_job *job, struct delta_view *view, struct chunk *c, uint64_t i,
                struct err *e)
{
        struct qs_image *from = job->w->clone_of;
        struct ram_piece piece = ramplan_at(&job->plan, i);

        c->ahead = piece.ahead;
        if (!from)
                return fetch(job, view, c, &piece, e);

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

        AUTO_FREE uint64_t *fresh = calloc(2, w->cluster_bytes);

        if (fresh && atomic_compare_exchange_strong(&w->tables[l1], &present, fresh))
                return ptr_take(&fresh);
        return present;
}

static int note_clusters(struct qs_writer *w, const struct chunk *c, struct err *e)
{
        uint64_t entries = layout_l2_entries(c->cluster_bits);

        if (c->count[CHUNK_ZERO] + c->count[CHUNK_SAME] == c->n)
                return 0;

        /* a chunk is aligned to its size and never crosses an L2 table */
        uint64_t *table = table_of(w, c->first / entries);

        if (!table)
                return err_set(e, ENOMEM, "keep an L2 table");
        for (unsigned i = 0; i < c->n; i++) {
                table[c->first % entries + i] = c->cluster[i].entry;
                table[entries + c->first % entries + i] = c->cluster[i].sum;
        }
        return 0;
}

static void add_stats(struct ram_job *job, const struct chunk *c)
{
        job->raw += c->count[CHUNK_RAW];
        job->packed += c->count[CHUNK_PACKED];
        job->shared += c->count[CHUNK_SHARED];
        job->same += c->count[CHUNK_SAME];
        job->zero += c->count[CHUNK_ZERO] + c->count[CHUNK_BLANK];
}

static int tell_progress(struct ram_job *job, uint64_t bytes, struct err *e)
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

static int write_chunk(struct ram_job *job, const struct chunk *c, struct err *e)
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
        rc = note_clusters(w, c, e);
        if (rc < 0)
                return rc;
        add_stats(job, c);
        return tell_progress(job, c->ram_bytes, e);
}

/* Chunk i of guest RAM into c, and all that can be placed then into the file. */
static int one_chunk(struct ram_job *job, struct delta_view *view, struct chunk *c, uint64_t i,
                     struct err *e)
{
        int rc = fill(job, view, c, i, e);

        if (rc < 0)
                return rc;
        c = placer_place(job->placer, i, c);
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
        struct ram_job *job = ctx;
        struct delta_view *view = NULL;
        struct chunk *c;
        int rc = job->w->delta ? delta_view_new(job->w->delta, chunk_bytes(job->w->cluster_bits),
                                                &view, e) : 0;

        while (rc == 0 && (c = chunkpool_take(job->pool))) {
                /* with the chunk in hand, so that who has the lowest goes on */
                uint64_t i = atomic_fetch_add(&job->next, 1);

                if (i >= job->plan.chunks) {
                        chunkpool_give(job->pool, c);
                        break;
                }
                rc = one_chunk(job, view, c, i, e);
        }
        delta_view_free(view);
        if (rc < 0) {
                placer_stop(job->placer);
                chunkpool_stop(job->pool);
        }
        return rc;
}

/* The last tail; then the file's space is ours again. */
static int finish(struct ram_job *job, struct err *e)
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
        w->stats = (struct qs_writer_stats){
                .clusters_zero = job->zero, .clusters_raw = job->raw,
                .clusters_packed = job->packed, .clusters_shared = job->shared,
                .clusters_same = job->same,
                .ram_bytes = job->plan.ram_bytes,
        };
        w->ram_done = true;
        return 0;
}

/* What the file has already. */
static int make_dedup(struct qs_writer *w, uint64_t clusters, struct err *e)
{
        struct pool *pool = w->pool;

        if (w->into)                    /* of all tags of the file that is made */
                w->dedup = w->into->dedup;
        if (w->dedup)
                return 0;
        w->dedup = dedup_new(w->seed, MIN(clusters + (pool ? dedupindex_size(pool) : 0),
                                          DEDUP_CONTENTS_MAX), w->refs_max);
        if (!w->dedup)
                return err_set(e, ENOMEM, "place guest memory");
        if (!pool)
                return 0;
        if (dedupindex_present(pool))
                return dedupindex_load(pool, &w->space, w->dedup, e);

        int rc = dedupindex_build(pool, &w->space, w->dedup, e);

        /* which opens all tags */
        return rc == 0 && w->replaced ? writer_lock_replaced(w, e) : rc;
}

static int save_all(struct ram_job *job, struct err *e)
{
        struct qs_writer *w = job->w;
        unsigned threads = (unsigned)MIN(crew_size(w->options.threads), MAX(job->plan.chunks, 1));
        uint64_t clusters = job->plan.clusters;
        unsigned chunks = (unsigned)MIN(threads + CHUNKPOOL_SPARE, MAX(job->plan.chunks, 1));
        int rc = space_reserve(&w->space, clusters + 1, e);     /* INV-ROOM of the placer */

        if (rc == 0)
                rc = make_dedup(w, clusters, e);
        if (rc < 0)
                return rc;
        job->placer = placer_new(&w->space, w->dedup);
        job->pool = chunkpool_new(chunks, w->cluster_bits, w->options.compress,
                                  w->options.zstd_level, w->seed, w->dedup);
        if (!job->placer || !job->pool)
                return err_set(e, ENOMEM, "place guest memory");
        rc = crew_run(threads, worker, job, e);
        return rc < 0 ? rc : finish(job, e);
}

int qs_writer_ram(struct qs_writer *w, const struct qs_ram_range *ranges, size_t n,
                  const struct qs_ram_source *source, qs_progress_fn *progress,
                  void *progress_ctx, struct err *e)
{
        int rc = check_ranges(w, ranges, n, e);

        ASSERT(!w->ram_done && !w->published);
        if (rc < 0)
                return rc;

        struct ram_job job = {
                .w = w, .ranges = ranges, .n_ranges = n, .source = source,
                .progress = progress, .progress_ctx = progress_ctx,
                .in_progress = ATOMIC_FLAG_INIT,
        };

        rc = ramplan_init(&job.plan, w, ranges, n, e);
        if (rc == 0)
                rc = save_all(&job, e);
        chunkpool_free(job.pool);
        placer_free(job.placer);
        ramplan_fini(&job.plan);
        if (!w->pool && !w->into)       /* else its fresh contents go into the index */
                dedup_free(ptr_take(&w->dedup));
        return rc;
}
