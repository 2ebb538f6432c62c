/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/listen.h"
#include "vmm/unixsock.h"
#include "vmm/virtio/vsock-packet.h"

/* Theory of operation
 *
 * A client that was accepted is a greeting until its line is complete. Of its socket no more
 * is taken than belongs to the line: we peek, and take up to the end of the line; what is
 * behind it is the guest's. Greetings stand in the order they came, so the first is the first
 * whose time is up, and one timer does for all.
 *
 * INV-GREETINGS: there are at most GREETINGS_MAX. The listening socket is watched if there is
 *                room for one more and the system gives descriptors; others wait in its backlog.
 * INV-NO-LINK: what the guest connects to is what stands at PATH_P itself: no symbolic link, a
 *              socket, and of this user, root, or whom the folder belongs to. We open it without
 *              connecting (O_PATH), look, and connect to what we hold, by its name in /proc. A
 *              guest would reach another socket of this user's otherwise, by whoever may write
 *              to the folder. Without /proc the guest's connections are refused.
 */

/* Whoever connects writes his line at once; more than these at a time do so for no good. */
#define GREETINGS_MAX 64
#define GREETING_NS (5 * NS_PER_SEC)
/* between tries when the system has no descriptors or memory for us */
#define REST_NS (100 * NS_PER_MS)
/* accepted in one turn of the loop, which has other work too */
#define ACCEPTS_MAX 16
/* "_4294967295" */
#define SUFFIX_BYTES_MAX 11

struct greeting {
        struct vsock_host *host;
        int fd;
        uint64_t deadline_ns;
        struct virtio_watch *readable;
        size_t bytes;
        char line[VSOCK_CONNECT_BYTES_MAX];
        TAILQ_ENTRY(greeting) link;
};

struct vsock_host {
        /* constant */
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
        struct listen_socket socket;    /* fd -1: nobody comes */
        int folder;                     /* that it is in */

        /* the loop's thread */
        struct virtio_loop *loop;
        struct vsock_host_ops ops;
        struct virtio_watch *listen, *timer;
        TAILQ_HEAD(greetings, greeting) greetings;
        unsigned ngreetings;
        uint64_t rest_ns;               /* no accept before; 0 = at any time */
};

/* ---- the socket file -------------------------------------------------------- */

/* Where the servers are that the guest connects to: found once, so that nobody puts another
 * folder in its place. */
static int open_folder(const char *path, int *ret_fd, struct err *e)
{
        char folder[sizeof(((struct vsock_host *)0)->path)];
        const char *slash = strrchr(path, '/');
        size_t bytes = slash ? (size_t)(slash - path) + 1 : 0;

        memcpy(folder, path, bytes);
        folder[bytes] = '\0';
        *ret_fd = open(bytes ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "open the folder of vsock socket '%s'", path) : 0;
}

static int listen_at(struct vsock_host *h, struct err *e)
{
        int rc = open_folder(h->path, &h->folder, e);

        if (rc == 0)
                rc = listen_open(h->path, SOCK_STREAM, &h->socket, e);
        return rc < 0 ? err_in(e, rc, "the vsock's socket (--vsock PATH gives the VM another)") : 0;
}

int vsock_host_open(const char *path, struct vsock_host **ret, struct err *e)
{
        const size_t room = sizeof(((struct vsock_host *)0)->path) - SUFFIX_BYTES_MAX - 1;
        size_t bytes = strlen(path);

        if (bytes > room)
                return err_msg(e, ENAMETOOLONG, "a vsock's path may have %zu characters: choose a "
                               "shorter one than '%s' (--vsock PATH)", room, path);

        struct vsock_host *h = calloc(1, sizeof(*h));

        if (!h)
                return err_msg(e, ENOMEM, "no memory for vsock '%s'", path);
        memcpy(h->path, path, bytes);
        h->socket.fd = h->folder = -1;
        TAILQ_INIT(&h->greetings);

        int rc = bytes > 0 ? listen_at(h, e) : 0;

        if (rc < 0) {
                vsock_host_close(h);
                return rc;
        }
        *ret = h;
        return 0;
}

void vsock_host_close(struct vsock_host *h)
{
        if (!h)
                return;
        ASSERT(h->loop == NULL);
        listen_close(&h->socket);
        fd_close(&h->folder);
        free(h);
}

/* ---- the guest's connections -------------------------------------------------- */

/* INV-NO-LINK */
static bool may_be_dialled(const struct vsock_host *h, int fd)
{
        struct stat server, folder;

        if (fstat(fd, &server) < 0 || fstat(h->folder, &folder) < 0)
                return false;
        return S_ISSOCK(server.st_mode) &&
               (server.st_uid == 0 || server.st_uid == geteuid() ||
                server.st_uid == folder.st_uid);
}

