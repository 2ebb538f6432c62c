/* SPDX-License-Identifier: Apache-2.0 */
/* queue.h - one split virtqueue (virtio 1.2, 2.7), the device's side of it.
 *
 * What the guest wrote (ring addresses, descriptors, indices) is checked here and nowhere
 * else: a struct vq_chain holds only memory inside RAM, and is bounded. A ring that breaks
 * the rules is broken for good: pop says -EBADMSG from then on, and the device asks for a
 * reset (virtio_device_broken()).
 *
 * Indirect descriptors and event indices are known. Touching guest memory may wait for a
 * page (page server) or for a save: never from the event loop (INV-LOOP).
 * Threads: one at a time; who uses a queue from several has a lock of his own.
 */
#ifndef VMM_VIRTIO_QUEUE_H
#define VMM_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/err.h"
#include "vmm/ram.h"

#define VQ_SIZE_MAX 256
/* A chain's pieces, both directions together. Linux's blk driver has 128 segments, its
 * net driver 19; a chain of more is refused. */
#define VQ_IOV_MAX 160

/* Plain, as it is saved. next_used is what guest memory has too; next_avail only we know. */
struct vq_state {
        uint16_t size;                  /* 0 = the guest has not set it */
        bool ready;
        uint64_t desc_gpa, avail_gpa, used_gpa;
        uint16_t next_avail;            /* the head that is taken next */
        uint16_t next_used;
        uint16_t signalled_used;        /* with event indices: where the last interrupt was */
        bool signalled_valid;
};

struct virtqueue {
        struct vq_state s;
        const struct ram *ram;
        bool event_idx;                 /* VIRTIO_F_EVENT_IDX was negotiated */
        bool indirect;                  /* VIRTIO_F_INDIRECT_DESC was */
        bool broken;
        bool kicks_off;                 /* vq_kicks_off() */
        /* while ready; inside RAM */
        const struct vring_desc *desc;
        const struct vring_avail *avail;
        struct vring_used *used;
        /* INV-TAKEN: a head is with the device once at most */
        bool taken[VQ_SIZE_MAX];
        uint16_t taken_head[VQ_SIZE_MAX];       /* by index in the available ring */
};

/* A request: first what the device reads, then what it writes. Its pieces are not empty; all
 * of them together have less than 4 GiB. A device has at most s.size requests at a time, each
 * with a head of its own below s.size (INV-TAKEN). */
struct vq_chain {
        uint16_t head;
        unsigned nout, nin;             /* pieces: iov[0..nout), iov[nout..nout+nin) */
        size_t out_bytes, in_bytes;
        struct iovec iov[VQ_IOV_MAX];
};

/* A request that is done. */
struct vq_done {
        uint16_t head;
        uint32_t written;
};

/* From q->s, event_idx and indirect: checks size, addresses and alignment and makes it usable;
 * no request is taken, kicks are on. Touches no guest memory. -EBADMSG if s.ready and they are
 * wrong (q is broken then). */
int vq_attach(struct virtqueue *q, const struct ram *ram, uint16_t size_max, struct err *e);
void vq_reset(struct virtqueue *q);

/* 1: *ret is the next request; 0: there is none, and the guest will kick when there is (unless
 * kicks are off); -EBADMSG: the ring is broken, *e says how. *ret is undefined but for 1. */
int vq_pop(struct virtqueue *q, struct vq_chain *ret, struct err *e);
/* The request taken last goes back, as if never taken. It was not pushed. Again for the one
 * taken before it, and so on. */
void vq_unpop(struct virtqueue *q);
/* A request that was taken is done, written bytes of its in part were filled. Visible to the
 * guest. Also while the ring is broken. */
void vq_push(struct virtqueue *q, uint16_t head, uint32_t written);
/* Several, of which the guest sees all or none. */
void vq_push_all(struct virtqueue *q, const struct vq_done *done, unsigned n);
/* After pushes: whether the guest wants an interrupt. Remembers that it was given. */
bool vq_wants_interrupt(struct virtqueue *q);
/* off: no kicks, please (a hint). on: true = requests came meanwhile, look again. */
void vq_kicks_off(struct virtqueue *q);
bool vq_kicks_on(struct virtqueue *q);

/* Copies between a chain's out (or in) part at offset and a buffer; bytes copied. */
size_t vq_read(const struct vq_chain *c, size_t offset, void *buf, size_t bytes);
size_t vq_write(const struct vq_chain *c, size_t offset, const void *buf, size_t bytes);
/* The pieces of [offset, offset+bytes) of the out (or in) part, cut off at its end; their
 * number, at most room. */
unsigned vq_out_pieces(const struct vq_chain *c, size_t offset, size_t bytes, struct iovec *ret,
                       unsigned room);
unsigned vq_in_pieces(const struct vq_chain *c, size_t offset, size_t bytes, struct iovec *ret,
                      unsigned room);

#endif
