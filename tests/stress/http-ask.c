/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/http-ask.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/auto.h"

#define PATIENCE_SECONDS 20
#define V4 "127.0.0.1:"

static int dial(const void *sa, socklen_t bytes, int family, bool wait)
{
        struct timeval patience = { .tv_sec = PATIENCE_SECONDS };
        AUTO_FD sock = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0);

        if (sock < 0 || connect(sock, sa, bytes) < 0)
                return -errno;
        setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        return fd_take(&sock);
}

int http_dial(const char *address, bool wait)
{
        struct sockaddr_in in = { .sin_family = AF_INET };
        struct sockaddr_un un = { .sun_family = AF_UNIX };

        if (!strncmp(address, V4, strlen(V4))) {
                in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                in.sin_port = htons((uint16_t)atoi(address + strlen(V4)));
                return dial(&in, sizeof(in), AF_INET, wait);
        }
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", address);
        return dial(&un, sizeof(un), AF_UNIX, wait);
}

char *http_read(int sock)
{
        size_t bytes = 0, room = 1 << 16;
        AUTO_FREE char *text = malloc(room);
        ssize_t n;

        while (text && (n = read(sock, text + bytes, room - bytes - 1)) > 0) {
                bytes += (size_t)n;
                if (room - bytes > 1)
                        continue;
                room *= 2;

                char *more = realloc(text, room);

                if (!more)
                        return NULL;
                text = more;
        }
        if (!text || bytes == 0)
                return NULL;
        text[bytes] = '\0';
        return ptr_take(&text);
}

char *http_ask(const char *address, const char *method, const char *path, const char *body)
{
        AUTO_FD sock = http_dial(address, true);
        AUTO_FREE char *request = NULL;
        const char *host = getenv("HTTP_ASK_HOST");
        int n;

        if (sock < 0)
                return NULL;
        n = asprintf(&request, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
                               "Content-Length: %zu\r\n\r\n%s",
                     method, path, host ? host : "localhost",
                     body ? strlen(body) : 0, body ? body : "");
        if (n < 0 || send(sock, request, (size_t)n, MSG_NOSIGNAL) != n)
                return NULL;
        return http_read(sock);
}

int http_status(const char *answer)
{
        int status;

        return answer && sscanf(answer, "HTTP/1.1 %d ", &status) == 1 ? status : 0;
}

const char *http_body(const char *answer)
{
        const char *end = strstr(answer, "\r\n\r\n");

        return end ? end + 4 : "";
}
