/* SPDX-License-Identifier: Apache-2.0 */
/* what a delta says of the guest that it was saved from: the clusters it stores are
 * those that the guest wrote after it was reverted from the parent */
#include <errno.h>
#include <stdlib.h>

#include "common/auto.h"
#include "qcowstore/workset.h"

struct learned {
        struct qs_ram_range *set;
        size_t n;
        size_t room;
};

static int add(struct learned *l, uint64_t gpa, uint64_t bytes, struct err *e)
{
        struct qs_ram_range *last = l->n > 0 ? &l->set[l->n - 1] : NULL;

        if (last && last->gpa + last->bytes == gpa) {
                last->bytes += bytes;
                return 0;
        }
        if (l->n == QS_WORKING_SET_MAX)
                return err_msg(e, E2BIG, "it stores more than %u pieces of memory: that is no "
                               "working set", QS_WORKING_SET_MAX);
        if (l->n == l->room) {
                size_t room = l->room ? 2 * l->room : 64;
                struct qs_ram_range *more = reallocarray(l->set, room, sizeof(*more));

                if (!more)
                        return err_set(e, ENOMEM, "learn a working set");
                l->set = more;
                l->room = room;
        }
        l->set[l->n++] = (struct qs_ram_range){ gpa, bytes };
        return 0;
}

/* what the delta itself stores of the memory that L2 table i maps */
static int learn_table(struct learned *l, struct qs_image *m, uint64_t i, struct err *e)
{
        uint64_t n = layout_l2_entries(m->hdr.cluster_bits);
        const uint64_t *table;
        uint64_t offset;
        int rc = image_l2_table(m, i, &table, &offset, e);

        for (uint64_t k = 0; rc == 0 && table && k < n; k++) {
                uint64_t gpa = (i * n + k) << m->hdr.cluster_bits;
                struct l2entry entry;

                if (gpa >= m->disk_bytes)
                        break;
                if (!l2entry_decode(table[k], m->hdr.cluster_bits, m->bound, &entry) &&
                    entry.kind != L2_NONE)
                        rc = add(l, gpa, MIN(m->cluster_bytes, m->disk_bytes - gpa), e);
        }
        return rc;
}

int qs_working_set_learn(struct qs_image *m, struct qs_ram_range **ret, size_t *ret_n,
                         struct err *e)
{
        struct learned l = { 0 };
        int rc = 0;

        if (!m->hdr.format_version || !m->parent_name)
                return err_msg(e, EINVAL, "image '%s' is no delta: save one with 'vmm save "
                               "--backing'", m->path);
        for (uint64_t i = 0; rc == 0 && i < m->disk_l1; i++)
                rc = learn_table(&l, m, i, e);
        if (rc < 0) {
                free(l.set);
                return err_in(e, rc, "image '%s'", m->path);
        }
        *ret = l.set;
        *ret_n = l.n;
        return 0;
}
