/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "qcowstore/audit.h"
#include "qcowstore/imglock.h"

static void find_locked(struct audit *a, enum audit_kind kind, const char *text)
        REQUIRES(a->lock)
{
        if (kind == AUDIT_LEAK)
                a->report.leaks++;
        else
                a->report.corruptions++;
        if (a->listed > AUDIT_FINDINGS_MAX || !a->finding)
                return;
        if (a->listed++ == AUDIT_FINDINGS_MAX)
                text = "there are more findings, which are only counted";
        a->finding(a->finding_ctx, text);
}

void audit_find(struct audit *a, enum audit_kind kind, const char *fmt, ...)
{
        char text[ERR_TEXT_MAX];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        lock_acquire(&a->lock);
        find_locked(a, kind, text);
        lock_release(&a->lock);
}

int audit_absorb(struct audit *a, int rc, const struct err *why, struct err *e)
{
        if (rc == -EBADMSG) {
                audit_find(a, AUDIT_CORRUPTION, "%s", why->text);
                return 0;
        }
        if (rc < 0 && e)
                *e = *why;
        return rc;
}

/* As much as is looked at: L2 tables, the file, guest memory. */
static uint64_t work_bytes(const struct audit *a)
{
        const struct qs_image *m = a->image;
        uint64_t tables = m->hdr.l1_entries;
        uint64_t ours = 0;

        for (uint32_t i = 0; i < m->hdr.snapshots; i++) {
                tables += m->snapshots[i].l1_entries;
                ours += m->hdr.format_version && m->snapshots[i].ours;
        }
        return ((tables + ours * m->disk_clusters) << m->hdr.cluster_bits) +
               (a->contents && ours ? m->bound : 0);
}

static int make_room(struct audit *a, struct err *e)
{
        a->clusters = a->image->bound >> a->image->hdr.cluster_bits;
        a->refs = calloc(a->clusters, sizeof(*a->refs));
        a->stored = calloc(a->clusters, sizeof(*a->stored));
        a->ways = calloc(a->clusters, sizeof(*a->ways));
        a->marks = calloc(a->clusters, sizeof(*a->marks));
        if (!a->refs || !a->stored || !a->ways || !a->marks)
                return err_set(e, ENOMEM, "check '%s'", a->image->path);
        return 0;
}

static int audit_ours(struct audit *a, struct err *e)
{
        const struct qs_image *m = a->image;
        int rc = a->contents ? audit_bytes(a, e) : 0;

        if (rc == 0 && !m->hdr.changed)
                rc = audit_file(a, e);
        for (uint32_t i = 0; rc == 0 && i < m->hdr.snapshots; i++) {
                if (m->snapshots[i].ours || !m->hdr.changed)
                        rc = audit_tag(a, i, e);
        }
        if (rc == 0 && !m->hdr.changed && !a->incomplete)
                audit_guardians(a);
        return rc;
}

static int audit_image(struct audit *a, struct err *e)
{
        int rc = make_room(a, e);

        if (rc == 0)
                rc = audit_structure(a, e);
        return rc == 0 && a->image->hdr.format_version ? audit_ours(a, e) : rc;
}

static void fini(struct audit *a)
{
        lock_fini(&a->lock);
        free(a->refs);
        free(a->stored);
        free(a->ways);
        free(a->sums);
        free(a->marks);
        free(a->unpacked);
}

static void report(struct audit *a, struct qs_check_report *ret)
{
        lock_acquire(&a->lock);
        *ret = a->report;
        lock_release(&a->lock);
        ret->clusters_used = a->used;
        ret->clusters_checked = a->checked;
        ret->changed = a->image && a->image->hdr.changed;
}

/* All of the file is looked at, so all of it stays locked (INV-HEADER). */
static int open_all(int fd, const char *path, struct qs_image **ret, struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "open");
        m->fd = -1;
        *ret = m;

        int rc = image_open_tables(m, fd, path, e);

        if (rc == 0 && m->hdr.aes)
                rc = err_msg(e, ENOTSUP, "it is encrypted (AES)");
        return rc < 0 || m->hdr.format_version ? rc : image_open_native(m, NULL, e);
}

int qs_check(int fd, const char *path, bool contents, qs_finding_fn *finding, void *ctx,
             qs_progress_fn *progress, void *progress_ctx, struct qs_check_report *ret,
             struct err *e)
{
        struct audit a = { .contents = contents, .finding = finding, .finding_ctx = ctx };
        struct err why = { 0 };

        lock_init(&a.lock);

        int rc = open_all(fd, path, &a.image, &why);

        if (rc < 0)
                err_in(&why, rc, "image '%s'", path);
        if (rc == 0) {
                tally_init(&a.tally, progress, progress_ctx, work_bytes(&a));
                rc = audit_image(&a, e);
        } else {
                rc = audit_absorb(&a, rc, &why, e);
        }
        if (rc == 0)
                report(&a, ret);
        if (a.image && a.image->fd >= 0)
                imglock_tables_done(a.image->fd);
        qs_image_close(a.image);
        fini(&a);
        return rc;
}
