/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/workingset.h"

/* Someone else's descriptors: each must be a userfaultfd that works, and reading
 * it must not block a worker. */
static int check_uffd(int fd, unsigned i, struct err *e)
{
        if (!uffd_is(fd))
                return err_msg(e, EINVAL, "descriptor %u is no userfaultfd", i);
        if (!uffd_is_ready(fd))
                return err_msg(e, EINVAL, "userfaultfd %u was not set up (UFFDIO_API)", i);

        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return err_set(e, errno, "cannot make userfaultfd %u non-blocking", i);
        return 0;
}

static int take_uffds(struct session *s, unsigned n, int *fds, struct err *e)
{
        for (unsigned i = 0; i < n; i++) {
                int rc = check_uffd(fds[i], i, e);

                if (rc < 0)
                        return rc;
        }
        for (unsigned i = 0; i < n; i++) {
                s->uffd[i] = fd_take(&fds[i]);
                s->feed[i] = (struct feed){
                        .ops = &feed_uffd, .fd = s->uffd[i], .regions = s->regions,
                        .removed = s->removed, .session = s,
                };
        }
        s->nuffds = n;
        return 0;
}

/* One span of units per region; a unit on a border belongs to two. Where first touches
 * are noted, fault-around would hide them. */
static int start_prefetch(struct session *s, uint64_t rate)
{
        struct prefetch_span span[PSMSG_REGIONS_MAX];
        size_t n = regions_count(s->regions);

        for (size_t i = 0; i < n; i++) {
                const struct psmsg_region *g = regions_at(s->regions, i);

                span[i].first = g->gpa >> s->unit_bits;
                span[i].end = ((g->gpa + g->bytes - 1) >> s->unit_bits) + 1;
        }

        const struct prefetch_options o = {
                .span = span, .spans = n, .unit_bytes = session_unit_bytes(s),
                .around_bytes = s->recording ? 0 : s->host->around_bytes, .rate = rate,
        };

        return prefetch_init(&s->prefetch, &o);
}

/* Prefetch goes by what was wanted first the last time, if the image says so. */
static int use_working_set(struct session *s)
{
        AUTO_FREE struct qs_ram_range *set = ptr_take(&s->working_set);
        AUTO_FREE struct prefetch_span *first = NULL;
        size_t n = s->working_set_n;

        if (!set || s->recording)
                return 0;

        int rc = workingset_spans(set, n, s->regions, s->unit_bits, &first, &n);

        return rc < 0 ? rc : prefetch_first(&s->prefetch, first, n);
}

static int make_tables(struct session *s, const struct psmsg_attach *a, struct err *e)
{
        int rc = regions_new(a, source_info(s->source)->disk_bytes, s->page_bytes,
                             &s->regions, e);

        if (rc < 0)
                return rc;
        s->total_bytes = regions_bytes(s->regions);

        /* while attaching is held back, loading is what the client waits for */
        uint64_t rate = session_rate(s, s->hold_percent ? UINT64_MAX : s->asked_rate);

        if (bits_init(&s->zeroed, s->units) < 0 || bits_init(&s->bad, s->units) < 0 ||
            (s->recording && record_init(&s->record, s->units) < 0) ||
            start_prefetch(s, rate) < 0 || use_working_set(s) < 0)
                return err_set(e, ENOMEM, "session tables");
        return 0;
}

void session_wake_all(struct session *s)
{
        sink_wake(&s->sink, 0, UINT64_MAX);
}

int session_open_map(struct session *s, uint32_t page_bytes, struct err *e)
{
        unsigned page_bits = (unsigned)__builtin_ctz(page_bytes);
        struct fillmap_ident ident = source_ident(s->source);

        if (page_bits > ident.cluster_bits) {
                ident.clusters = DIV_ROUND_UP(ident.clusters << ident.cluster_bits, page_bytes);
                ident.cluster_bits = page_bits;
        }
        return fillmap_open(&ident, -1, &s->map, e);
}

int session_describe(struct session *s, const struct session_memory *m, struct err *e)
{
        unsigned page_bits = (unsigned)__builtin_ctz(m->page_bytes);

        s->page_bytes = m->page_bytes;
        s->recording = m->record;
        s->cluster_bits = source_info(s->source)->cluster_bits;
        s->clusters = source_ident(s->source).clusters;
        s->unit_bits = MAX(s->cluster_bits, page_bits);
        s->units = DIV_ROUND_UP(s->clusters << s->cluster_bits, 1ull << s->unit_bits);
        if (!s->path)
                s->path = strdup(m->path);
        if (!s->path)
                return err_set(e, ENOMEM, "image path");
        if (!m->removes)
                return 0;
        s->removed_is_new = m->removed_fd < 0;
        return removed_open(s->units << (s->unit_bits - page_bits), page_bits, m->removed_fd,
                            &s->removed, e);
}

int session_attach(struct session *s, const struct psmsg_attach *a, int *fds, struct err *e)
{
        /* INV-REMOVED: the image's bytes would come back */
        if (a->reattach && s->removed && s->removed_is_new)
                return err_msg(e, EINVAL, "a client that gives memory back attaches again "
                               "without its removed map: hand over that of the last server");

        int rc = make_tables(s, a, e);

        if (rc == 0)
                rc = take_uffds(s, a->nuffds, fds, e);
        if (rc < 0)
                return rc;
        s->sink = (struct sink){
                .ops = s->cache ? &sink_memfd : &sink_uffd,
                .regions = s->regions,
                .uffds = s->uffd,
                .page_bytes = s->page_bytes,
                .removed = s->removed,
                .cache_fd = s->cache ? cache_fd(s->cache) : -1,
                .alias = s->cache ? cache_alias(s->cache) : NULL,
        };
        if (s->removed && !s->removed_is_new)
                removed_replay(s->removed, s->regions);
        atomic_store(&s->count.attached_ns, clock_now_ns());
        atomic_store(&s->holding, true);
        atomic_store(&s->state, SESSION_SERVING);
        if (s->hold_percent == 0 || s->host->prefetch_limit == 0)
                session_hold_done(s);
        if (a->reattach)
                session_wake_all(s);            /* INV-REATTACH */
        log_note(&s->host->log, "client %u: %llu MiB in %u regions on %u userfaultfds%s", s->id,
                 (unsigned long long)s->total_bytes >> 20, a->nregions, a->nuffds,
                 a->reattach ? ", again" : "");
        return 0;
}
