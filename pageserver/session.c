/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/session.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/attach.h"

/* of Linux 6.5; older headers lack it */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* The kernel's own answer, where it gives one: by its number a process that has ended
 * could be taken for another. */
static int open_pidfd(int sock, pid_t pid)
{
        int pidfd;
        socklen_t len = sizeof(pidfd);

        if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0)
                return pidfd;
        return errno == ENOPROTOOPT ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

struct peer_process session_peer_process(int sock)
{
        struct peer_process p = { .pid = 0, .uid = (uid_t)-1, .pidfd = -1 };
        struct ucred cred;
        socklen_t len = sizeof(cred);

        if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
                return p;
        p.pid = MAX(cred.pid, 0);
        p.uid = cred.uid;
        if (cred.pid > 0)
                p.pidfd = open_pidfd(sock, cred.pid);
        return p;
}

int session_new(struct session_host *host, int *sock, unsigned id, struct session **ret,
                struct err *e)
{
        struct session *s = calloc(1, sizeof(*s));

        if (!s)
                return err_set(e, ENOMEM, "session");
        s->host = host;
        s->id = id;
        s->sock = fd_take(sock);

        struct peer_process p = session_peer_process(s->sock);

        s->pid = p.pid;
        s->uid = p.uid;
        s->pidfd = p.pidfd;
        readers_init(&s->readers);
        outbox_init(&s->outbox);
        *ret = s;
        return 0;
}

void session_free(struct session *s)
{
        if (!s)
                return;
        ASSERT(session_released(s));            /* INV-QUIET */
        session_sum_add(&s->host->gone, s);
        if (s->map)
                fillmap_forget(s->map, s);
        if (s->cache) {
                cache_put(&s->host->caches, s->cache);
        } else {
                fillmap_free(s->map);
                if (!s->source_lent)
                        source_let_go(s->source, s->host);
        }
        for (unsigned i = 0; i < s->nuffds; i++)
                fd_close(&s->uffd[i]);
        readers_fini(&s->readers);
        fd_close(&s->sock);
        fd_close(&s->pidfd);
        regions_free(s->regions);
        removed_free(s->removed);
        free(s->path);
        free(s->working_set);
        prefetch_fini(&s->prefetch);
        record_fini(&s->record);
        bits_fini(&s->zeroed);
        bits_fini(&s->bad);
        outbox_fini(&s->outbox);
        free(s);
}

void session_sum_add(struct session_sum *sum, const struct session *s)
{
        const struct session_counters *c = &s->count;
        struct histogram_view v;

        sum->demand_faults += atomic_load(&c->demand_faults);
        sum->demand_bytes += atomic_load(&c->demand_bytes);
        sum->prefetch_bytes += atomic_load(&c->prefetch_bytes);
        sum->zero_bytes += atomic_load(&c->zero_bytes);
        histogram_read(&c->demand_ns, &v);
        histogram_view_add(&sum->demand, &v);
        histogram_read(&c->prefetch_ns, &v);
        histogram_view_add(&sum->prefetch, &v);
}

enum session_state session_state(const struct session *s)
{
        return atomic_load(&s->state);
}

unsigned session_id(const struct session *s)
{
        return s->id;
}

const char *session_path(const struct session *s)
{
        return s->path;
}

int session_pidfd(const struct session *s)
{
        return s->pidfd;
}

void session_hang_up(struct session *s)
{
        s->hung_up = true;
        if (session_state(s) != SESSION_SERVING)
                return;
        atomic_store(&s->state, SESSION_DRAINING);
        if (readers_hung_up(&s->readers))
                session_wake_all(s);
}

void session_close_socket(struct session *s)
{
        ASSERT(s->hung_up);
        fd_close(&s->sock);
}

bool session_client_dead(const struct session *s)
{
        struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

        return s->pidfd < 0 || poll(&p, 1, 0) > 0;
}

void session_host_ring(struct session_host *host)
{
        uint64_t one = 1;

        if (atomic_load(&host->resting) >= host->threads - host->workers)
                io_write_full(host->bell_fd, &one, sizeof(one));
}

/* Userfaultfds are dealt over the workers, beginning with one that the session's
 * number says; of fewer than there are workers each has several readers. */
struct feed *session_feed(struct session *s, unsigned worker, enum readers_poll what, unsigned i)
{
        unsigned workers = s->host->workers;

