/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-peer.h - the host's programs, for tests of vsock: clients of the socket at PATH and
 * servers at PATH_PORT. All descriptors are non-blocking. Threads: one. */
#ifndef TESTS_UNIT_VSOCK_PEER_H
#define TESTS_UNIT_VSOCK_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/unit/vsock-guest.h"

/* Connected; has said nothing. -errno */
int peer_connect(const char *path);
int peer_listen(const char *path, uint32_t port);
void peer_unlisten(const char *path, uint32_t port, int fd);
/* One that waits to be accepted; -EAGAIN: none */
int peer_accept(int listen_fd);
/* Says all of text. */
bool peer_say(int fd, const char *text);
/* What is there now, as text; "" = nothing, "EOF". Kept until the next call. */
const char *peer_heard(int fd);

/* A client whose CONNECT was answered with OK, and the guest's stream; -1. */
int peer_join(struct vsock_guest *g, uint32_t guest_port, struct vsock_stream **ret);
/* A stream that the guest asked for, and the descriptor of the server; -1. */
int peer_serve(struct vsock_guest *g, uint32_t host_port, struct vsock_stream **ret);

/* Byte number n of a stream with that seed. */
static inline uint8_t peer_byte(uint32_t seed, uint64_t n)
{
        return (uint8_t)((n * 167 + (n >> 8) * 13 + (n >> 16) * 7 + seed) & 0xff);
}

/* One direction of a stream: how far it is, and whether all were right. */
struct peer_flow {
        uint32_t seed;
        uint64_t sent, heard;
        bool wrong;
};

/* As much as goes now of [f->sent, total); by write() and read(), and by the guest. */
bool peer_push(int fd, struct peer_flow *f, uint64_t total);
bool peer_pull(int fd, struct peer_flow *f, size_t max_bytes);
bool peer_guest_push(struct vsock_guest *g, struct vsock_stream *s, struct peer_flow *f,
                     uint64_t total);
bool peer_guest_pull(struct vsock_guest *g, struct vsock_stream *s, struct peer_flow *f);

#endif
