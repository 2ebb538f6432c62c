/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-table.h - the streams of one vsock device: found by their ports, in the order in which
 * they are heard by the guest, and in that in which they have waited.
 *
 * Ownership: it has what was added until it is removed. Threads: the device's loop.
 * Errors: none can fail; there is room unless vsock_table_full().
 */
#ifndef VMM_VIRTIO_VSOCK_TABLE_H
#define VMM_VIRTIO_VSOCK_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "vmm/virtio/vsock-conn.h"

/* A stream costs a descriptor, two watches and, when its host is slow, VSOCK_BUFFER_BYTES:
 * 64 MiB for all of them at worst. */
#define VSOCK_CONNS_MAX 1024
#define VSOCK_BUCKETS 256

/* Plain; all zero but for vsock_table_init(). */
struct vsock_table {
        unsigned count;                                 /* lingering ones too */
        uint32_t next_port;
        LIST_HEAD(, vsock_conn) bucket[VSOCK_BUCKETS];
        TAILQ_HEAD(vsock_waiting, vsock_conn) asking, lingering;        /* oldest first */
        TAILQ_HEAD(, vsock_conn) turns;                 /* next first */
};

void vsock_table_init(struct vsock_table *t);
bool vsock_table_full(const struct vsock_table *t);
/* Not full, its ports not taken, ASKING or OPEN. */
void vsock_table_add(struct vsock_table *t, struct vsock_conn *c);
/* The caller frees it. */
void vsock_table_remove(struct vsock_table *t, struct vsock_conn *c);
/* vsock_conn_linger(): counts still, but its ports are free. */
void vsock_table_linger(struct vsock_table *t, struct vsock_conn *c);
/* It is OPEN now. */
void vsock_table_answered(struct vsock_table *t, struct vsock_conn *c);

/* NULL = none with these ports. */
struct vsock_conn *vsock_table_find(const struct vsock_table *t, uint32_t guest_port,
                                    uint32_t host_port);
/* NULL = none; any, to free them all. */
struct vsock_conn *vsock_table_any(const struct vsock_table *t);
/* A port of the host's that no stream to guest_port has. */
uint32_t vsock_table_new_port(struct vsock_table *t, uint32_t guest_port);

/* In line behind all others; again does nothing. */
void vsock_table_queue(struct vsock_table *t, struct vsock_conn *c);
/* Out of the line. */
void vsock_table_unqueue(struct vsock_table *t, struct vsock_conn *c);

#endif
