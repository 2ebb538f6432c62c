/* SPDX-License-Identifier: Apache-2.0 */
/* what a snapshot holds beside RAM, and which snapshots there are */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"
#include "qcowstore/sum.h"

static int read_section(struct qs_image *m, const struct section *s, uint8_t *data,
                        struct err *e)
{
        int rc = image_state_read(m, s->offset, data, s->bytes, e);

        if (rc < 0)
                return rc;
        if (sum_bytes(data, s->bytes, m->hdr.hash_seed) != s->sum)
                return err_msg(e, EBADMSG, "its data do not match their checksum: the file is "
                               "damaged");
        data[s->bytes] = '\0';
        return 0;
}

int qs_section_read(struct qs_reader *r, const char *name, void **ret_data, size_t *ret_bytes,
                    struct err *e)
{
        struct qs_image *m = image_of_reader(r);
        const struct section *s = sectoc_find(&m->toc, name);

        if (!s || s->flags & SECTION_TREE)
                return err_msg(e, ENOENT, "image '%s' has no section '%s'", m->path, name);

        AUTO_FREE uint8_t *data = malloc(s->bytes + 1);

        if (!data)
                return err_set(e, ENOMEM, "image '%s', section '%s'", m->path, name);

        int rc = read_section(m, s, data, e);

        if (rc < 0)
                return err_in(e, rc, "image '%s', section '%s'", m->path, name);
        *ret_data = ptr_take(&data);
        *ret_bytes = s->bytes;
        return 0;
}

int qs_snapshot_list(int fd, const char *path, struct qs_snapshot_info **ret, size_t *ret_n,
                     struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "image '%s'", path);
        m->fd = -1;

        int rc = image_open_tables(m, fd, path, e);
        size_t n = rc == 0 ? m->hdr.snapshots : 0;
        struct qs_snapshot_info *list = calloc(n + 1, sizeof(*list));

        if (rc == 0 && !list)
                rc = err_set(e, ENOMEM, "list snapshots");
        for (size_t i = 0; rc == 0 && i < n; i++) {
                const struct snapshot *s = &m->snapshots[i];

                memcpy(list[i].id, s->id, sizeof(list[i].id));
                memcpy(list[i].tag, s->tag, sizeof(list[i].tag));
                list[i].date_ns = s->date_ns;
                list[i].vm_clock_ns = s->vm_clock_ns;
                list[i].state_bytes = s->state_bytes;
                list[i].changed = m->hdr.changed;
                list[i].is_default = i == (m->hdr.format_version ? m->hdr.default_snapshot
                                                                 : n - 1);
        }
        if (rc == 0 && m->hdr.format_version)
                imglock_tables_done(m->fd);
        qs_image_close(m);
        if (rc < 0) {
                free(list);
                return err_in(e, rc, "image '%s'", path);
        }
        *ret = list;
        *ret_n = n;
        return 0;
}
