/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"

#define TAG_DEFAULT "default"

void snapshot_set(struct snapshot *s, const char *path, const char *tag,
                  const char *allow_parent)
{
        struct snapshot set = {
                .path = realpath(path, NULL),
                .allow_parent = allow_parent ? realpath(allow_parent, NULL) : NULL,
        };

        snprintf(set.tag, sizeof(set.tag), "%s", tag[0] ? tag : TAG_DEFAULT);
        snapshot_fini(s);
        *s = set;
}

void snapshot_fini(struct snapshot *s)
{
        free(s->path);
        free(s->allow_parent);
        *s = (struct snapshot){ 0 };
}

void snapshot_describe(const struct snapshot *s, struct json_object *o)
{
        if (!s->path)
                return;

        struct json_object *here = json_object_new_object();

        json_put_str(here, "image", s->path);
        json_put_str(here, "tag", s->tag);
        json_object_object_add(o, "snapshot", here);
}
