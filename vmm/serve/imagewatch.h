/* SPDX-License-Identifier: Apache-2.0 */
/* imagewatch.h - tells when a file is written, renamed or deleted, as far as the kernel does.
 *
 * A hint: who relies on the content looks himself. It is for letting go of what one has open,
 * which else takes space of the disk after its deletion.
 *
 * Threads: the loop's.
 */
#ifndef VMM_SERVE_IMAGEWATCH_H
#define VMM_SERVE_IMAGEWATCH_H

#include <event2/event.h>

struct imagewatch;

/* Once for each imagewatch_set(), at most; never from within. */
typedef void imagewatch_fn(void *ctx);

/* NULL: nothing can be watched here. */
struct imagewatch *imagewatch_new(struct event_base *base, imagewatch_fn *changed, void *ctx);
/* From now on this file, and no other; NULL = none. w may be NULL. */
void imagewatch_set(struct imagewatch *w, const char *path);
void imagewatch_free(struct imagewatch *w);

#endif
