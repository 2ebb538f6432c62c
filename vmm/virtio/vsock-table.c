/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-table.h"

#include "common/check.h"

/* Host clients get ports from here on, as other monitors give them: out of the way of those
 * that programs listen at. */
#define PORT_FIRST (1u << 30)
#define PORT_LAST (PORT_FIRST * 2 - 1)

/* A guest that makes all of its streams fall into one bucket waits for a walk along
 * VSOCK_CONNS_MAX of them, on its own device's thread. */
static unsigned bucket_of(uint32_t guest_port, uint32_t host_port)
{
        return (guest_port * 31 + host_port) % VSOCK_BUCKETS;
}

void vsock_table_init(struct vsock_table *t)
{
        *t = (struct vsock_table){ .next_port = PORT_FIRST };
        TAILQ_INIT(&t->asking);
        TAILQ_INIT(&t->lingering);
        TAILQ_INIT(&t->turns);
}

bool vsock_table_full(const struct vsock_table *t)
{
        return t->count >= VSOCK_CONNS_MAX;
}

void vsock_table_add(struct vsock_table *t, struct vsock_conn *c)
{
        ASSERT(!vsock_table_full(t) && c->state != VSOCK_LINGERING);
        ASSERT(!vsock_table_find(t, c->guest_port, c->host_port));
        LIST_INSERT_HEAD(&t->bucket[bucket_of(c->guest_port, c->host_port)], c, by_ports);
        if (c->state == VSOCK_ASKING)
                TAILQ_INSERT_TAIL(&t->asking, c, waiting);
        t->count++;
}

void vsock_table_answered(struct vsock_table *t, struct vsock_conn *c)
{
        ASSERT(c->state == VSOCK_OPEN);
        TAILQ_REMOVE(&t->asking, c, waiting);
}

void vsock_table_linger(struct vsock_table *t, struct vsock_conn *c)
{
        ASSERT(c->state == VSOCK_LINGERING);
        LIST_REMOVE(c, by_ports);
        vsock_table_unqueue(t, c);
        TAILQ_INSERT_TAIL(&t->lingering, c, waiting);
}

void vsock_table_remove(struct vsock_table *t, struct vsock_conn *c)
{
        vsock_table_unqueue(t, c);
        if (c->state == VSOCK_LINGERING)
                TAILQ_REMOVE(&t->lingering, c, waiting);
        else
                LIST_REMOVE(c, by_ports);
        if (c->state == VSOCK_ASKING)
                TAILQ_REMOVE(&t->asking, c, waiting);
        ASSERT(t->count > 0);
        t->count--;
}

struct vsock_conn *vsock_table_find(const struct vsock_table *t, uint32_t guest_port,
                                    uint32_t host_port)
{
        struct vsock_conn *c;

        LIST_FOREACH(c, &t->bucket[bucket_of(guest_port, host_port)], by_ports) {
                if (c->guest_port == guest_port && c->host_port == host_port)
                        return c;
        }
        return NULL;
}

struct vsock_conn *vsock_table_any(const struct vsock_table *t)
{
        struct vsock_conn *c = TAILQ_FIRST(&t->lingering);

        for (unsigned i = 0; !c && i < VSOCK_BUCKETS; i++)
                c = LIST_FIRST(&t->bucket[i]);
        return c;
}

uint32_t vsock_table_new_port(struct vsock_table *t, uint32_t guest_port)
{
        uint32_t port;

        /* ends: there are far more ports than streams */
        do {
                port = t->next_port;
                t->next_port = port == PORT_LAST ? PORT_FIRST : port + 1;
        } while (vsock_table_find(t, guest_port, port));
        return port;
}

void vsock_table_queue(struct vsock_table *t, struct vsock_conn *c)
{
        if (c->has_turn)
                return;
        c->has_turn = true;
        TAILQ_INSERT_TAIL(&t->turns, c, turn);
}

void vsock_table_unqueue(struct vsock_table *t, struct vsock_conn *c)
{
        if (!c->has_turn)
                return;
        c->has_turn = false;
        TAILQ_REMOVE(&t->turns, c, turn);
}
