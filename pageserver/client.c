/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/psfault.h"
#include "pageserver/chan.h"

static_assert(PS_REGIONS_MAX == PSMSG_REGIONS_MAX && PS_UFFDS_MAX == PSMSG_UFFDS_MAX &&
              PS_IMAGES_MAX == PSMSG_IMAGES_MAX,
              "the wire carries what the header promises");
static_assert((int)PS_LANE_AUTO == (int)PSMSG_LANE_AUTO &&
              (int)PS_LANE_SHARED == (int)PSMSG_LANE_SHARED &&
              (int)PS_LANE_COPY == (int)PSMSG_LANE_COPY, "lanes map by value");
static_assert(sizeof(struct ps_stats) == sizeof(struct psmsg_stats) &&
              offsetof(struct ps_stats, demand_max_ns) ==
              offsetof(struct psmsg_stats, demand_max_ns),
              "stats are copied whole");

/* For what a server does at once, on however slow a disk: to answer, and to empty
 * its socket. One that is stopped or hangs must not hang us. */
#define ANSWER_SECONDS 30
#define TAKE_SECONDS 2

/* where a private server finds its socket */
#define PRIVATE_SOCK 3

struct ps_client {
        int sock;
        pid_t pid;
        bool holds;                     /* hello asked for memory to be loaded first */
        struct psmsg msg;               /* 15 KiB: not for every caller's stack */
};

static int gone(struct err *e)
{
        return err_msg(e, EPIPE, "the page server is gone");
}

static int silent(struct err *e)
{
        return err_msg(e, ETIMEDOUT, "the page server does not answer: end it or start another");
}

/* 0 seconds = for ever */
static void wait_at_most(int sock, int option, int seconds)
{
        struct timeval t = { .tv_sec = seconds };

        int rc = setsockopt(sock, SOL_SOCKET, option, &t, sizeof(t));

        ASSERT(rc == 0);
}

static int client_new(int *sock, pid_t pid, struct ps_client **ret, struct err *e)
{
        struct ps_client *c = calloc(1, sizeof(*c));

        if (!c)
                return err_set(e, ENOMEM, "page server client");
        c->sock = fd_take(sock);
        c->pid = pid;
        wait_at_most(c->sock, SO_SNDTIMEO, TAKE_SECONDS);
        *ret = c;
        return 0;
}

int ps_client_connect(const char *socket_path, struct ps_client **ret, struct err *e)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        if (strlen(socket_path) >= sizeof(sa.sun_path))
                return err_msg(e, ENAMETOOLONG, "socket path '%s' is too long", socket_path);
        memcpy(sa.sun_path, socket_path, strlen(socket_path));

        AUTO_FD sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        if (sock < 0)
                return err_set(e, errno, "cannot make a socket");
        if (connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                return err_set(e, errno, "no page server answers at '%s'", socket_path);
        return client_new(&sock, 0, ret, e);
}

/* No descriptor but the socket goes along: a stray copy of the monitor's end
 * would keep the server alive, one of a guest's file would keep that open. It
 * gets a session of its own: ^C on the monitor's terminal is not meant for it. */
static int spawn(const char *program, int sock, pid_t *ret_pid)
{
        char *argv[] = { (char *)program, (char *)"--private", NULL };
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t none, all;

        sigemptyset(&none);
        sigfillset(&all);
        posix_spawn_file_actions_init(&files);
        posix_spawnattr_init(&attr);
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&files, sock, PRIVATE_SOCK);
        posix_spawn_file_actions_addclosefrom_np(&files, PRIVATE_SOCK + 1);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &all);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                 POSIX_SPAWN_SETSID);

        int rc = posix_spawnp(ret_pid, program, &files, &attr, argv, environ);

        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attr);
        return rc;
}

/* file actions open 0 and 1 before the socket is moved: it must not sit there */
static int above_std(int *fd)
{
        if (*fd > PRIVATE_SOCK)
                return 0;

        int high = fcntl(*fd, F_DUPFD_CLOEXEC, PRIVATE_SOCK + 1);

        if (high < 0)
                return -errno;
        fd_close(fd);
        *fd = high;
        return 0;
}

int ps_client_spawn(const char *program, struct ps_client **ret, struct err *e)
{
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return err_set(e, errno, "cannot make a socket pair");

        AUTO_FD ours = pair[0];
        AUTO_FD theirs = pair[1];
        int rc = above_std(&theirs);

        if (rc < 0)
                return err_set(e, -rc, "cannot move a socket");

        pid_t pid;

        rc = spawn(program, theirs, &pid);
        if (rc != 0)
                return err_set(e, rc, "cannot start '%s'", program);
        return client_new(&ours, pid, ret, e);
}

void ps_client_free(struct ps_client *client)
{
        if (!client)
                return;
        fd_close(&client->sock);
        /* A dead server is buried here. A living one serves on until the
         * memory is gone, that is until we are: init buries it then. */
        if (client->pid > 0)
                waitpid(client->pid, NULL, WNOHANG);
        free(client);
}

