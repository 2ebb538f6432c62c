/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.h - where a VM's state is to be found: what it was last saved to, reverted
 * from or rolled back to.
 *
 * Ownership: in place; zeros = none. Threads: the owner's.
 */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include <json-c/json.h>

#include "qcowstore/store.h"

struct snapshot {
        char *path;                     /* absolute; NULL = none */
        char *allow_parent;             /* where its parents may lie too; NULL = nowhere */
        char tag[QS_TAG_MAX + 1];
};

/* tag "": the one that a save without a tag gives. Where the path cannot be had there is
 * no snapshot afterwards. */
void snapshot_set(struct snapshot *s, const char *path, const char *tag,
                  const char *allow_parent);
void snapshot_fini(struct snapshot *s);
/* "snapshot" into what `vmm info` prints, if there is one */
void snapshot_describe(const struct snapshot *s, struct json_object *o);

#endif
