/* SPDX-License-Identifier: Apache-2.0 */
/* A revert that is begun before it is asked for.
 *
 * Theory of operation
 *
 * Everything that depends on the image alone is done: its tables and META are read, its state
 * is read and parsed, a private page server has opened it too, RAM is mapped, registered and
 * attached. Nothing is loaded, and no thread looks at the server: that is left to
 * pager_adopt(), which finds out whether it still lives.
 *
 * INV-CLAIM: a guest sees nothing of what was read ahead unless the image, with all its
 *            parents, was found as it was left after it had been locked again. (A page server
 *            that has died is replaced only after that, so none opens what nobody has locked.)
 *
 * The locks belong to the open files, which the page server shares (qcowstore/imglock.h): ours
 * are its.
 */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "vmm/revert-priv.h"

/* What it costs to have been wrong, or the host has too little of, is not done ahead; nor what
 * somebody else holds for us meanwhile. */
static bool may_be_foreseen(const struct revert_options *o)
{
        return o->postcopy && !o->hold_percent && !o->hugepages && !o->record &&
               !o->pageserver && !o->allow_parent;
}

static bool same_text(const char *a, const char *b)
{
        return a && b ? !strcmp(a, b) : a == b;
}

static bool same_wish(const struct revert_options *a, const struct revert_options *b)
{
        return may_be_foreseen(b) && same_text(a->image_path, b->image_path) &&
               same_text(a->tag, b->tag) && a->lane == b->lane &&
               a->prefetch_rate == b->prefetch_rate;
}

int revert_foresee(const struct revert_options *options, struct revert **ret, struct err *e)
{
        if (!may_be_foreseen(options))
                return err_msg(e, EINVAL, "a revert of this kind is not begun before it is "
                               "asked for");
        return revert_look(options, ret, e);
}

int revert_ahead(struct revert *r, const struct kvm *kvm, struct ram *ram,
                 struct ps_client *server, struct err *e)
{
        const struct restore from = {
                .from = r->options.image_path, .meta = &r->meta, .section = revert_section,
                .ctx = r,
        };

        ASSERT(kvm->cpus == r->meta.cpus && ram->bytes == r->meta.memory_bytes);

        int rc = revert_new_pager(r, server, NULL, &r->pager, e);

        if (rc == 0)
                rc = restore_read(&from, kvm, &r->docs, e);
        if (rc == 0)
                rc = pager_serve(r->pager, ram, e);
        if (rc == 0)                    /* there is time, and parents are to be locked again */
                rc = qs_image_settle(r->image, e);
        if (rc == 0)
                qs_image_yield(r->image);
        return rc;
}

int revert_claim(struct revert *r, const struct revert_options *options, struct err *e)
{
        ASSERT(r->pager && r->docs.state);
        if (!same_wish(&r->options, options))
                return err_msg(e, ESTALE, "another revert was foreseen");

        int rc = qs_image_regain(r->image, e);

        if (rc < 0)
                return err_in(e, -ESTALE, "what was read ahead");
        r->options = *options;
        rc = revert_change_machine(r, e);
        r->opened_ns = clock_now_ns();
        return rc;
}