void ps_client_abandon(struct ps_client *client)
{
        if (client->pid > 0) {
                kill(client->pid, SIGKILL);
                waitpid(client->pid, NULL, 0);
                client->pid = 0;
        }
        ps_client_free(client);
}

int ps_client_fd(const struct ps_client *client)
{
        return client->sock;
}

pid_t ps_client_pid(const struct ps_client *client)
{
        return client->pid;
}

static int tell(struct ps_client *c, const int *fds, struct err *e)
{
        int rc = chan_send(c->sock, &c->msg, fds);

        if (rc == -EPIPE)
                return gone(e);
        if (rc == -EAGAIN)
                return silent(e);
        return rc < 0 ? err_set(e, -rc, "cannot write to the page server") : 0;
}

static void close_fds(const int *fds, size_t n)
{
        for (size_t i = 0; i < n; i++)
                close(fds[i]);
}

/* Receives into c->msg; ERROR becomes an error here. fds: FDPASS_FDS_MAX */
static int hear(struct ps_client *c, int *fds, struct err *e)
{
        int rc = chan_recv(c->sock, &c->msg, fds);

        if (rc == -EPIPE)
                return gone(e);
        if (rc == -EAGAIN)
                return silent(e);
        if (rc < 0)
                return err_set(e, -rc, "cannot understand the page server");
        if (c->msg.type == PSMSG_ERROR)
                return err_msg(e, -c->msg.error.code, "page server: %.600s", c->msg.error.text);
        return 0;
}

static int unexpected(struct ps_client *c, const int *fds, struct err *e)
{
        close_fds(fds, psmsg_fds(&c->msg));
        return err_msg(e, EPROTO, "unexpected message %d from the page server", (int)c->msg.type);
}

/* The message, and its descriptors into fds. */
static int fill_hello(struct ps_client *client, const struct ps_hello *hello,
                      int fds[FDPASS_FDS_MAX], struct err *e)
{
        struct psmsg_hello *h = &client->msg.hello;

        if (hello->nimages == 0 || hello->nimages > PS_IMAGES_MAX)
                return err_msg(e, EINVAL, "an image of %zu files: 1 to %d are possible",
                               hello->nimages, PS_IMAGES_MAX);
        client->msg.type = PSMSG_HELLO;
        h->lane = (enum psmsg_lane)hello->lane;
        h->has_cache = hello->cache_fd >= 0 && hello->filled_fd >= 0;
        h->has_map = hello->map_fd >= 0;
        h->record = hello->record;
        h->removes = hello->removes;
        h->has_removed = hello->removes && hello->removed_fd >= 0;
        h->page_bytes = hello->page_bytes ? hello->page_bytes : PSMSG_PAGE_SMALL;
        h->hold_percent = MIN(hello->hold_percent, 100u);
        h->nimages = (unsigned)hello->nimages;
        h->prefetch_rate = hello->prefetch_rate;
        snprintf(h->path, sizeof(h->path), "%s", hello->image_path ? hello->image_path : "");
        if (snprintf(h->tag, sizeof(h->tag), "%s", hello->tag ? hello->tag : "") >=
            (int)sizeof(h->tag))
                return err_msg(e, EINVAL, "tag '%s' is longer than %u bytes", hello->tag,
                               PSMSG_TAG_MAX);
        memcpy(fds, hello->image_fds, hello->nimages * sizeof(*fds));

        struct psmsg_hello_at at = psmsg_hello_at(h);

        if (h->has_cache) {
                fds[at.cache] = hello->cache_fd;
                fds[at.filled] = hello->filled_fd;
        }
        if (h->has_map)
                fds[at.map] = hello->map_fd;
        if (h->has_removed)
                fds[at.removed] = hello->removed_fd;
        return 0;
}

static void take_welcome(const struct psmsg_welcome *w, const int *fds, struct ps_welcome *ret)
{
        size_t at = 0;

        *ret = (struct ps_welcome){
                .lane = (enum ps_lane)w->lane,
                .disk_bytes = w->disk_bytes,
                .cluster_bytes = w->cluster_bytes,
                .map_fd = -1, .cache_fd = -1, .filled_fd = -1, .removed_fd = -1,
        };
        if (w->has_map)
                ret->map_fd = fds[at++];
        if (w->has_cache) {
                ret->cache_fd = fds[at++];
                ret->filled_fd = fds[at++];
        }
        if (w->has_removed)
                ret->removed_fd = fds[at++];
}

int ps_client_hello(struct ps_client *client, const struct ps_hello *hello,
                    struct ps_welcome *ret, struct err *e)
{
        int fds[FDPASS_FDS_MAX];
        int rc = fill_hello(client, hello, fds, e);

