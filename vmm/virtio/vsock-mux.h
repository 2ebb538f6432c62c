/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-mux.h - all streams of a vsock device: what the guest says goes to the right one, and
 * what they have to say to the guest is lined up.
 *
 * Theory of operation
 *
 * What is to be said is bounded: a stream has a set of news (vsock-conn.c), and refusals of
 * what is no stream of ours lie in a ring; a guest that does not take them loses some. Each
 * stream with news has its turn, one packet at a time. Refusals go first.
 *
 * Ownership: streams, and the host's side with the socket file (vsock-host.h).
 * Threads: new, free: one that has nobody beside it; stats: any; the others on the device's loop.
 */
#ifndef VMM_VIRTIO_VSOCK_MUX_H
#define VMM_VIRTIO_VSOCK_MUX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/virtio/loop.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/vsock-packet.h"

struct vsock_mux;

struct vsock_mux_ops {
        /* From the loop: vsock_mux_has_news(), after it had none. */
        void (*news)(void *ctx);
        void *ctx;
};

int vsock_mux_new(uint32_t cid, const char *path, const struct vsock_mux_ops *ops,
                  struct vsock_mux **ret, struct err *e);
/* Stopped. NULL is fine. */
void vsock_mux_free(struct vsock_mux *m);

/* Host clients are heard from here on; the guest stands still. */
int vsock_mux_start(struct vsock_mux *m, struct virtio_loop *loop, struct err *e);
/* Ends all. */
void vsock_mux_stop(struct vsock_mux *m);
/* The guest can answer, or not: whoever waits for it has the whole time when it goes on. */
void vsock_mux_guest_runs(struct vsock_mux *m, bool runs);
/* The guest knows of no stream: ends them all, says nothing. */
void vsock_mux_forget(struct vsock_mux *m);

struct vsock_mux_stats {
        uint64_t connections;           /* now */
        uint64_t opened;
        uint64_t refused;               /* of the guest's, by nobody or who may not */
        uint64_t to_guest_bytes, to_host_bytes;
};
/* From any thread, at any time. */
void vsock_mux_stats(const struct vsock_mux *m, struct vsock_mux_stats *ret);

/* A packet of the guest's; done with it on return. */
void vsock_mux_hear(struct vsock_mux *m, const struct vq_chain *request);
bool vsock_mux_has_news(const struct vsock_mux *m);
/* What the guest is to hear next: the payload is in request, behind the header's place, the
 * header is in *ret. false: nothing, after all. */
bool vsock_mux_say(struct vsock_mux *m, const struct vq_chain *request,
                   struct vsock_packet *ret);

#endif
