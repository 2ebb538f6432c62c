/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/listen.h"

#define HOST_MAX 255
#define PORT_MAX 5

struct place {
        const char *path;               /* unix; NULL = TCP: */
        char host[HOST_MAX + 1];
        char port[PORT_MAX + 1];
};

/* ---- addresses ------------------------------------------------------------- */

static bool is_port(const char *text)
{
        size_t digits = strspn(text, "0123456789");
        unsigned long port = digits > 0 && digits <= PORT_MAX ? strtoul(text, NULL, 10) : 0;

        return !text[digits] && port >= 1 && port <= UINT16_MAX;
}

/* "HOST:PORT", "[HOST]:PORT": only in brackets a host has colons */
static bool parse_tcp(const char *text, struct place *ret)
{
        const char *colon = strrchr(text, ':');
        const char *host = text;
        size_t bytes = colon ? (size_t)(colon - text) : 0;

        if (bytes > 1 && host[0] == '[' && host[bytes - 1] == ']') {
                host++;
                bytes -= 2;
        } else if (memchr(host, ':', bytes)) {
                return false;
        }
        if (bytes == 0 || bytes > HOST_MAX || !is_port(colon + 1))
                return false;
        memcpy(ret->host, host, bytes);
        ret->host[bytes] = '\0';
        strcpy(ret->port, colon + 1);
        return true;
}

static int parse(const char *address, struct place *ret, struct err *e)
{
        *ret = (struct place){ .path = NULL };
        if (!strncmp(address, "unix:", 5) && address[5]) {
                if (strlen(address + 5) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
                        return err_msg(e, EINVAL, "the path of the socket in '%s' is too long",
                                       address);
                ret->path = address + 5;
                return 0;
        }
        if (!strncmp(address, "tcp:", 4) && parse_tcp(address + 4, ret))
                return 0;
        return err_msg(e, EINVAL, "address '%s' is neither unix:PATH nor tcp:HOST:PORT (an IPv6 "
                       "HOST in brackets)", address);
}

int rendezvous_check(const char *address, struct err *e)
{
        struct place p;

        return parse(address, &p, e);
}

static int resolve(const struct place *p, bool passive, struct addrinfo **ret, struct err *e)
{
        const struct addrinfo hints = {
                .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0),
        };
        int rc = getaddrinfo(p->host, p->port, &hints, ret);

        if (rc != 0)
                return err_msg(e, ENOENT, "host '%s' has no address: %s", p->host,
                               gai_strerror(rc));
        return 0;
}

/* ---- waiting --------------------------------------------------------------- */

static uint64_t deadline_of(unsigned time_s)
{
        return time_s ? clock_now_ns() + time_s * NS_PER_SEC : UINT64_MAX;
}

/* 0, -ETIMEDOUT or another errno */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
        for (;;) {
                struct pollfd p = { .fd = fd, .events = events };
                uint64_t now = clock_now_ns();
                int ms = -1;

                if (deadline_ns != UINT64_MAX) {
                        uint64_t left = deadline_ns > now ? deadline_ns - now : 0;

                        left = (left + NS_PER_MS - 1) / NS_PER_MS;
                        ms = left > INT_MAX ? INT_MAX : (int)left;
                }

                int n = poll(&p, 1, ms);

                if (n > 0)
                        return 0;
                if (n == 0 && clock_now_ns() >= deadline_ns)
                        return -ETIMEDOUT;
                if (n < 0 && errno != EINTR)
                        return -errno;
        }
}

static int make_blocking(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

/* ---- listening ------------------------------------------------------------- */

static int accept_one(int listener, unsigned time_s, int *ret_fd)
{
        uint64_t deadline_ns = deadline_of(time_s);

        for (;;) {
                int rc = wait_for(listener, POLLIN, deadline_ns);

                if (rc < 0)
                        return rc;

                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

                if (fd >= 0) {
                        *ret_fd = fd;
                        return 0;
                }
                /* who went away again before we looked */
                if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
                        return -errno;
        }
}

static int listen_tcp(const struct place *p, int *ret_fd, struct err *e)
{
        struct addrinfo *list;
        int rc = resolve(p, true, &list, e);
        int one = 1;

        if (rc < 0)
                return rc;

        AUTO_FD fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 1) < 0)
                rc = err_set(e, errno, "cannot listen at port %s of '%s'", p->port, p->host);
        freeaddrinfo(list);
        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

int rendezvous_listen(const char *address, unsigned time_s, int *ret_fd, struct err *e)
{
        struct listen_socket l = { .fd = -1 };
        struct place p;
        int rc = parse(address, &p, e);

        if (rc == 0)
                rc = p.path ? listen_open(p.path, SOCK_STREAM, &l, e) : listen_tcp(&p, &l.fd, e);
        if (rc < 0)
                return rc;
        rc = accept_one(l.fd, time_s, ret_fd);
        listen_close(&l);
        return rc < 0 ? err_set(e, -rc, "nobody connected to '%s'", address) : 0;
}

/* ---- connecting ------------------------------------------------------------ */

static int connect_to(int family, const struct sockaddr *sa, socklen_t bytes,
                      uint64_t deadline_ns, int *ret_fd)
{
        AUTO_FD fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        socklen_t room = sizeof(int);
        int error = 0;

        if (fd < 0)
                return -errno;
        if (connect(fd, sa, bytes) < 0) {
                if (errno != EINPROGRESS)
                        return -errno;

                int rc = wait_for(fd, POLLOUT, deadline_ns);

                if (rc < 0)
                        return rc;
                if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &room) < 0)
                        return -errno;
                if (error)
                        return -error;
        }

        int rc = make_blocking(fd);

        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

static int connect_tcp(const struct place *p, unsigned time_s, int *ret_fd, struct err *e)
{
        uint64_t deadline_ns = deadline_of(time_s);
        struct addrinfo *list;
        int rc = resolve(p, false, &list, e);

        if (rc < 0)
                return rc;
        rc = -ENOENT;
        for (const struct addrinfo *a = list; a && rc < 0; a = a->ai_next)
                rc = connect_to(a->ai_family, a->ai_addr, a->ai_addrlen, deadline_ns, ret_fd);
        freeaddrinfo(list);
        return rc < 0 ? err_set(e, -rc, "cannot connect to port %s of '%s'", p->port, p->host) : 0;
}

static int connect_unix(const char *path, unsigned time_s, int *ret_fd, struct err *e)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        strcpy(sa.sun_path, path);

        int rc = connect_to(AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa),
                            deadline_of(time_s), ret_fd);

        return rc < 0 ? err_set(e, -rc, "cannot connect to '%s'", path) : 0;
}

int rendezvous_connect(const char *address, unsigned time_s, int *ret_fd, struct err *e)
{
        struct place p;
        int rc = parse(address, &p, e);

        if (rc < 0)
                return rc;
        return p.path ? connect_unix(p.path, time_s, ret_fd, e) :
                        connect_tcp(&p, time_s, ret_fd, e);
}
