/* SPDX-License-Identifier: Apache-2.0 */
/* Theory of operation
 *
 * The guest may write to all of the ring at any time, from other CPUs. So each field of it is
 * read exactly once, by a volatile or atomic access, into a value of ours; what is checked is
 * the value, and nothing is read again (INV-ONCE). What we rely on later (which heads were
 * taken, in which order) we keep ourselves.
 *
 * A walk ends: a table has as many steps as entries, tables do not nest, and a chain has at
 * most VQ_IOV_MAX pieces.
 *
 * Order. The guest's index of the available ring is read with acquire before what it covers;
 * ours of the used ring is written with release after what it covers. Whoever is about to sleep
 * says so (we: avail_event or a flag; the guest: used_event or a flag) and then looks at the
 * other's index again; whoever moved his index then looks whether the other sleeps. Either sees
 * what the other wrote if nobody's load overtakes his own store before it: these four are
 * sequentially consistent (INV-NOTICE).
 *
 * With event indices, asking for kicks means that avail_event is what we take next: a guest
 * whose index moves past it kicks. Not asking again is all there is to vq_kicks_off().
 * A pop that finds nothing asks, so that devices may just take all there is and return, and
 * so that a ring that was attached again asks anew, whatever guest memory says.
 */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "common/check.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian");
static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_used_elem) == 8,
              "the layout of a ring is fixed");

#define CHAIN_BYTES_MAX UINT32_MAX

/* The guest's; an indirect table may lie at any address. */
typedef volatile uint64_t __attribute__((aligned(1))) guest_word;

/* Where a chain's descriptors are: the ring's table, or an indirect one. */
struct table {
        const void *descs;
        uint32_t entries;
        bool indirect;
};

static size_t avail_bytes(uint16_t size)
{
        return offsetof(struct vring_avail, ring) + sizeof(uint16_t) * (size + 1u);
}

static size_t used_bytes(uint16_t size)
{
        return offsetof(struct vring_used, ring) + sizeof(struct vring_used_elem) * size +
               sizeof(uint16_t);
}

static const uint16_t *used_event(const struct virtqueue *q)
{
        return &q->avail->ring[q->s.size];
}

static uint16_t *avail_event(const struct virtqueue *q)
{
        return (uint16_t *)&q->used->ring[q->s.size];
}

static const void *ring_part(struct virtqueue *q, const char *what, uint64_t gpa, size_t bytes,
                             size_t align, struct err *e)
{
        const void *hva = ram_at(q->ram, gpa, bytes);

        if (hva && IS_ALIGNED(gpa, align))
                return hva;
        err_msg(e, EBADMSG, "the guest put a ring's %s at %#llx, which is %s", what,
                (unsigned long long)gpa, hva ? "not aligned" : "not inside its RAM");
        return NULL;
}

static int attach_ring(struct virtqueue *q, uint16_t size_max, struct err *e)
{
        const struct vq_state *s = &q->s;

        if (s->size == 0 || s->size > size_max || (s->size & (s->size - 1)))
                return err_msg(e, EBADMSG, "the guest wants a ring of %u entries, which is no "
                               "power of two up to %u", s->size, size_max);

        const void *desc = ring_part(q, "descriptors", s->desc_gpa,
                                     sizeof(struct vring_desc) * s->size, 16, e);
        const void *avail = desc ? ring_part(q, "available part", s->avail_gpa,
                                             avail_bytes(s->size), 2, e) : NULL;
        const void *used = avail ? ring_part(q, "used part", s->used_gpa,
                                             used_bytes(s->size), 4, e) : NULL;

        if (!used)
                return -EBADMSG;
        q->desc = desc;
        q->avail = avail;
        q->used = (struct vring_used *)used;
        return 0;
}

int vq_attach(struct virtqueue *q, const struct ram *ram, uint16_t size_max, struct err *e)
{
        struct virtqueue fresh = { .s = q->s, .ram = ram, .event_idx = q->event_idx,
                                   .indirect = q->indirect };

        ASSERT(size_max <= VQ_SIZE_MAX);
        *q = fresh;
        if (!q->s.ready)
                return 0;

        int rc = attach_ring(q, size_max, e);

        q->broken = rc < 0;
        return rc;
}

void vq_reset(struct virtqueue *q)
{
        *q = (struct virtqueue){ .ram = NULL };
}

static struct vring_desc fetch_desc(const struct table *t, uint16_t i)
{
        const guest_word *word = (const guest_word *)t->descs + 2u * i;
        uint64_t gpa = word[0], rest = word[1];         /* INV-ONCE */

        return (struct vring_desc){ .addr = gpa, .len = (uint32_t)rest,
                                    .flags = (uint16_t)(rest >> 32),
                                    .next = (uint16_t)(rest >> 48) };
}

