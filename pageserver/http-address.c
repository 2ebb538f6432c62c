/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/http-address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"

#define V4 "127.0.0.1:"
#define V6 "[::1]:"
#define UNIX "unix:"

/* connections that wait for accept */
#define BACKLOG 16

/* text behind the prefix; NULL = it begins with something else */
static const char *behind(const char *text, const char *prefix)
{
        size_t n = strlen(prefix);

        return strncmp(text, prefix, n) ? NULL : text + n;
}

static bool parse_port(const char *text, in_port_t *ret)
{
        size_t digits = strspn(text, "0123456789");
        unsigned long port = digits > 0 && digits <= 5 ? strtoul(text, NULL, 10) : 0;

        if (text[digits] || port < 1 || port > 65535)
                return false;
        *ret = htons((uint16_t)port);
        return true;
}

int http_address_parse(const char *text, struct http_address *ret, struct err *e)
{
        struct http_address a = { .path = behind(text, UNIX) };
        const char *v4 = behind(text, V4);
        const char *v6 = behind(text, V6);
        bool fine;

        if (!a.path && (strchr(text, '/') || !strchr(text, ':')))
                a.path = text;
        if (v4) {
                a.tcp.v4.sin_family = AF_INET;
                a.tcp.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                a.bytes = sizeof(a.tcp.v4);
                fine = parse_port(v4, &a.tcp.v4.sin_port);
        } else if (v6) {
                a.tcp.v6.sin6_family = AF_INET6;
                a.tcp.v6.sin6_addr = in6addr_loopback;
                a.bytes = sizeof(a.tcp.v6);
                fine = parse_port(v6, &a.tcp.v6.sin6_port);
        } else {
                fine = a.path && *a.path;
        }
        if (!fine)
                return err_msg(e, EINVAL, "HTTP address '%s' is neither a path nor 127.0.0.1:PORT "
                               "nor [::1]:PORT: other hosts may not connect", text);
        *ret = a;
        return 0;
}

static int listen_tcp(const struct http_address *a, struct listen_socket *ret, struct err *e)
{
        AUTO_FD fd = socket(a->tcp.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int one = 1;

        if (fd < 0)
                return err_set(e, errno, "cannot make a socket for HTTP");
        /* a server that follows another need not wait for that one's connections */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, &a->tcp.any, a->bytes) < 0 || listen(fd, BACKLOG) < 0)
                return err_set(e, errno, "cannot listen for HTTP");
        *ret = (struct listen_socket){ .fd = fd_take(&fd) };
        return 0;
}

int http_address_listen(const struct http_address *a, struct listen_socket *ret, struct err *e)
{
        return a->path ? listen_open(a->path, SOCK_STREAM, ret, e) : listen_tcp(a, ret, e);
}
