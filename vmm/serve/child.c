/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/child.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/util.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/json.h"
#include "vmm/blank.h"
#include "vmm/confine.h"

/* even if another program lies under our name by now */
#define SELF "/proc/self/exe"
/* a report holds a path or two, every byte of which may be escaped */
#define REPORT_BYTES_MAX (256u << 10)

extern char **environ;

/* P_PIDFD, which glibc names since 2.36 */
#define BY_PIDFD ((idtype_t)3)

struct child {
        struct bufferevent *bev;
        int pidfd;                      /* -1: it has died */
        const struct child_ops *ops;
        void *ctx;
};

/* ---- what it says -------------------------------------------------------------- */

static void fail(struct child *c, int errnum, const char *why)
{
        struct err e;

        err_msg(&e, errnum, "%s", why);
        bufferevent_disable(c->bev, EV_READ | EV_WRITE);
        c->ops->failed(c->ctx, &e);
}

static void take_line(struct child *c, const char *line, size_t bytes)
{
        AUTO_JSON *o = NULL;
        const char *why;
        uint64_t errnum;

        if (json_parse(line, bytes, &o, NULL) < 0) {
                fail(c, EBADMSG, "the process of the VM says what is no JSON");
        } else if (json_take_str(o, "error", &why, NULL) == 0) {
                if (json_take_u64(o, "errno", INT32_MAX, &errnum, NULL) < 0)
                        errnum = EIO;
                fail(c, (int)errnum, why);
        } else if (json_object_object_get_ex(o, "ready", NULL)) {
                c->ops->ready(c->ctx);
        } else {
                c->ops->report(c->ctx, o);
        }
}

/* One at a time: what a line leads to may free the child. Nothing follows a report, and
 * nothing a "ready" before there is an order. */
static void on_readable(struct bufferevent *bev, void *ctx)
{
        struct evbuffer *in = bufferevent_get_input(bev);
        size_t bytes;
        AUTO_FREE char *line = evbuffer_readln(in, &bytes, EVBUFFER_EOL_LF);

        if (line)
                take_line(ctx, line, bytes);
        else if (evbuffer_get_length(in) > REPORT_BYTES_MAX)
                fail(ctx, EMSGSIZE, "the process of the VM says too much");
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
        (void)bev;
        if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
                fail(ctx, EPIPE, "the process of the VM died before its guest ran");
}

/* ---- start --------------------------------------------------------------------- */

/* -1: it has died. Its number could be another's by now, for nobody has to bury it; no child
 * of ours is found then. */
static int open_pidfd(pid_t pid)
{
        AUTO_FD fd = (int)syscall(SYS_pidfd_open, pid, 0);
        siginfo_t info;

        if (fd < 0 || waitid(BY_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
                return -1;
        return fd_take(&fd);
}

static int spawn(const struct child_kind *kind, int sock, int *ret_pidfd)
{
        const struct shape *shape = &kind->guess.shape;
        char cpus[16], memory[24];
        char *argv[6 + CONFINE_MAX + 1] = {
                (char *)"vmm", (char *)BLANK_COMMAND, cpus, memory,
                (char *)sandbox_mode_name(kind->sandbox),
                kind->guess.expected ? kind->guess.expected : (char *)"",
        };
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none, all;
        pid_t pid;

        memcpy(argv + 6, kind->confine->folder, kind->confine->n * sizeof(argv[0]));
        snprintf(cpus, sizeof(cpus), "%u", shape->cpus);
        snprintf(memory, sizeof(memory), "%llu", (unsigned long long)shape->memory_bytes);
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawn_file_actions_init(&files);
        posix_spawnattr_init(&attr);
        for (int fd = 0; fd <= 2; fd++)
                posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
        posix_spawn_file_actions_adddup2(&files, sock, BLANK_SOCK);
        posix_spawn_file_actions_addclosefrom_np(&files, BLANK_SOCK + 1);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &all);
        /* of a session of its own: what ends ours does not end it */
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                 POSIX_SPAWN_SETSID);

        int rc = posix_spawn(&pid, SELF, &files, &attr, argv, environ);

        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attr);
        if (rc == 0)
                *ret_pidfd = open_pidfd(pid);
        return rc;
}

static int start(struct child *c, struct event_base *base, const struct child_kind *kind,
                 struct err *e)
{
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return err_set(e, errno, "make a pair of sockets");

        AUTO_FD ours = pair[0];
        /* not where file actions put others before it is moved */
        AUTO_FD theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, BLANK_SOCK + 1);

        fd_close(&pair[1]);
        if (theirs < 0 || evutil_make_socket_nonblocking(ours) < 0)
                return err_set(e, errno, "set up a pair of sockets");

        int rc = spawn(kind, theirs, &c->pidfd);

        if (rc)
                return err_set(e, rc, "start a process for a VM");
        c->bev = bufferevent_socket_new(base, ours, BEV_OPT_CLOSE_ON_FREE);
        if (!c->bev)
                return err_msg(e, ENOMEM, "no memory for a VM");
        fd_take(&ours);
        bufferevent_setcb(c->bev, on_readable, NULL, on_event, c);
        bufferevent_enable(c->bev, EV_READ | EV_WRITE);
        return 0;
}

int child_new(struct event_base *base, const struct child_kind *kind,
              const struct child_ops *ops, void *ctx, struct child **ret, struct err *e)
{
        struct child *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory for a VM");
        c->pidfd = -1;
        child_hand_over(c, ops, ctx);

        int rc = start(c, base, kind, e);

        if (rc < 0)
                child_free(c);
        else
                *ret = c;
        return rc;
}

void child_hand_over(struct child *c, const struct child_ops *ops, void *ctx)
{
        c->ops = ops;
        c->ctx = ctx;
}

int child_order(struct child *c, const char *name, uint64_t start_ns,
                struct json_object *request, struct err *e)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "name", name);
        json_put_u64(o, "start_ns", start_ns);
        json_object_object_add(o, "request", json_object_get(request));

        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

        if (strlen(text) >= BLANK_ORDER_BYTES_MAX)
                return err_msg(e, EMSGSIZE, "the request is too long");
        if (bufferevent_write(c->bev, text, strlen(text)) < 0 ||
            bufferevent_write(c->bev, "\n", 1) < 0)
                return err_msg(e, ENOMEM, "no memory for the request");
        return 0;
}

void child_kill(struct child *c)
{
        if (c->pidfd >= 0)
                (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}

void child_free(struct child *c)
{
        if (!c)
                return;
        fd_close(&c->pidfd);
        if (c->bev)
                bufferevent_free(c->bev);
        free(c);
}
