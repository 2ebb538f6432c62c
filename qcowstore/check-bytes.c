/* SPDX-License-Identifier: Apache-2.0 */
/* reading clusters, several threads at a time; sums of all that are in use */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/auto.h"
#include "qcowstore/audit.h"
#include "qcowstore/crew.h"
#include "qcowstore/sum.h"

/* taken by a thread at once */
#define WINDOW_BYTES (1u << 20)

static int run_windows(struct audit_pass *pass, struct qs_reader *r, struct err *e)
{
        unsigned bits = pass->a->image->hdr.cluster_bits;
        AUTO_FREE uint8_t *buf = malloc(pass->window << bits);
        int rc = buf ? 0 : err_set(e, ENOMEM, "check '%s'", pass->a->image->path);

        while (rc == 0 && !pass->failed) {
                uint64_t first = atomic_fetch_add(&pass->next, 1) * pass->window;
                uint64_t end = MIN(first + pass->window, pass->clusters);

                if (first >= pass->clusters)
                        break;
                rc = pass->step(pass, r, buf, first, end, e);
                if (rc == 0)
                        rc = tally_add(&pass->a->tally, (end - first) << bits, e);
        }
        return rc;
}

/* fails only with what is not a finding */
static int worker(void *ctx, struct err *e)
{
        struct audit_pass *pass = ctx;
        struct qs_reader *r = NULL;
        int rc = pass->image ? qs_reader_new(pass->image, &r, e) : 0;

        if (rc == 0)
                rc = run_windows(pass, r, e);
        qs_reader_free(r);
        if (rc < 0)
                pass->failed = true;
        return rc;
}

int audit_run(struct audit_pass *pass, struct err *e)
{
        pass->window = MAX(WINDOW_BYTES >> pass->a->image->hdr.cluster_bits, 1);

        uint64_t windows = DIV_ROUND_UP(pass->clusters, pass->window);

        return crew_run((unsigned)MIN(crew_size(0), MAX(windows, 1)), false, worker, pass, e);
}

/* Runs of clusters that some tag may guard. */
static int sum_window(struct audit_pass *pass, struct qs_reader *r, uint8_t *buf, uint64_t first,
                      uint64_t end, struct err *e)
{
        struct audit *a = pass->a;
        const struct qs_image *m = a->image;
        unsigned bits = m->hdr.cluster_bits;

        (void)r;
        while (first < end) {
                uint64_t n = 0;
                struct err why = { 0 };

                while (first + n < end && a->refs[first + n] &&
                       !audit_marked(a, first + n, MARK_FILE))
                        n++;
                if (n == 0) {
                        first++;
                        continue;
                }

                int rc = image_pread(m, buf, n << bits, first << bits, "a host cluster", &why);

                if (rc < 0)
                        return audit_absorb(a, rc, &why, e);
                for (uint64_t i = 0; i < n; i++)
                        a->sums[first + i] = sum_bytes(buf + (i << bits), m->cluster_bytes,
                                                       m->hdr.hash_seed);
                first += n;
        }
        return 0;
}

int audit_bytes(struct audit *a, struct err *e)
{
        struct audit_pass pass = { .a = a, .clusters = a->clusters, .step = sum_window };

        a->sums = calloc(a->clusters, sizeof(*a->sums));
        if (!a->sums)
                return err_set(e, ENOMEM, "check '%s'", a->image->path);
        return audit_run(&pass, e);
}

int audit_slack(struct audit *a, uint64_t from, const char *what, struct err *e)
{
        const struct qs_image *m = a->image;
        uint64_t bytes = ALIGN_UP(from, m->cluster_bytes) - from;
        AUTO_FREE uint8_t *buf = malloc(bytes + 1);
        struct err why = { 0 };

        if (!buf)
                return err_set(e, ENOMEM, "check '%s'", m->path);

        int rc = image_pread(m, buf, bytes, from, what, &why);

        if (rc < 0)
                return audit_absorb(a, rc, &why, e);
        if (!sum_all_zero(buf, bytes))
                audit_find(a, AUDIT_CORRUPTION, "there are bytes behind %s", what);
        return 0;
}

void audit_guardians(struct audit *a)
{
        for (uint64_t i = 0; i < a->clusters; i++) {
                if (a->refs[i] && !audit_marked(a, i, MARK_FILE | MARK_COMPARED))
                        audit_find(a, AUDIT_CORRUPTION, "host cluster %llu is in use, but no "
                                   "checksum guards it", (unsigned long long)i);
        }
}
