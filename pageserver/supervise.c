/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * One loop over two descriptors: signals, and notes from the server (fdstore.h). There
 * are at most two children.
 *
 *   serving   has the socket and what is kept. When it ends, another is started at once;
 *             if several in a row end within settled_ms of their start, each next one
 *             waits longer. The notes that a dead one sent are read before.
 *   next      during an upgrade: started with the socket and one end of a gate
 *             (keeper.h). Once it says READY serving is told to end; when serving is
 *             gone, told or not, all that is kept goes through the gate, then START, and
 *             next is serving. If it never says READY it is ended, and serving goes on.
 *
 * Between two servers clients wait in the socket's backlog, for the socket stays open.
 */
#include "pageserver/supervise.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/listen.h"
#include "pageserver/fdstore.h"
#include "pageserver/keeper.h"
#include "pageserver/kept.h"

/* Quick ends in a row that are taken for accidents. */
#define QUICK_ENDS 3
#define WAIT_FIRST_MS 100
#define WAIT_MOST_MS 5000
/* A server is up within milliseconds; this is for a machine that swaps. */
#define READY_SECONDS 10
/* It lingers for two seconds at most (server.c). */
#define END_SECONDS 10
/* a child that does not read its gate */
#define GATE_SECONDS 5

struct child {
        pid_t pid;                      /* 0 = none */
        uint64_t started_ns;
        bool ready;
        int gate;                       /* our end; -1 = none */
};

struct supervisor {
        const struct supervise_options *options;
        struct log log;
        struct listen_socket listener;
        struct kept kept;
        int signals;
        int notes;
        sigset_t caught;
        struct child serving;
        struct child next;
        bool was_ready;                 /* any of them */
        bool ending;
        int status;
        unsigned quick_ends;
        uint64_t start_ns;              /* when to start another; 0 = not wanted */
        uint64_t kill_ns;               /* when patience with an ending is over; 0 = none */
};

static uint64_t after_ms(uint64_t ms)
{
        return clock_now_ns() + ms * NS_PER_MS;
}

/* ---- children --------------------------------------------------------------------- */

/* does not return */
static void become_server(struct supervisor *s, int gate) __attribute__((noreturn));

static void become_server(struct supervisor *s, int gate)
{
        const struct kept none = { .of = NULL };
        struct kept_fd first[2];
        size_t n = 0;
        const struct supervise_options *o = s->options;
        struct err e;

        if (s->listener.fd >= 0)
                first[n++] = (struct kept_fd){ s->listener.fd, (char *)KEEPER_SOCKET };
        if (gate >= 0)
                first[n++] = (struct kept_fd){ gate, (char *)KEEPER_GATE };
        sigprocmask(SIG_UNBLOCK, &s->caught, NULL);
        /* INV-ONESERVER */
        int rc = kept_exec(gate < 0 ? &s->kept : &none, first, n, o->program, o->argv);

        err_set(&e, -rc, "cannot start '%s'", o->program);
        err_print("pageserver", &e);
        _exit(127);
}

static void start_child(struct supervisor *s, struct child *child, int gate)
{
        pid_t pid = fork();

        if (pid == 0)
                become_server(s, gate);
        if (pid < 0) {
                log_line(&s->log, "cannot fork: %s", strerror(errno));
                pid = 0;
        }
        *child = (struct child){ .pid = pid, .started_ns = clock_now_ns(), .gate = -1 };
}

static void start_serving(struct supervisor *s)
{
        s->start_ns = 0;
        start_child(s, &s->serving, -1);
        if (s->serving.pid == 0)
                s->start_ns = after_ms(WAIT_MOST_MS);
}

static void start_next(struct supervisor *s)
{
        struct timeval patience = { .tv_sec = GATE_SECONDS };
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
                log_line(&s->log, "cannot upgrade: %s", strerror(errno));
                return;
        }

        AUTO_FD ours = pair[0];
        AUTO_FD theirs = pair[1];

        setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        start_child(s, &s->next, theirs);
        if (s->next.pid > 0) {
                s->next.gate = fd_take(&ours);
                s->kill_ns = after_ms(READY_SECONDS * 1000);
        }
}

static void tell(const struct child *child, int sig)
{
        if (child->pid > 0)
                kill(child->pid, sig);
}

/* ---- notes ------------------------------------------------------------------------ */

static void is_ready(struct supervisor *s, struct child *child)
{
        child->ready = s->was_ready = true;
        if (child != &s->next)
                return;
        log_note(&s->log, "server %d is ready to follow %d", (int)child->pid,
                 (int)s->serving.pid);
        tell(&s->serving, SIGTERM);
        s->kill_ns = after_ms(END_SECONDS * 1000);
}

