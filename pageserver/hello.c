/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/hello.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/fdpass.h"
#include "pageserver/attach.h"
#include "pageserver/chan.h"
#include "pageserver/opening.h"

/* a message whose image is being opened: the session's peer_state */
struct hello {
        struct psmsg_hello m;
        size_t n;
        int fds[FDPASS_FDS_MAX];        /* as they came; -1 = taken */
        struct opening *opening;
        struct opened opened;
};

/* ---- when the image is open ------------------------------------------------ */

static int open_shared(struct session *s, struct hello *h, struct err *e)
{
        struct cache_list *list = &s->host->caches;
        struct psmsg_hello_at at = psmsg_hello_at(&h->m);
        struct source **own = &h->opened.source;
        int rc;

        if (h->m.has_cache)
                rc = cache_adopt(list, s->uid, own, h->fds[at.cache], h->fds[at.filled],
                                 &s->cache, e);
        else if (h->m.has_map)
                rc = cache_rejoin(list, s->uid, own, h->fds[at.map], &s->cache, e);
        else
                rc = cache_get(list, s->uid, own, &s->cache, e);
        if (rc < 0)
                return rc;
        s->source = cache_source(s->cache);
        s->map = cache_map(s->cache);
        return 0;
}

static int open_copy(struct session *s, struct hello *h, struct err *e)
{
        s->source = ptr_take(&h->opened.source);
        return session_open_map(s, h->m.page_bytes, e);
}

/* What the image cache cannot do: it has small pages, and a page that is given back
 * would be the image's again; and what another client has filled nobody sees touched. */
static const char *needs_copy(const struct psmsg_hello *h)
{
        if (h->page_bytes != PSMSG_PAGE_SMALL)
                return "huge pages need the copy lane";
        if (h->record)
                return "recording needs the copy lane";
        return h->removes ? "memory that gives pages back needs the copy lane" : NULL;
}

static bool wants_copy(const struct psmsg_hello *h)
{
        return h->lane == PSMSG_LANE_COPY || needs_copy(h);
}

static int open_lane(struct session *s, struct hello *h, struct err *e)
{
        if (wants_copy(&h->m))
                return open_copy(s, h, e);

        int rc = open_shared(s, h, e);

        if (rc != -ENOTSUP || h->m.lane != PSMSG_LANE_AUTO || h->m.has_cache)
                return rc;
        log_line(&s->host->log, "client %u: %s", s->id, e->text);
        return open_copy(s, h, e);
}

static int send_welcome(struct session *s, struct err *e)
{
        struct psmsg m = {
                .type = PSMSG_WELCOME,
                .welcome = {
                        .lane = s->cache ? PSMSG_LANE_SHARED : PSMSG_LANE_COPY,
                        .has_map = s->cache,
                        .has_cache = s->cache && s->host->is_private,
                        .has_removed = s->removed,
                        .cluster_bytes = 1u << s->cluster_bits,
                        .disk_bytes = source_info(s->source)->disk_bytes,
                },
        };
        int fds[4];
        unsigned n = 0;

        if (m.welcome.has_map)
                fds[n++] = cache_map_fd(s->cache);
        if (m.welcome.has_cache) {
                fds[n++] = cache_fd(s->cache);
                fds[n++] = cache_filled_fd(s->cache);
        }
        if (m.welcome.has_removed)
                fds[n++] = removed_fd(s->removed);

        int rc = chan_send(s->sock, &m, fds);

        return rc < 0 ? err_set(e, -rc, "cannot answer") : 0;
}

static int describe(struct session *s, const struct psmsg_hello *h, const int *fds,
                    struct err *e)
{
        int at = psmsg_hello_at(h).removed;
        const struct session_memory m = {
                .path = h->path, .page_bytes = h->page_bytes, .removes = h->removes,
                .removed_fd = at < 0 ? -1 : fds[at], .record = h->record,
        };

        return session_describe(s, &m, e);
}

static void keep_working_set(struct session *s, struct opened *opened)
{
        if (opened->set_err.code < 0)
                log_line(&s->host->log, "client %u goes without a working set: %s", s->id,
                         opened->set_err.text);
        s->working_set = ptr_take(&opened->set);
        s->working_set_n = opened->set_n;
}

static int welcome(struct session *s, struct hello *h, struct err *e)
{
        int rc = open_lane(s, h, e);

        if (rc == 0)
                rc = describe(s, &h->m, h->fds, e);
        if (rc < 0)
                return rc;
        keep_working_set(s, &h->opened);
        s->asked_rate = h->m.prefetch_rate;
        s->hold_percent = h->m.hold_percent;
        rc = send_welcome(s, e);
        if (rc < 0)
                return rc;
        atomic_store(&s->state, SESSION_WELCOMED);
        log_note(&s->host->log, "client %u: image '%s', tag '%s', %s lane", s->id, h->m.path,
                 source_info(s->source)->tag, s->cache ? "shared" : "copy");
        return 0;
}

int hello_go_on(struct session *s, struct err *e)
{
        struct hello *h = s->peer_state;
        int rc = opening_take(h->opening, &h->opened, e);

        if (rc == 0)
                rc = welcome(s, h, e);
        if (rc != -EAGAIN)
                hello_end(s);
        return rc;
}

void hello_end(struct session *s)
{
        struct hello *h = ptr_take(&s->peer_state);

        if (!h)
                return;
        opening_end(h->opening);
        opened_let_go(&h->opened, s->host);
        for (size_t i = 0; i < h->n; i++)
                fd_close(&h->fds[i]);
        free(h);
}

/* ---- the message ------------------------------------------------------------- */

static int check(const struct session *s, const struct psmsg_hello *h, struct err *e)
{
        const char *why = needs_copy(h);

        if (session_state(s) != SESSION_HELLO)
                return err_msg(e, EPROTO, "a second hello");
        if (h->has_cache && !s->host->is_private)
                return err_msg(e, EINVAL, "an image cache is taken over by a private server only: "
                               "ask for the copy lane");
        if (h->has_cache && h->lane == PSMSG_LANE_COPY)
                return err_msg(e, EINVAL, "the copy lane has no use for an image cache");
        if (why && h->lane == PSMSG_LANE_SHARED)
                return err_msg(e, EINVAL, "%s", why);
        return 0;
}

static int begin_opening(struct session *s, struct hello *h, struct err *e)
{
        const struct source_files files = {
                .n = h->m.nimages, .path = h->m.path, .tag = h->m.tag,
        };

        s->path = strdup(h->m.path);
        if (!s->path)
                return err_set(e, ENOMEM, "image path");
        return opening_start(s->host, h->fds, &files, &h->opening, e);
}

int hello_begin(struct session *s, const struct psmsg_hello *m, int *fds, struct err *e)
{
        int rc = check(s, m, e);

        if (rc < 0)
                return rc;

        struct hello *h = calloc(1, sizeof(*h));
        const struct psmsg all = { .type = PSMSG_HELLO, .hello = *m };

        if (!h)
                return err_set(e, ENOMEM, "client");
        h->m = *m;
        h->n = psmsg_fds(&all);
        for (size_t i = 0; i < h->n; i++)
                h->fds[i] = fd_take(&fds[i]);
        s->peer_state = h;
        rc = begin_opening(s, h, e);
        if (rc < 0)
                hello_end(s);
        return rc;
}
