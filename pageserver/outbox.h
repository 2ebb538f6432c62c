/* SPDX-License-Identifier: Apache-2.0 */
/* outbox.h - what the workers have to tell a client, until the main thread sends it.
 *
 * Bounded: one of each kind, but several bad pages. A bad page that finds no room
 * is not lost for good: its thread still waits and faults anew at the next RETRY.
 * Nothing comes out before ATTACHED, so that the client's attach call needs to
 * understand one answer only.
 *
 * Threads: any. outbox->lock is a leaf.
 */
#ifndef PAGESERVER_OUTBOX_H
#define PAGESERVER_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/lock.h"
#include "common/wire/psmsg.h"

#define OUTBOX_BAD_PAGES_MAX 16

struct outbox {
        struct lock lock;
        unsigned flags GUARDED_BY(lock);        /* 1 << enum psmsg_type */
        bool open GUARDED_BY(lock);             /* ATTACHED has come out */
        unsigned bad GUARDED_BY(lock);
        struct psmsg_bad_page bad_page[OUTBOX_BAD_PAGES_MAX] GUARDED_BY(lock);
};

void outbox_init(struct outbox *o);
void outbox_fini(struct outbox *o);

/* type: ATTACHED, RESIDENT, STATS, RECORD or LEASED */
void outbox_put(struct outbox *o, enum psmsg_type type);
void outbox_put_bad_page(struct outbox *o, uint64_t gpa, const char *text);

/* The next to send; it stays until outbox_sent(). false = none. The caller fills
 * in what STATS, RECORD and LEASED carry. Main thread only. */
bool outbox_peek(struct outbox *o, struct psmsg *ret);
void outbox_sent(struct outbox *o, const struct psmsg *m);

#endif