static void take_note(struct supervisor *s, struct child *child, const struct fdnote *note,
                      int *fd)
{
        if (note->remove)
                kept_remove(&s->kept, note->name);
        if (note->store && *fd >= 0) {
                int rc = kept_add(&s->kept, note->name, fd);

                if (rc < 0)
                        log_line(&s->log, "cannot keep '%s': %s", note->name, strerror(-rc));
        }
        if (note->ready)
                is_ready(s, child);
}

/* Anyone on this host may write there: the kernel says who did. */
static void take_notes(struct supervisor *s)
{
        struct fdnote note;
        int fd, pid, rc;

        while ((rc = fdstore_receive(s->notes, &note, &fd, &pid)) == 0 || rc == -EBADMSG) {
                if (rc < 0)
                        continue;
                if (pid > 0 && pid == s->serving.pid)
                        take_note(s, &s->serving, &note, &fd);
                else if (pid > 0 && pid == s->next.pid)
                        take_note(s, &s->next, &note, &fd);
                fd_close(&fd);
        }
}

/* ---- ends of children ------------------------------------------------------------------ */

static int pass_gate(struct supervisor *s)
{
        struct fdnote start = { .start = true };
        int rc = 0;

        for (size_t i = 0; i < s->kept.n && rc == 0; i++) {
                struct fdnote note = { .store = true };

                strcpy(note.name, s->kept.of[i].name);
                rc = fdstore_send(s->next.gate, &note, s->kept.of[i].fd);
        }
        return rc < 0 ? rc : fdstore_send(s->next.gate, &start, -1);
}

/* One that does not take what it is given is ended, and followed as any other. */
static void promote_next(struct supervisor *s)
{
        int rc = pass_gate(s);

        fd_close(&s->next.gate);
        s->serving = s->next;
        s->next = (struct child){ .gate = -1 };
        s->kill_ns = 0;
        if (rc == 0)
                return;
        log_line(&s->log, "server %d does not take over: %s", (int)s->serving.pid, strerror(-rc));
        tell(&s->serving, SIGKILL);
}

/* when another may be started: at once, unless they end as soon as they begin */
static uint64_t next_start(struct supervisor *s)
{
        uint64_t lived_ns = clock_now_ns() - s->serving.started_ns;
        uint64_t wait_ms = 0;

        s->quick_ends = lived_ns < s->options->settled_ms * NS_PER_MS ? s->quick_ends + 1 : 0;
        if (s->quick_ends > QUICK_ENDS)
                wait_ms = (uint64_t)WAIT_FIRST_MS << MIN(s->quick_ends - QUICK_ENDS - 1, 16u);
        return after_ms(MIN(wait_ms, WAIT_MOST_MS));
}

static void describe(int status, char *buf, size_t room)
{
        if (WIFSIGNALED(status))
                snprintf(buf, room, "was killed by signal %d", WTERMSIG(status));
        else
                snprintf(buf, room, "ended with status %d", WEXITSTATUS(status));
}

static void serving_ended(struct supervisor *s, int status)
{
        char how[64];

        describe(status, how, sizeof(how));
        if (s->ending) {
                s->serving.pid = 0;
        } else if (s->next.pid > 0) {
                log_note(&s->log, "server %d %s, %d follows", (int)s->serving.pid, how,
                         (int)s->next.pid);
                promote_next(s);
        } else if (!s->was_ready) {
                s->status = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
                s->serving.pid = 0;
                s->ending = true;
        } else {
                log_line(&s->log, "server %d %s: another is started", (int)s->serving.pid, how);
                s->start_ns = next_start(s);
                s->serving.pid = 0;
        }
}

static void next_ended(struct supervisor *s, int status)
{
        char how[64];

        describe(status, how, sizeof(how));
        if (!s->ending)
                log_line(&s->log, "the new server %s: the old one goes on", how);
        s->next.pid = 0;
        s->kill_ns = 0;
        fd_close(&s->next.gate);
}

/* What they said before they ended is read while they are still known. */
static void bury(struct supervisor *s)
{
        int status;
        pid_t pid;

        take_notes(s);
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid == s->serving.pid)
                        serving_ended(s, status);
                else if (pid == s->next.pid)
                        next_ended(s, status);
        }
}

/* ---- the loop ----------------------------------------------------------------------------- */