        if (what == POLL_LEASE)
                return i == 0 ? &s->readers.feed : NULL;
        if (s->host->pinned)
                return i < s->nuffds ? &s->feed[i] : NULL;

        unsigned first = (worker + workers - s->id % workers) % workers;

        if (s->nuffds < workers)
                return i == 0 ? &s->feed[first % s->nuffds] : NULL;

        unsigned at = first + i * workers;

        return at < s->nuffds ? &s->feed[at] : NULL;
}

struct readers *session_readers(struct session *s)
{
        return &s->readers;
}

void session_lease_ended(struct session *s)
{
        if (readers_end(&s->readers))
                s->host->poke(s->host);
}

void session_protected(struct session *s, int uffd, uint64_t hva)
{
        uint64_t page = ALIGN_DOWN(hva, (uint64_t)s->page_bytes);

        if (session_state(s) == SESSION_DRAINING && session_client_dead(s))
                (void)uffd_protect(uffd, page, s->page_bytes, false);
        else
                (void)uffd_wake(uffd, page, s->page_bytes);
}

void session_feed_broken(struct session *s, int rc)
{
        atomic_store(&s->feed_error, rc);
        s->host->poke(s->host);
}

enum withheld session_withheld(const struct session *s)
{
        return atomic_load_explicit(&s->withheld, memory_order_relaxed);
}

void session_withhold(struct session *s, enum withheld why)
{
        atomic_store(&s->withheld, why);
}

void session_hold(struct session *s)
{
        atomic_fetch_add(&s->holders, 1);
}

/* The main thread may look, and free it, as soon as the last has let go. */
void session_release(struct session *s)
{
        struct session_host *host = s->host;
        unsigned before = atomic_fetch_sub(&s->holders, 1);

        ASSERT(before > 0);
        if (before == 1)
                host->poke(host);
}

bool session_released(const struct session *s)
{
        return atomic_load(&s->holders) == 0;
}

static bool present(const struct session *s, uint64_t unit)
{
        return fillmap_filled(s->map, unit) || bits_test(&s->zeroed, unit);
}

static uint64_t present_in(const struct session *s, const struct psmsg_region *g)
{
        const struct bits *maps[] = { fillmap_bits(s->map), &s->zeroed };
        uint64_t bytes = session_unit_bytes(s);
        uint64_t first = g->gpa >> s->unit_bits;
        uint64_t last = (g->gpa + g->bytes - 1) >> s->unit_bits;
        uint64_t sum = bits_count_any(maps, ARRAY_SIZE(maps), first, last + 1) * bytes;

        /* the parts of the outer units that lie outside; a unit may become
         * present between the looks */
        if (present(s, first))
                sum -= MIN(sum, g->gpa - first * bytes);
        if (present(s, last))
                sum -= MIN(sum, (last + 1) * bytes - (g->gpa + g->bytes));
        return sum;
}

uint64_t session_present_bytes(const struct session *s)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < regions_count(s->regions); i++)
                sum += present_in(s, regions_at(s->regions, i));
        return sum;
}

uint64_t session_rate(const struct session *s, uint64_t asked)
{
        return MIN(asked, s->host->prefetch_limit);
}

/* The main thread may order another rate meanwhile: it changes asked_rate first. */
static void apply_asked_rate(struct session *s)
{
        uint64_t asked;

        do {
                asked = atomic_load(&s->asked_rate);
                prefetch_rate(&s->prefetch, session_rate(s, asked));
        } while (asked != atomic_load(&s->asked_rate));
}

void session_hold_done(struct session *s)
{
        if (!atomic_exchange(&s->holding, false))
                return;
        apply_asked_rate(s);
        outbox_put(&s->outbox, PSMSG_ATTACHED);
        s->host->poke(s->host);
}

int session_order_prefetch(struct session *s, const struct rate_order *o, struct err *e)
{
        if (session_state(s) != SESSION_SERVING)
                return err_msg(e, EBUSY, "client %u is not being served", s->id);
        if (o->what == RATE_SET) {
                atomic_store(&s->asked_rate, o->rate);
                /* what is held back loads at full speed until then */
                if (!atomic_load(&s->holding))
                        apply_asked_rate(s);
        }
        prefetch_pause(&s->prefetch, o->what == RATE_PAUSE);
        prefetch_restart(&s->prefetch);
        return 0;
}
