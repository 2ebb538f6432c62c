/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/keep-gate.h"

#include <stdatomic.h>
#include <stddef.h>

#include "common/check.h"
#include "vmm/disk/keep-priv.h"

void keep_gate_init(struct keep_gate *g)
{
        *g = (struct keep_gate){ .keep = NULL };
        lock_init(&g->lock);
        cond_init(&g->passed);
}

void keep_gate_fini(struct keep_gate *g)
{
        ASSERT(!g->keep);
        cond_fini(&g->passed);
        lock_fini(&g->lock);
}

/* What is going to be looked at, with leave() after; NULL: nothing any more, and no leave(). */
static struct disk_keep *enter(struct keep_gate *g)
{
        struct disk_keep *k;

        lock_acquire(&g->lock);
        k = g->keep;
        if (k)
                g->inside++;
        lock_release(&g->lock);
        return k;
}

static void leave(struct keep_gate *g)
{
        lock_acquire(&g->lock);
        if (--g->inside == 0)
                cond_broadcast(&g->passed);
        lock_release(&g->lock);
}

void keep_gate_pass(struct keep_gate *g, uint64_t offset, uint64_t bytes)
{
        struct disk_keep *k = atomic_load_explicit(&g->keep, memory_order_acquire);

        if (!k)
                return;
        k = enter(g);
        if (!k)
                return;
        keep_before_write(k, offset, bytes);
        leave(g);
}

void keep_gate_close(struct keep_gate *g, struct disk_keep *k)
{
        ASSERT(!g->keep);
        g->keep = k;
}

void keep_gate_open(struct keep_gate *g)
{
        lock_acquire(&g->lock);
        g->keep = NULL;
        while (g->inside > 0)
                cond_wait(&g->passed, &g->lock);
        lock_release(&g->lock);
}
