/* SPDX-License-Identifier: Apache-2.0 */
/* which content an open image stands for */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "qcowstore/image-priv.h"

static int layer_facts(struct qs_image *m, struct err *e)
{
        struct image_facts *f = &m->facts;
        struct stat st;

        f->dev = m->dev;
        f->ino = m->ino;
        if (m->snapshot)
                memcpy(f->tag, m->snapshot->tag, strlen(m->snapshot->tag));
        if (m->hdr.format_version) {
                memcpy(f->uuid, m->hdr.uuid, sizeof(f->uuid));
                f->toc_sum = m->snapshot->toc_sum;
                return 0;
        }
        if (fstat(m->fd, &st) < 0)
                return err_set(e, errno, "look at '%s'", m->path);
        f->bytes = (uint64_t)st.st_size;
        f->mtime_s = (uint64_t)st.st_mtim.tv_sec;
        f->mtime_ns = (uint64_t)st.st_mtim.tv_nsec;
        f->ctime_s = (uint64_t)st.st_ctim.tv_sec;
        f->ctime_ns = (uint64_t)st.st_ctim.tv_nsec;
        return 0;
}

int image_identify(struct qs_image *top, struct err *e)
{
        struct {
                uint8_t before[16];
                struct image_facts facts;
        } link = { 0 };

        for (struct qs_image *m = top; m; m = m->parent) {
                int rc = layer_facts(m, e);

                if (rc < 0)
                        return rc;
                link.facts = m->facts;

                XXH128_hash_t id = XXH3_128bits(&link, sizeof(link));

                static_assert(sizeof(id) == sizeof(link.before), "a hash fills an identity");
                memcpy(link.before, &id, sizeof(id));
        }
        memcpy(top->info.identity, link.before, sizeof(link.before));
        return 0;
}

bool qs_image_same(const struct qs_image *a, const struct qs_image *b)
{
        ASSERT(!a->parent || !a->parent->found_only);   /* INV-SETTLED */
        ASSERT(!b->parent || !b->parent->found_only);
        while (a && b && memcmp(&a->facts, &b->facts, sizeof(a->facts)) == 0) {
                a = a->parent;
                b = b->parent;
        }
        return !a && !b;
}
