/* SPDX-License-Identifier: Apache-2.0 */
/* parents that are found now and opened later
 *
 * Theory of operation
 *
 * Whoever hands a chain to somebody else who opens all of it, as a revert does to its page
 * server, needs of the parents only their descriptors: of each the header is read, for the
 * name of the next one, and compared with what its child says (image_check_kin). The other
 * one's opening checks it all and locks: locks are the open file's, which both have, so they
 * hold as long as one of them has it. Until RAM is read here, too, nothing else is needed.
 *
 * A settled parent replaces the found one; what fails leaves that in place, to try again.
 * The other one may open the files anew meanwhile (a page server that took over) and give
 * back byte 100 of a parent too early. Nobody adds to a parent unless he is forced to; and
 * who does so just then makes a sum wrong and this fail, which is no harm.
 *
 * INV-SETTLED: parents of a top are all found only, or all open, with facts and identity. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/lock.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"

struct later {
        struct lock lock;
        bool settled GUARDED_BY(lock);
};

int image_open_later(struct qs_image *top, struct err *e)
{
        top->later = calloc(1, sizeof(*top->later));
        if (!top->later)
                return err_set(e, ENOMEM, "open");
        lock_init(&top->later->lock);
        return 0;
}

void image_later_free(struct qs_image *top)
{
        if (top->later)
                lock_fini(&top->later->lock);
        free(top->later);
}

static bool same_name(const struct qs_image *a, const struct qs_image *b)
{
        if (!a->parent_name || !b->parent_name)
                return a->parent_name == b->parent_name;
        return strcmp(a->parent_name, b->parent_name) == 0;
}

/* INV-FOUND: so the next one might have another name by now */
static int settle_parent(struct qs_image *child, struct err *e)
{
        struct qs_image *found = child->parent;
        struct qs_image *m;
        int rc = image_open_layer(found->fd, found->path, NULL, &m, e);

        if (rc < 0) {
                imglock_tables_done(found->fd); /* the open file's, which stays */
                return err_in(e, rc, "parent '%s'", found->path);
        }
        rc = image_check_kin(child, m, e);
        if (rc == 0 && !same_name(found, m))
                rc = err_msg(e, EBADMSG, "the name of its parent '%s' was changed",
                             found->path);
        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        m->parent = ptr_take(&found->parent);
        m->before = found->before;
        child->parent = m;
        qs_image_close(found);
        return 0;
}

static int settle_locked(struct qs_image *top, struct err *e) REQUIRES(top->later->lock)
{
        int rc = 0;

        for (struct qs_image *m = top; rc == 0 && m->parent; m = m->parent) {
                if (m->parent->found_only)
                        rc = settle_parent(m, e);
        }
        if (rc == 0)
                rc = image_identify(top, e);
        top->later->settled = rc == 0;
        return rc < 0 ? err_in(e, rc, "image '%s'", top->path) : 0;
}

int qs_image_settle(struct qs_image *top, struct err *e)
{
        int rc = 0;

        if (!top->later)
                return 0;
        lock_acquire(&top->later->lock);
        if (!top->later->settled)
                rc = settle_locked(top, e);
        lock_release(&top->later->lock);
        return rc;
}
