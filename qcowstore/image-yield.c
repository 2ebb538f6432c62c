/* SPDX-License-Identifier: Apache-2.0 */
/* an image that waits, open, without being in the way of those who change it */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"

void qs_image_yield(struct qs_image *image)
{
        for (struct qs_image *m = image; m; m = m->parent) {
                ASSERT(!m->found_only);         /* its snapshot could not be locked again */
                imglock_none(m->fd);
        }
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Since it was opened. Whatever is done to a file sets its ctime: writes, other names, another
 * owner, its removal.
 * Two changes within a tick of the clock look like one: ours change the first sector too, and
 * what others do to a file of ours does not match its sums. */
static bool is_untouched(const struct qs_image *m)
{
        struct stat now;

        return fstat(m->fd, &now) == 0 && now.st_size == m->before.st_size &&
               same_time(&now.st_ctim, &m->before.st_ctim) &&
               same_time(&now.st_mtim, &m->before.st_mtim) && image_header_stands(m);
}

/* As when it was opened. INV-TAG: looked at once it is locked */
static int regain_layer(struct qs_image *m, struct err *e)
{
        uint32_t id;
        int rc = imglock_read(m->fd, e);

        if (rc == 0 && m->hdr.format_version && !m->hdr.changed)
                rc = image_lock_snapshot(m, &id, e);
        if (rc == 0 && !is_untouched(m))
                rc = err_msg(e, ESTALE, "it has been changed");
        return rc < 0 ? err_in(e, rc, "'%s'", m->path) : 0;
}

int qs_image_regain(struct qs_image *image, struct err *e)
{
        struct stat named;
        int rc = 0;

        if (stat(image->path, &named) < 0 || named.st_dev != image->before.st_dev ||
            named.st_ino != image->before.st_ino)
                return err_msg(e, ESTALE, "'%s' is another file now", image->path);
        for (struct qs_image *m = image; m && rc == 0; m = m->parent)
                rc = regain_layer(m, e);
        return rc;
}