static void end_all(struct supervisor *s)
{
        s->ending = true;
        s->start_ns = 0;
        s->kill_ns = after_ms(END_SECONDS * 1000);
        tell(&s->next, SIGTERM);
        tell(&s->serving, SIGTERM);
}

static void take_signals(struct supervisor *s)
{
        struct signalfd_siginfo info;

        while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
                switch (info.ssi_signo) {
                case SIGCHLD:
                        bury(s);
                        break;
                case SIGHUP:
                        if (!s->ending && s->serving.pid > 0 && s->next.pid == 0)
                                start_next(s);
                        break;
                default:
                        end_all(s);
                }
        }
}

/* Patience is over: with the new server as long as it is not ready, else with the one
 * that is to end. */
static void lose_patience(struct supervisor *s)
{
        s->kill_ns = 0;
        if (s->ending || !s->next.ready)
                tell(&s->next, SIGKILL);
        if (s->ending || s->next.ready)
                tell(&s->serving, SIGKILL);
}

static int wait_ms(const struct supervisor *s)
{
        uint64_t now = clock_now_ns();
        uint64_t at = MIN(s->start_ns ? s->start_ns : UINT64_MAX,
                          s->kill_ns ? s->kill_ns : UINT64_MAX);

        if (at == UINT64_MAX)
                return -1;
        return at <= now ? 0 : (int)DIV_ROUND_UP(at - now, NS_PER_MS);
}

static void run(struct supervisor *s)
{
        struct pollfd fds[] = {
                { .fd = s->signals, .events = POLLIN }, { .fd = s->notes, .events = POLLIN },
        };

        while (!s->ending || s->serving.pid > 0 || s->next.pid > 0) {
                if (s->start_ns && s->start_ns <= clock_now_ns())
                        start_serving(s);
                if (s->kill_ns && s->kill_ns <= clock_now_ns())
                        lose_patience(s);
                if (poll(fds, ARRAY_SIZE(fds), wait_ms(s)) <= 0)
                        continue;
                take_notes(s);
                take_signals(s);
        }
}

/* ---- start --------------------------------------------------------------------------------- */

static int catch_signals(struct supervisor *s, struct err *e)
{
        static const int caught[] = { SIGCHLD, SIGHUP, SIGTERM, SIGINT };

        sigemptyset(&s->caught);
        for (size_t i = 0; i < ARRAY_SIZE(caught); i++)
                sigaddset(&s->caught, caught[i]);
        if (sigprocmask(SIG_BLOCK, &s->caught, NULL) < 0)
                return err_set(e, errno, "cannot catch signals");
        s->signals = signalfd(-1, &s->caught, SFD_CLOEXEC | SFD_NONBLOCK);
        return s->signals < 0 ? err_set(e, errno, "cannot catch signals") : 0;
}

/* At an abstract address that the kernel chooses: nothing is left in any folder. Who
 * writes is checked at each note. */
static int open_notes(struct supervisor *s, struct err *e)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        socklen_t len = sizeof(sa.sun_family);
        int yes = 1;

        s->notes = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s->notes < 0 ||
            setsockopt(s->notes, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) < 0 ||
            bind(s->notes, (struct sockaddr *)&sa, len) < 0)
                return err_set(e, errno, "cannot make the socket of the descriptor store");
        len = sizeof(sa);
        if (getsockname(s->notes, (struct sockaddr *)&sa, &len) < 0)
                return err_set(e, errno, "cannot name the socket of the descriptor store");

        size_t n = len - offsetof(struct sockaddr_un, sun_path);
        char name[sizeof(sa.sun_path) + 1] = "@";

        memcpy(name + 1, sa.sun_path + 1, n - 1);
        return setenv("NOTIFY_SOCKET", name, 1) < 0 ? err_set(e, errno, "environment") : 0;
}

int supervise_run(const struct supervise_options *options, struct err *e)
{
        struct supervisor s = {
                .options = options, .listener.fd = -1, .signals = -1, .notes = -1,
                .kept.max = SUPERVISE_KEPT_MAX, .serving.gate = -1, .next.gate = -1,
        };

        log_init(&s.log, false);

        int rc = catch_signals(&s, e);

        if (rc == 0)
                rc = open_notes(&s, e);
        if (rc == 0 && options->socket_path)
                rc = listen_open(options->socket_path, SOCK_SEQPACKET, &s.listener, e);
        if (rc == 0) {
                start_serving(&s);
                run(&s);
                rc = s.status;
        }
        listen_close(&s.listener);
        kept_fini(&s.kept);
        fd_close(&s.signals);
        fd_close(&s.notes);
        log_fini(&s.log);
        return rc;
}