static int add_piece(const struct virtqueue *q, const struct vring_desc *d, struct vq_chain *c,
                     struct err *e)
{
        bool in = d->flags & VRING_DESC_F_WRITE;
        unsigned n = c->nout + c->nin;
        void *hva = ram_at(q->ram, d->addr, d->len);

        if (n == VQ_IOV_MAX)
                return err_msg(e, EBADMSG, "it has more than %d pieces", VQ_IOV_MAX);
        if (!in && c->nin)
                return err_msg(e, EBADMSG, "a piece to read is behind one to write");
        if (d->len == 0)
                return err_msg(e, EBADMSG, "a piece of it is empty");
        if (!hva)
                return err_msg(e, EBADMSG, "its piece of %u bytes at %#llx is not inside RAM",
                               d->len, (unsigned long long)d->addr);
        if (d->len > CHAIN_BYTES_MAX - c->out_bytes - c->in_bytes)
                return err_msg(e, EBADMSG, "it has 4 GiB or more");

        c->iov[n] = (struct iovec){ .iov_base = hva, .iov_len = d->len };
        *(in ? &c->nin : &c->nout) += 1;
        *(in ? &c->in_bytes : &c->out_bytes) += d->len;
        return 0;
}

static int enter_indirect(const struct virtqueue *q, const struct vring_desc *d,
                          struct table *t, struct err *e)
{
        const void *hva = ram_at(q->ram, d->addr, d->len);

        if (!q->indirect)
                return err_msg(e, EBADMSG, "it is indirect, which was not negotiated");
        if (t->indirect)
                return err_msg(e, EBADMSG, "an indirect table of it has an indirect descriptor");
        if (d->flags & VRING_DESC_F_NEXT)
                return err_msg(e, EBADMSG, "its indirect descriptor has a next one");
        if (d->len == 0 || d->len % sizeof(struct vring_desc))
                return err_msg(e, EBADMSG, "its indirect table has %u bytes, not a multiple of "
                               "%zu", d->len, sizeof(struct vring_desc));
        if (!hva)
                return err_msg(e, EBADMSG, "its indirect table of %u bytes at %#llx is not "
                               "inside RAM", d->len, (unsigned long long)d->addr);
        *t = (struct table){ hva, d->len / (uint32_t)sizeof(struct vring_desc), true };
        return 0;
}

static int walk(const struct virtqueue *q, struct vq_chain *c, struct err *e)
{
        struct table t = { q->desc, q->s.size, false };
        uint32_t steps = 0;
        uint16_t at = c->head;

        for (;;) {
                if (at >= t.entries)
                        return err_msg(e, EBADMSG, "it goes on at descriptor %u of a table of %u",
                                       at, t.entries);
                if (steps++ == t.entries)
                        return err_msg(e, EBADMSG, "its descriptors form a loop");

                struct vring_desc d = fetch_desc(&t, at);

                if (d.flags & VRING_DESC_F_INDIRECT) {
                        int rc = enter_indirect(q, &d, &t, e);

                        if (rc < 0)
                                return rc;
                        at = 0;
                        steps = 0;
                        continue;
                }

                int rc = add_piece(q, &d, c, e);

                if (rc < 0)
                        return rc;
                if (!(d.flags & VRING_DESC_F_NEXT))
                        return 0;
                at = d.next;
        }
}

/* Returns the guest's index as it is afterwards. */
static uint16_t ask_for_kicks(struct virtqueue *q)
{
        if (q->event_idx)
                __atomic_store_n(avail_event(q), q->s.next_avail, __ATOMIC_SEQ_CST);
        else
                __atomic_store_n(&q->used->flags, 0, __ATOMIC_SEQ_CST);
        return __atomic_load_n(&q->avail->idx, __ATOMIC_SEQ_CST);       /* INV-NOTICE */
}

/* 1, 0 or -EBADMSG, as vq_pop(). */
static int next_head(struct virtqueue *q, uint16_t *ret_head, struct err *e)
{
        uint16_t next = q->s.next_avail;
        uint16_t end = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);

        if (end == next && !q->kicks_off)
                end = ask_for_kicks(q);
        if (end == next)
                return 0;
        if ((uint16_t)(end - next) > q->s.size)
                return err_msg(e, EBADMSG, "the guest's index of requests jumped from %u to %u, in "
                               "a ring of %u", next, end, q->s.size);

        uint16_t head = __atomic_load_n(&q->avail->ring[next & (q->s.size - 1)],
                                        __ATOMIC_RELAXED);

        if (head >= q->s.size)
                return err_msg(e, EBADMSG, "a request begins at descriptor %u of a ring of %u",
                               head, q->s.size);
        if (q->taken[head])
                return err_msg(e, EBADMSG, "the request at descriptor %u came again before it was "
                               "done", head);
        *ret_head = head;
        return 1;
}