        if (rc < 0)
                return rc;
        client->holds = client->msg.hello.hold_percent > 0;
        wait_at_most(client->sock, SO_RCVTIMEO, ANSWER_SECONDS);
        rc = tell(client, fds, e);
        if (rc == 0 || rc == -EPIPE)    /* one that turned us away has said why */
                rc = hear(client, fds, e);
        if (rc < 0)
                return rc;
        if (client->msg.type != PSMSG_WELCOME)
                return unexpected(client, fds, e);
        take_welcome(&client->msg.welcome, fds, ret);
        return 0;
}

int ps_client_attach(struct ps_client *client, const struct ps_region *regions, size_t n,
                     const int *uffds, size_t nuffds, bool reattach, struct err *e)
{
        struct psmsg_attach *a = &client->msg.attach;

        if (n == 0 || n > PS_REGIONS_MAX || nuffds == 0 || nuffds > PS_UFFDS_MAX)
                return err_msg(e, EINVAL, "%zu regions on %zu userfaultfds: 1 to %d on 1 to %d "
                               "are possible", n, nuffds, PS_REGIONS_MAX, PS_UFFDS_MAX);
        client->msg.type = PSMSG_ATTACH;
        a->reattach = reattach;
        a->nuffds = (unsigned)nuffds;
        a->nregions = (unsigned)n;
        for (size_t i = 0; i < n; i++)
                a->region[i] = (struct psmsg_region){
                        .hva = regions[i].hva, .bytes = regions[i].bytes,
                        .gpa = regions[i].gpa, .uffd = regions[i].uffd,
                };

        int fds[FDPASS_FDS_MAX];
        int rc = tell(client, uffds, e);

        if (client->holds)              /* loading takes as long as it takes */
                wait_at_most(client->sock, SO_RCVTIMEO, 0);
        if (rc == 0)
                rc = hear(client, fds, e);
        wait_at_most(client->sock, SO_RCVTIMEO, 0);
        if (rc < 0)
                return rc;
        return client->msg.type == PSMSG_ATTACHED ? 0 : unexpected(client, fds, e);
}

int ps_client_event(struct ps_client *client, struct ps_event *ret, struct err *e)
{
        int fds[FDPASS_FDS_MAX];
        int rc = hear(client, fds, e);

        if (rc < 0)
                return rc;

        struct ps_event event = { .record_fd = -1 };

        switch (client->msg.type) {
        case PSMSG_RESIDENT:
                event.type = PS_EVENT_RESIDENT;
                break;
        case PSMSG_BAD_PAGE:
                event.type = PS_EVENT_BAD_PAGE;
                event.gpa = client->msg.bad_page.gpa;
                snprintf(event.text, sizeof(event.text), "%.*s", (int)sizeof(event.text) - 1,
                         client->msg.bad_page.text);
                break;
        case PSMSG_STATS:
                event.type = PS_EVENT_STATS;
                memcpy(&event.stats, &client->msg.stats, sizeof(event.stats));
                break;
        case PSMSG_RECORD:
                event.type = PS_EVENT_RECORD;
                event.record_fd = fds[0];
                break;
        case PSMSG_LEASED:
                event.type = PS_EVENT_LEASED;
                event.lease = client->msg.lease;
                break;
        default:
                return unexpected(client, fds, e);
        }
        *ret = event;
        return 0;
}

int ps_client_ask_stats(struct ps_client *client, struct err *e)
{
        client->msg.type = PSMSG_ASK_STATS;
        return tell(client, NULL, e);
}

int ps_client_ask_record(struct ps_client *client, struct err *e)
{
        client->msg.type = PSMSG_ASK_RECORD;
        return tell(client, NULL, e);
}

int ps_client_prefetch(struct ps_client *client, uint64_t rate, struct err *e)
{
        client->msg.type = PSMSG_PREFETCH;
        client->msg.rate = rate;
        return tell(client, NULL, e);
}

int ps_client_retry(struct ps_client *client, struct err *e)
{
        client->msg.type = PSMSG_RETRY;
        return tell(client, NULL, e);
}

/* ---- the reader lease ---------------------------------------------------------- */

int ps_client_lease(struct ps_client *client, uint64_t number, int *ret_fd, struct err *e)
{
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return err_set(e, errno, "cannot make a socket pair");

        AUTO_FD ours = pair[0];
        AUTO_FD theirs = pair[1];

        client->msg.type = PSMSG_LEASE;
        client->msg.lease = number;

        int rc = tell(client, &theirs, e);

        if (rc == 0)
                *ret_fd = fd_take(&ours);
        return rc;
}

ssize_t ps_lease_pass(int fd, const uint64_t *hva, size_t n)
{
        uint8_t buf[PSFAULT_BYTES_MAX];
        size_t done = 0;

        while (done < n) {
                size_t count = MIN(n - done, PSFAULT_MAX);
                size_t bytes = psfault_encode(hva + done, count, buf);

                if (send(fd, buf, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
                        if (errno == EINTR)
                                continue;
                        if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
                                break;
                        return -EPIPE;
                }
                done += count;
        }
        return (ssize_t)done;
}
