/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * Firecracker connects when it loads a snapshot, sends its regions as JSON with its
 * userfaultfd, and says nothing more; nobody answers. From then on faults are served.
 *
 * HELLO    bytes are gathered until they are a whole message and the userfaultfd is
 *          there, which may come in pieces; then SERVING or refused
 * SERVING  the socket means nothing any more: versions before 1.12 close it at once,
 *          later ones keep it until they end, so its end only makes us look. The end is
 *          told by a pidfd, or, of a process that cannot be seen from here, by asking
 *          the userfaultfd each second
 *
 * Firecracker cannot be told of anything. One that is refused hangs at its next missing
 * page, for it keeps a userfaultfd of its own: so it is left or killed, as the offer
 * says. Whoever connected and sent nothing is never killed: it may have been somebody
 * who only asked whether we live (INV-STALE).
 *
 * A thread that waits for a page that cannot be had is woken every second and faults
 * anew; what nobody waits for is left alone longer.
 */
#include "pageserver/peer-firecracker.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/fdpass.h"
#include "pageserver/attach.h"
#include "pageserver/fcstay.h"

/* More than any real handshake has bytes; one that is sent byte by byte is read again
 * with each that may be its last. */
#define HELLO_PIECES_MAX 4096
#define PREFETCH_RETRY_TICKS 30

struct fc_peer {
        const struct fc_offer *offer;
        enum fc_on_bad on_bad;          /* the offer's, or what this kernel can do of it */
        int uffd;                       /* until it is attached */
        char *text;                     /* the handshake so far, until it is attached */
        size_t bytes;
        unsigned pieces;
        uint64_t stay_key;              /* in the descriptor store; 0 = not there */
        bool waits;                     /* a thread, for what could not be had */
        unsigned ticks;
};

static struct fc_peer *peer_of(const struct session *s)
{
        return s->peer_state;
}

static int begin(struct session *s, const void *offer, struct err *e)
{
        struct fc_peer *p = calloc(1, sizeof(*p));

        if (!p)
                return err_set(e, ENOMEM, "client");
        p->offer = offer;
        p->on_bad = p->offer->on_bad;
        p->uffd = -1;
        /* one more: what is too long is then seen as such */
        p->text = malloc(FC_HELLO_BYTES_MAX + 1);
        s->peer_state = p;
        return p->text ? 0 : err_set(e, ENOMEM, "client");
}

static void end(struct session *s)
{
        struct fc_peer *p = peer_of(s);

        if (!p)
                return;
        fcstay_drop(s->host->caches.store, p->stay_key);
        fd_close(&p->uffd);
        free(p->text);
        free(p);
        s->peer_state = NULL;
}

/* ---- refusal ------------------------------------------------------------- */

