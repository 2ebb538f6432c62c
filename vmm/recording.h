/* SPDX-License-Identifier: Apache-2.0 */
/* recording.h - how a thread that wants the record of first touches gets it from the
 * one that owns the connection to the page server.
 *
 * The server's record ends with the server: its successor sees only what was still
 * missing then, which is no working set. So what is lost stays lost.
 *
 * Threads: any. recording->lock is a leaf.
 */
#ifndef VMM_RECORDING_H
#define VMM_RECORDING_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/lock.h"

struct recording {
        struct lock lock;
        struct cond answered;
        bool on GUARDED_BY(lock);       /* a server records, or is to */
        bool wanted GUARDED_BY(lock);
        int fd GUARDED_BY(lock);        /* the answer; -1 = there is none yet */
};

/* on: first touches shall be recorded */
void recording_init(struct recording *r, bool on);
void recording_fini(struct recording *r);

/* the one that wants it */
void recording_ask(struct recording *r);
/* after that; bytes that nobody has looked at yet, the caller frees. -ESTALE: the server
 * was replaced; -ETIMEDOUT: it does not answer. */
int recording_wait(struct recording *r, void **ret, size_t *ret_bytes, struct err *e);

/* the one that owns the connection: is a server to record? */
bool recording_goes_on(struct recording *r);
/* is it to be asked? */
bool recording_wanted(struct recording *r);
/* takes the descriptor */
void recording_answer(struct recording *r, int *fd);
void recording_lose(struct recording *r);

#endif
