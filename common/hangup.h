/* SPDX-License-Identifier: Apache-2.0 */
/* hangup.h - tells when a peer goes away of whom nothing is read for now.
 *
 * evhttp does not read from a connection whose request has no answer yet, so it learns of its
 * end only when it writes. This looks at the socket and takes nothing from it, whatever the
 * peer sends on. A peer that shuts down only its sending side has gone, too.
 *
 * Ownership: the socket stays the caller's, and nobody else's event waits for it meanwhile.
 * Threads: the loop's.
 */
#ifndef COMMON_HANGUP_H
#define COMMON_HANGUP_H

#include <event2/event.h>

struct hangup;
typedef void hangup_fn(void *ctx);

/* gone: once at most; the hangup may be freed in it. NULL: there is no memory to look, and the
 * peer is waited for whether it is there or not. */
struct hangup *hangup_new(struct event_base *base, int fd, hangup_fn *gone, void *ctx);
void hangup_free(struct hangup *h);

#endif
