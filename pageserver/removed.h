/* SPDX-License-Identifier: Apache-2.0 */
/* removed.h - which pages a client gave back (MADV_DONTNEED, balloon), of clients
 * whose userfaultfds report UFFD_EVENT_REMOVE.
 *
 * Such a page is zeros from then on, whatever the image has there. The kernel says
 * so by a message; between the reading of it and the marking here another worker
 * could still put the image's bytes there, for nothing in the kernel holds it up any
 * more. So messages are read and marked with the change lock held alone, and pages
 * are looked up and installed with it shared.
 *
 * INV-REMOVED: a page that is marked never gets bytes of the image again.
 * INV-UNREAD:  messages are read into the file, not onto the stack: one that was read by
 *              a server that died before it could mark is still there for the next
 *              (INV-REATTACH). Marking twice does no harm, a mark is for ever.
 *
 * Ownership: the session's. The file is a sealed memfd that its client may keep.
 * Threads:   any.
 */
#ifndef PAGESERVER_REMOVED_H
#define PAGESERVER_REMOVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"
#include "pageserver/regions.h"

struct uffd_msg;
struct removed;

/* messages of one read; a slot for each worker */
#define REMOVED_SLOT_MESSAGES 16
#define REMOVED_SLOTS 64

/* Pages of 1 << page_bits bytes. fd: of an earlier server, duplicated; -1 = a new one.
 * -EBADMSG when it is not what a server made for such a client. */
int removed_open(uint64_t pages, unsigned page_bits, int fd, struct removed **ret,
                 struct err *e);
void removed_free(struct removed *r);
/* borrowed */
int removed_fd(const struct removed *r);

/* Where worker reads its messages to: REMOVED_SLOT_MESSAGES of them. */
struct uffd_msg *removed_slot(struct removed *r, unsigned worker);
/* Marks what an earlier server had read; before anything is served. */
void removed_replay(struct removed *r, const struct regions *regions);

/* The change lock: alone for reading and marking, shared for installing. */
void removed_lock_alone(struct removed *r);
void removed_unlock_alone(struct removed *r);
void removed_lock_shared(struct removed *r);
/* for the main thread: false when someone has it alone, who may hang */
bool removed_trylock_shared(struct removed *r);
void removed_unlock_shared(struct removed *r);

/* alone: pages of the client's [hva, end_hva) that regions hold */
void removed_mark(struct removed *r, const struct regions *regions, uint64_t hva,
                  uint64_t end_hva);
/* also without the lock, to save work: a page may be marked a moment later */
bool removed_test(const struct removed *r, uint64_t gpa);
/* shared: the first run of pages in [gpa, end_gpa) that are not marked; false = none */
bool removed_next_kept(const struct removed *r, uint64_t gpa, uint64_t end_gpa,
                       uint64_t *ret_gpa, uint64_t *ret_end_gpa);
uint64_t removed_bytes(const struct removed *r);

#endif