static int kill_process(int pidfd)
{
        return (int)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

static void kill_client(struct session *s)
{
        if (s->pidfd < 0)
                log_line(&s->host->log, "client %u: cannot be killed: its process is not of this "
                         "pid namespace", s->id);
        else if (kill_process(s->pidfd) == 0)
                log_line(&s->host->log, "client %u: killed process %d", s->id, (int)s->pid);
        else if (errno != ESRCH)
                log_line(&s->host->log, "client %u: cannot kill process %d: %s", s->id,
                         (int)s->pid, strerror(errno));
}

static void refuse(struct session *s, const struct err *e)
{
        const struct fc_peer *p = peer_of(s);
        bool said_something = p->pieces > 0;
        bool kills = p->offer->kill_on_error && said_something;

        log_line(&s->host->log, "client %u of '%s': %s%s", s->id, fcimage_path(p->offer->image),
                 e->text, said_something && !kills ? ": it hangs at a missing page, end it" : "");
        if (kills)
                kill_client(s);
        session_hang_up(s);
}

static enum peer refused(struct session *s, const struct err *e)
{
        refuse(s, e);
        return PEER_CLOSED;
}

static void turn_away(int sock, const void *offer, const struct err *e)
{
        const struct fc_offer *o = offer;

        (void)e;
        if (!o->kill_on_error)
                return;

        AUTO_FD pidfd = session_peer_process(sock).pidfd;

        if (pidfd >= 0)
                kill_process(pidfd);
}

/* ---- HELLO --------------------------------------------------------------- */

static int hung_up_early(const struct fc_peer *p, struct err *e)
{
        if (p->bytes == 0)
                return err_msg(e, EPIPE, "hung up without a handshake");
        return err_msg(e, EPIPE, "hung up after %zu bytes of its handshake, %s userfaultfd",
                       p->bytes, p->uffd < 0 ? "without a" : "with its");
}

static int take_fd(struct fc_peer *p, int *fds, size_t n, struct err *e)
{
        if (n == 0)
                return 0;
        if (n == 1 && p->uffd < 0) {
                p->uffd = fds[0];
                return 0;
        }
        for (size_t i = 0; i < n; i++)
                close(fds[i]);
        return err_msg(e, EBADMSG, "more than one descriptor came with the handshake");
}

/* -EAGAIN: nothing there */
static int take_piece(struct session *s, struct fc_peer *p, struct err *e)
{
        int fds[FDPASS_FDS_MAX];
        size_t nfds;
        ssize_t n = fdpass_recv(s->sock, p->text + p->bytes, FC_HELLO_BYTES_MAX + 1 - p->bytes,
                                fds, FDPASS_FDS_MAX, &nfds);

        if (n == 0 || n == -ECONNRESET)
                return hung_up_early(p, e);
        if (n == -EMSGSIZE) {
                p->pieces++;
                return err_msg(e, EBADMSG, "its descriptors cannot be received: more than one "
                               "were sent, or the page server has as many open as it may");
        }
        if (n < 0)
                return n == -EAGAIN ? -EAGAIN : err_set(e, (int)-n, "cannot read the handshake");
        p->bytes += (size_t)n;
        p->pieces++;
        return take_fd(p, fds, nfds, e);
}

/* Only what may be whole is worth a look, and the first piece, to refuse early. */
static bool worth_parsing(const struct fc_peer *p)
{
        return p->pieces == 1 || p->bytes > FC_HELLO_BYTES_MAX ||
               memchr("] \t\r\n", p->text[p->bytes - 1], 5);
}

/* 0, -EAGAIN: there is more to come, or an error */
static int parse(struct fc_peer *p, struct fc_region region[FC_REGIONS_MAX], size_t *ret_n,
                 struct err *e)
{
        int rc = worth_parsing(p) ? fc_hello_parse(p->text, p->bytes, region, ret_n, e) : -EAGAIN;

        if (rc == 0 && p->uffd < 0)
                rc = -EAGAIN;
        if (rc == -EAGAIN && p->pieces == HELLO_PIECES_MAX)
                return err_msg(e, EBADMSG, "no handshake within %u pieces", HELLO_PIECES_MAX);
        return rc;
}

/* removed_fd: of the process before, or -1 */
static int attach(struct session *s, struct fc_peer *p, const struct psmsg_attach *a,
                  uint32_t page_bytes, int removed_fd, struct err *e)
{
        const struct fcimage *im = p->offer->image;
        const struct session_memory memory = {
                .path = fcimage_path(im), .page_bytes = page_bytes, .removes = true,
                .removed_fd = removed_fd,
        };
        int rc;

        s->source = fcimage_source(im);
        s->source_lent = true;
        if (fcimage_working_set(im, &s->working_set, &s->working_set_n) < 0)
                return err_set(e, ENOMEM, "working set");
        s->asked_rate = PREFETCH_UNLIMITED;
        rc = session_open_map(s, memory.page_bytes, e);
        if (rc == 0)
                rc = session_describe(s, &memory, e);
        if (rc == 0)
                rc = session_attach(s, a, &p->uffd, e);
        return rc;
}

/* Before the first fault is served. A guest that cannot be put away is served all the
 * same. */
static void put_away(struct session *s, struct fc_peer *p, const struct psmsg_attach *a)
{
        const struct fcstay stay = {
                .attach = *a, .page_bytes = s->page_bytes, .pid = s->pid, .uid = s->uid,
                .image = source_ident(s->source), .table_fd = -1, .uffd = s->uffd[0],
                .removed_fd = removed_fd(s->removed), .pidfd = s->pidfd,
        };
        struct err e;

        if (fcstay_put(s->host->caches.store, &stay, &p->stay_key, &e) < 0)
                log_line(&s->host->log, "client %u: it will not outlive this process: %s", s->id,
                         e.text);
}

static int begin_serving(struct session *s, struct fc_peer *p, const struct fc_region *region,
                         size_t n, struct err *e)
{
        struct psmsg_attach a;
        int rc = fcimage_place(p->offer->image, region, n, &a, e);

        if (rc == 0)
                rc = attach(s, p, &a, region[0].page_bytes, -1, e);
        if (rc == 0)
                put_away(s, p, &a);
        return rc;
}

static int resume(struct session *s, void *arg, struct err *e)
{
        struct fc_peer *p = peer_of(s);
        struct fcstay *stay = arg;
        int rc;

        s->pid = stay->pid;
        s->uid = stay->uid;
        s->pidfd = fd_take(&stay->pidfd);
        p->uffd = fd_take(&stay->uffd);
        rc = attach(s, p, &stay->attach, stay->page_bytes, stay->removed_fd, e);
        if (rc < 0)
                return rc;
        p->stay_key = stay->key;
        free(ptr_take(&p->text));
        log_note(&s->host->log, "client %u: Firecracker, process %d, image '%s', again", s->id,
                 (int)s->pid, fcimage_path(p->offer->image));
        return 0;
}

static enum peer hello(struct session *s, struct fc_peer *p)
{
        struct fc_region region[FC_REGIONS_MAX];
        struct err e;
        size_t n;
        int rc = take_piece(s, p, &e);

        if (rc == 0)
                rc = parse(p, region, &n, &e);
        if (rc == -EAGAIN)
                return PEER_OK;
        if (rc == 0)
                rc = begin_serving(s, p, region, n, &e);
        if (rc < 0)
                return refused(s, &e);
        free(ptr_take(&p->text));
        log_note(&s->host->log, "client %u: Firecracker, process %d, image '%s'", s->id,
                 (int)s->pid, fcimage_path(p->offer->image));
        return PEER_ATTACHED;
}

/* ---- SERVING ------------------------------------------------------------- */

static bool gone(const struct session *s)
{
        return (s->pidfd >= 0 && session_client_dead(s)) || uffd_memory_gone(s->uffd[0]);
}

/* What comes behind a handshake is not read beyond the first of it, so that nobody
 * keeps us busy; descriptors with it are dropped by the kernel. */
static enum peer after_hello(struct session *s)
{
        char junk[64];
        ssize_t n = recv(s->sock, junk, sizeof(junk), 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return PEER_OK;
        if (n > 0) {
                log_line(&s->host->log, "client %u: sends more than a handshake: ignored", s->id);
                return PEER_DEAF;
        }
        if (!gone(s))
                return PEER_DEAF;
        session_hang_up(s);
        return PEER_CLOSED;
}

static enum peer input(struct session *s)
{
        return session_state(s) == SESSION_HELLO ? hello(s, peer_of(s)) : after_hello(s);
}

static enum uffd_result poison_page(const struct session *s, uint64_t gpa)
{
        struct piece piece;

        if (!regions_piece(s->regions, gpa, gpa + s->page_bytes, &piece))
                return UFFD_DONE;
        return uffd_poison(s->uffd[piece.uffd], piece.hva, piece.bytes);
}

/* Only this page: others of its cluster may have been given back, and this one may
 * have been since; it then is zeros (INV-REMOVED). */
static enum uffd_result poison(const struct session *s, uint64_t gpa)
{
        enum uffd_result r = UFFD_RETRY;

        if (!removed_trylock_shared(s->removed))
                return UFFD_RETRY;
        if (!removed_test(s->removed, gpa))
                r = poison_page(s, gpa);
        removed_unlock_shared(s->removed);
        return r;
}

static void poison_or_wait(struct session *s, struct fc_peer *p, uint64_t gpa)
{
        switch (poison(s, ALIGN_DOWN(gpa, s->page_bytes))) {
        case UFFD_DONE:
                log_line(&s->host->log, "client %u: page %#llx: poisoned", s->id,
                         (unsigned long long)gpa);
                break;
        case UFFD_FAILED:
                log_line(&s->host->log, "client %u: this kernel cannot poison pages (6.6 and "
                         "later can): its threads wait", s->id);
                p->on_bad = FC_BAD_WAIT;
                break;
        case UFFD_RETRY:
        case UFFD_GONE:
                break;
        }
}

/* The engine has logged why. Others may wait too, of which there was no room to tell:
 * hence the next tick in every case. */
static void bad_page(struct session *s, struct fc_peer *p, uint64_t gpa)
{
        p->waits = true;
        switch (p->on_bad) {
        case FC_BAD_WAIT:
                break;
        case FC_BAD_POISON:
                poison_or_wait(s, p, gpa);
                break;
        case FC_BAD_KILL:
                kill_client(s);
                break;
        }
}

static void resident(const struct session *s)
{
        uint64_t ns = atomic_load(&s->count.resident_ns) - atomic_load(&s->count.attached_ns);

        log_note(&s->host->log, "client %u: all in place after %llu ms", s->id,
                 (unsigned long long)(ns / NS_PER_MS));
}

static enum peer output(struct session *s, bool *ret_full)
{
        struct psmsg m;
        int feed_error = atomic_load(&s->feed_error);

        *ret_full = false;
        while (outbox_peek(&s->outbox, &m)) {
                if (m.type == PSMSG_BAD_PAGE)
                        bad_page(s, peer_of(s), m.bad_page.gpa);
                else if (m.type == PSMSG_RESIDENT)
                        resident(s);
                outbox_sent(&s->outbox, &m);
        }
        if (feed_error < 0) {
                struct err e;

                err_set(&e, -feed_error, "its userfaultfd cannot be served");
                return refused(s, &e);
        }
        return PEER_OK;
}

/* What prefetch found bad is tried again now and then; the log hears of it anew. */
static enum peer tick(struct session *s)
{
        struct fc_peer *p = peer_of(s);
        const struct bits *bad = &s->bad;

        if (s->pidfd < 0 && gone(s)) {
                session_hang_up(s);
                return PEER_CLOSED;
        }
        if (++p->ticks % PREFETCH_RETRY_TICKS == 0 && bits_count_any(&bad, 1, 0, s->units) > 0) {
                bits_clear_all(&s->bad);
                prefetch_restart(&s->prefetch);
        }
        if (p->waits) {
                p->waits = false;
                session_wake_all(s);
        }
        return PEER_OK;
}

const struct peer_ops peer_firecracker = {
        .sock_type = SOCK_STREAM,
        .begin = begin,
        .end = end,
        .resume = resume,
        .input = input,
        .output = output,
        .refuse = refuse,
        .tick = tick,
        .turn_away = turn_away,
};