static int take(struct virtqueue *q, struct vq_chain *ret, struct err *e)
{
        uint16_t head = 0;
        int rc = next_head(q, &head, e);

        if (rc <= 0)
                return rc;
        ret->head = head;
        ret->nout = ret->nin = 0;
        ret->out_bytes = ret->in_bytes = 0;
        rc = walk(q, ret, e);
        if (rc < 0)
                return err_in(e, rc, "the request at descriptor %u", head);
        q->taken_head[q->s.next_avail & (q->s.size - 1)] = head;
        q->taken[head] = true;
        q->s.next_avail++;
        return 1;
}

int vq_pop(struct virtqueue *q, struct vq_chain *ret, struct err *e)
{
        if (q->broken)
                return err_msg(e, EBADMSG, "the ring is broken until the guest resets its device");
        if (!q->used)
                return 0;

        int rc = take(q, ret, e);

        q->broken = rc < 0;
        return rc;
}

void vq_unpop(struct virtqueue *q)
{
        uint16_t last = (uint16_t)(q->s.next_avail - 1);
        uint16_t head = q->taken_head[last & (q->s.size - 1)];

        ASSERT(q->used && q->taken[head]);
        q->taken[head] = false;
        q->s.next_avail = last;
}

static void put_used(struct virtqueue *q, uint16_t head, uint32_t written)
{
        ASSERT(q->used && head < q->s.size && q->taken[head]);

        struct vring_used_elem *elem = &q->used->ring[q->s.next_used & (q->s.size - 1)];

        q->taken[head] = false;
        __atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
        __atomic_store_n(&elem->len, written, __ATOMIC_RELAXED);
        q->s.next_used++;
        /* all the way round without a look at used_event: it could not tell any more */
        if (q->s.next_used == q->s.signalled_used)
                q->s.signalled_valid = false;
}

void vq_push_all(struct virtqueue *q, const struct vq_done *done, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                put_used(q, done[i].head, done[i].written);
        __atomic_store_n(&q->used->idx, q->s.next_used, __ATOMIC_SEQ_CST);
}

void vq_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
        vq_push_all(q, &(struct vq_done){ head, written }, 1);
}

bool vq_wants_interrupt(struct virtqueue *q)
{
        if (!q->used)
                return false;
        if (!q->event_idx)                                              /* INV-NOTICE */
                return !(__atomic_load_n(&q->avail->flags, __ATOMIC_SEQ_CST) &
                         VRING_AVAIL_F_NO_INTERRUPT);

        uint16_t event = __atomic_load_n(used_event(q), __ATOMIC_SEQ_CST);
        bool wants = !q->s.signalled_valid ||
                     vring_need_event(event, q->s.next_used, q->s.signalled_used);

        q->s.signalled_used = q->s.next_used;
        q->s.signalled_valid = true;
        return wants;
}

void vq_kicks_off(struct virtqueue *q)
{
        q->kicks_off = true;
        if (q->used && !q->event_idx)
                __atomic_store_n(&q->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

bool vq_kicks_on(struct virtqueue *q)
{
        q->kicks_off = false;
        if (!q->used || q->broken)
                return false;
        return ask_for_kicks(q) != q->s.next_avail;
}

/* The pieces of [offset, offset+bytes) of iov[0..n). */
static unsigned cut(const struct iovec *iov, unsigned n, size_t offset, size_t bytes,
                    struct iovec *ret, unsigned room)
{
        unsigned k = 0;

        for (unsigned i = 0; i < n && bytes > 0 && k < room; i++) {
                if (offset >= iov[i].iov_len) {
                        offset -= iov[i].iov_len;
                        continue;
                }

                size_t part = MIN(bytes, iov[i].iov_len - offset);

                ret[k++] = (struct iovec){ .iov_base = (uint8_t *)iov[i].iov_base + offset,
                                           .iov_len = part };
                bytes -= part;
                offset = 0;
        }
        return k;
}

unsigned vq_out_pieces(const struct vq_chain *c, size_t offset, size_t bytes, struct iovec *ret,
                       unsigned room)
{
        return cut(c->iov, c->nout, offset, bytes, ret, room);
}

unsigned vq_in_pieces(const struct vq_chain *c, size_t offset, size_t bytes, struct iovec *ret,
                      unsigned room)
{
        return cut(c->iov + c->nout, c->nin, offset, bytes, ret, room);
}

size_t vq_read(const struct vq_chain *c, size_t offset, void *buf, size_t bytes)
{
        struct iovec piece;
        size_t done = 0;

        while (vq_out_pieces(c, offset + done, bytes - done, &piece, 1)) {
                memcpy((uint8_t *)buf + done, piece.iov_base, piece.iov_len);
                done += piece.iov_len;
        }
        return done;
}

size_t vq_write(const struct vq_chain *c, size_t offset, const void *buf, size_t bytes)
{
        struct iovec piece;
        size_t done = 0;

        while (vq_in_pieces(c, offset + done, bytes - done, &piece, 1)) {
                memcpy(piece.iov_base, (const uint8_t *)buf + done, piece.iov_len);
                done += piece.iov_len;
        }
        return done;
}