int vsock_host_dial(const struct vsock_host *h, uint32_t host_port, int *ret_fd)
{
        const char *slash = strrchr(h->path, '/');
        char name[sizeof(h->path)], by_fd[sizeof("/proc/self/fd/") + 11];
        int n = snprintf(name, sizeof(name), "%s_%u", slash ? slash + 1 : h->path, host_port);

        if (h->socket.fd < 0)
                return -ECONNREFUSED;
        ASSERT(n > 0 && (size_t)n < sizeof(name));      /* vsock_host_open() */

        AUTO_FD fd = openat(h->folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        if (!may_be_dialled(h, fd))
                return -EPERM;
        snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
        return unixsock_connect(by_fd, SOCK_STREAM | SOCK_NONBLOCK, ret_fd, NULL);
}

/* ---- greetings -------------------------------------------------------------- */

/* INV-GREETINGS; and the timer is for what is next */
static void look_again(struct vsock_host *h)
{
        const struct greeting *first = TAILQ_FIRST(&h->greetings);
        uint64_t next_ns = h->rest_ns;

        if (h->ngreetings < GREETINGS_MAX && !h->rest_ns)
                virtio_watch_on(h->listen);
        else
                virtio_watch_off(h->listen);
        if (first && (!next_ns || first->deadline_ns < next_ns))
                next_ns = first->deadline_ns;
        if (next_ns) {
                uint64_t now_ns = clock_now_ns();

                virtio_watch_after(h->timer, next_ns > now_ns ? next_ns - now_ns : 0);
        } else {
                virtio_watch_off(h->timer);
        }
}

static void greeting_free(struct greeting *g)
{
        TAILQ_REMOVE(&g->host->greetings, g, link);
        g->host->ngreetings--;
        virtio_watch_free(g->readable);
        fd_close(&g->fd);
        free(g);
}

enum line { LINE_PART, LINE_WHOLE, LINE_BAD };

/* Takes what is there of the line, and nothing behind it. */
static enum line take_line(struct greeting *g)
{
        char *at = g->line + g->bytes;
        ssize_t seen = recv(g->fd, at, sizeof(g->line) - g->bytes, MSG_PEEK | MSG_DONTWAIT);

        if (seen < 0 && (errno == EAGAIN || errno == EINTR))
                return LINE_PART;
        if (seen <= 0)
                return LINE_BAD;

        const char *end = memchr(at, '\n', (size_t)seen);
        size_t mine = end ? (size_t)(end - at) + 1 : (size_t)seen;

        if (recv(g->fd, at, mine, MSG_DONTWAIT) != (ssize_t)mine)
                return LINE_BAD;
        g->bytes += mine;
        if (end)
                return LINE_WHOLE;
        return g->bytes < sizeof(g->line) ? LINE_PART : LINE_BAD;
}

static void on_readable(void *ctx)
{
        struct greeting *g = ctx;
        struct vsock_host *h = g->host;
        enum line line = take_line(g);
        uint32_t port = 0;
        int fd = -1;

        if (line == LINE_PART)
                return;
        if (line == LINE_WHOLE && vsock_connect_parse(g->line, g->bytes, &port) == 0)
                fd = fd_take(&g->fd);
        greeting_free(g);
        look_again(h);
        if (fd >= 0)
                h->ops.client(h->ops.ctx, fd, port);
}

static int greeting_new(struct vsock_host *h, int *fd)
{
        struct greeting *g = calloc(1, sizeof(*g));
        int rc = -ENOMEM;

        if (g)
                rc = virtio_watch_readable(h->loop, *fd, on_readable, g, &g->readable, NULL);
        if (rc < 0) {
                free(g);
                return rc;
        }
        g->host = h;
        g->fd = fd_take(fd);
        g->deadline_ns = clock_now_ns() + GREETING_NS;
        TAILQ_INSERT_TAIL(&h->greetings, g, link);
        h->ngreetings++;
        virtio_watch_on(g->readable);
        return 0;
}

/* 1: maybe there are more; 0: there are none; -errno: not for now */
static int accept_one(struct vsock_host *h)
{
        AUTO_FD fd = accept4(h->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
                int rc = greeting_new(h, &fd);

                return rc < 0 ? rc : 1;
        }
        if (errno == EAGAIN)
                return 0;
        return errno == EINTR || errno == ECONNABORTED ? 1 : -errno;
}

static void on_listen(void *ctx)
{
        struct vsock_host *h = ctx;
        int rc = 1;

        for (unsigned i = 0; i < ACCEPTS_MAX && h->ngreetings < GREETINGS_MAX && rc > 0; i++)
                rc = accept_one(h);
        if (rc < 0)
                h->rest_ns = clock_now_ns() + REST_NS;
        look_again(h);
}

static void on_timer(void *ctx)
{
        struct vsock_host *h = ctx;
        uint64_t now_ns = clock_now_ns();
        struct greeting *g;

        while ((g = TAILQ_FIRST(&h->greetings)) && g->deadline_ns <= now_ns)
                greeting_free(g);
        if (h->rest_ns <= now_ns)
                h->rest_ns = 0;
        look_again(h);
}

int vsock_host_watch(struct vsock_host *h, struct virtio_loop *loop,
                     const struct vsock_host_ops *ops, struct err *e)
{
        ASSERT(h->loop == NULL);
        h->loop = loop;
        h->ops = *ops;
        h->rest_ns = 0;

        if (h->socket.fd < 0)
                return 0;

        int rc = virtio_watch_readable(loop, h->socket.fd, on_listen, h, &h->listen, e);

        if (rc == 0)
                rc = virtio_watch_timer(loop, on_timer, h, &h->timer, e);
        if (rc < 0) {
                vsock_host_unwatch(h);
                return rc;
        }
        look_again(h);
        return 0;
}

void vsock_host_unwatch(struct vsock_host *h)
{
        struct greeting *g;

        while ((g = TAILQ_FIRST(&h->greetings)))
                greeting_free(g);
        virtio_watch_free(h->listen);
        virtio_watch_free(h->timer);
        h->listen = h->timer = NULL;
        h->loop = NULL;
}
