/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vsock-peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/unixsock.h"

#define CHUNK_BYTES (32u << 10)

int peer_connect(const char *path)
{
        int fd, rc = unixsock_connect(path, SOCK_STREAM | SOCK_NONBLOCK, &fd, NULL);

        return rc < 0 ? rc : fd;
}

static void server_path(char *buf, size_t room, const char *path, uint32_t port)
{
        snprintf(buf, room, "%s_%u", path, port);
}

int peer_listen(const char *path, uint32_t port)
{
        char name[108];
        int fd, rc;

        server_path(name, sizeof(name), path, port);
        rc = unixsock_listen(name, SOCK_STREAM, &fd, NULL);
        return rc < 0 ? rc : fd;
}

void peer_unlisten(const char *path, uint32_t port, int fd)
{
        char name[108];

        server_path(name, sizeof(name), path, port);
        unlink(name);
        close(fd);
}

int peer_accept(int listen_fd)
{
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        return fd < 0 ? -errno : fd;
}

bool peer_say(int fd, const char *text)
{
        return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

const char *peer_heard(int fd)
{
        static char text[256];
        ssize_t n = read(fd, text, sizeof(text) - 1);

        if (n == 0)
                return "EOF";
        if (n < 0)
                return errno == EAGAIN ? "" : strerror(errno);
        text[n] = '\0';
        return text;
}

int peer_join(struct vsock_guest *g, uint32_t guest_port, struct vsock_stream **ret)
{
        AUTO_FD fd = peer_connect(g->path);
        unsigned before = g->nstreams;
        char text[32];

        snprintf(text, sizeof(text), "CONNECT %u\n", guest_port);
        if (fd < 0 || !peer_say(fd, text))
                return -1;
        vsock_guest_run(g);
        if (g->nstreams != before + 1)
                return -1;
        *ret = vsock_guest_newest(g);
        snprintf(text, sizeof(text), "OK %u\n", (*ret)->host_port);
        if (strcmp(peer_heard(fd), text) != 0 || (*ret)->guest_port != guest_port)
                return -1;
        return fd_take(&fd);
}

int peer_serve(struct vsock_guest *g, uint32_t host_port, struct vsock_stream **ret)
{
        int listen_fd = peer_listen(g->path, host_port), fd;

        *ret = vsock_guest_connect(g, host_port);
        vsock_guest_run(g);
        fd = peer_accept(listen_fd);
        peer_unlisten(g->path, host_port, listen_fd);
        return fd >= 0 && (*ret)->open ? fd : -1;
}

/* ---- flows ---------------------------------------------------------------------- */

static uint32_t fill(const struct peer_flow *f, uint64_t total, uint8_t *chunk)
{
        uint32_t n = (uint32_t)MIN(total - f->sent, CHUNK_BYTES);

        for (uint32_t i = 0; i < n; i++)
                chunk[i] = peer_byte(f->seed, f->sent + i);
        return n;
}

static void check(struct peer_flow *f, const uint8_t *chunk, size_t n)
{
        for (size_t i = 0; i < n; i++)
                f->wrong |= chunk[i] != peer_byte(f->seed, f->heard + i);
        f->heard += n;
}

bool peer_push(int fd, struct peer_flow *f, uint64_t total)
{
        uint8_t chunk[CHUNK_BYTES];
        uint32_t n = fill(f, total, chunk);
        ssize_t sent = n ? send(fd, chunk, n, MSG_NOSIGNAL) : 0;

        f->sent += sent > 0 ? (uint64_t)sent : 0;
        return sent > 0;
}

bool peer_pull(int fd, struct peer_flow *f, size_t max_bytes)
{
        uint8_t chunk[CHUNK_BYTES];
        ssize_t n = read(fd, chunk, MIN(max_bytes, sizeof(chunk)));

        if (n > 0)
                check(f, chunk, (size_t)n);
        return n > 0;
}

bool peer_guest_push(struct vsock_guest *g, struct vsock_stream *s, struct peer_flow *f,
                     uint64_t total)
{
        uint8_t chunk[CHUNK_BYTES];
        uint32_t n = fill(f, total, chunk);
        uint32_t sent = n ? vsock_stream_write(g, s, chunk, n) : 0;

        f->sent += sent;
        return sent > 0;
}

bool peer_guest_pull(struct vsock_guest *g, struct vsock_stream *s, struct peer_flow *f)
{
        uint8_t chunk[CHUNK_BYTES];
        uint32_t n = vsock_stream_read(g, s, chunk, sizeof(chunk));

        check(f, chunk, n);
        return n > 0;
}
