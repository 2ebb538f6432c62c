/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/outbox.h"

#include <stdio.h>
#include <string.h>

#include "common/check.h"

/* first things first */
static const enum psmsg_type order[] = {
        PSMSG_ATTACHED, PSMSG_BAD_PAGE, PSMSG_RESIDENT, PSMSG_STATS, PSMSG_RECORD,
        PSMSG_LEASED,
};

void outbox_init(struct outbox *o)
{
        memset(o, 0, sizeof(*o));
        lock_init(&o->lock);
}

void outbox_fini(struct outbox *o)
{
        lock_fini(&o->lock);
}

void outbox_put(struct outbox *o, enum psmsg_type type)
{
        lock_acquire(&o->lock);
        o->flags |= 1u << type;
        lock_release(&o->lock);
}

void outbox_put_bad_page(struct outbox *o, uint64_t gpa, const char *text)
{
        lock_acquire(&o->lock);
        if (o->bad < OUTBOX_BAD_PAGES_MAX) {
                struct psmsg_bad_page *b = &o->bad_page[o->bad++];

                b->gpa = gpa;
                snprintf(b->text, sizeof(b->text), "%s", text);
                o->flags |= 1u << PSMSG_BAD_PAGE;
        }
        lock_release(&o->lock);
}

static bool peek_locked(struct outbox *o, struct psmsg *ret) REQUIRES(o->lock)
{
        for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
                if (!(o->flags & 1u << order[i]))
                        continue;
                if (!o->open && order[i] != PSMSG_ATTACHED)
                        continue;
                ret->type = order[i];
                if (order[i] == PSMSG_BAD_PAGE)
                        ret->bad_page = o->bad_page[0];
                return true;
        }
        return false;
}

bool outbox_peek(struct outbox *o, struct psmsg *ret)
{
        lock_acquire(&o->lock);
        bool any = peek_locked(o, ret);
        lock_release(&o->lock);
        return any;
}

void outbox_sent(struct outbox *o, const struct psmsg *m)
{
        lock_acquire(&o->lock);
        if (m->type == PSMSG_ATTACHED)
                o->open = true;
        if (m->type == PSMSG_BAD_PAGE) {
                o->bad--;
                memmove(&o->bad_page[0], &o->bad_page[1], o->bad * sizeof(o->bad_page[0]));
        }
        if (m->type != PSMSG_BAD_PAGE || o->bad == 0)
                o->flags &= ~(1u << m->type);
        lock_release(&o->lock);
}
