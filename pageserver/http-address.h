/* SPDX-License-Identifier: Apache-2.0 */
/* http-address.h - where the page server's HTTP door is: a socket in the file system,
 * or a port that only this host reaches.
 */
#ifndef PAGESERVER_HTTP_ADDRESS_H
#define PAGESERVER_HTTP_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "common/err.h"
#include "common/listen.h"

struct http_address {
        const char *path;               /* borrowed; NULL = TCP */
        union {
                struct sockaddr any;
                struct sockaddr_in v4;
                struct sockaddr_in6 v6;
        } tcp;
        socklen_t bytes;
};

/* "unix:PATH", "PATH", "127.0.0.1:PORT", "[::1]:PORT". Other hosts are refused: there
 * is neither encryption nor a password. -EINVAL. */
int http_address_parse(const char *text, struct http_address *ret, struct err *e);
/* A socket in the file system has mode 0600 (listen.h). */
int http_address_listen(const struct http_address *a, struct listen_socket *ret, struct err *e);

#endif
