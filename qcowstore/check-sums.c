/* SPDX-License-Identifier: Apache-2.0 */
/* bytes against sums, several threads at a time */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/auto.h"
#include "qcowstore/audit.h"
#include "qcowstore/crew.h"
#include "qcowstore/sum.h"

typedef unsigned long long ull;

/* taken by a thread at once */
#define WINDOW_BYTES (1u << 20)

/* A pass over all windows; step looks at clusters [first, end). */
struct pass {
        struct audit *a;
        bool contents;
        uint64_t clusters;
        uint64_t window;                /* clusters */
        int (*step)(struct pass *pass, struct qs_reader *r, uint8_t *buf, uint64_t first,
                    uint64_t end, struct err *e);
        _Atomic uint64_t next;
        _Atomic bool failed;
};

static int run_windows(struct pass *pass, struct qs_reader *r, struct err *e)
{
        AUTO_FREE uint8_t *buf = malloc(pass->window << pass->a->image->hdr.cluster_bits);
        int rc = buf ? 0 : err_set(e, ENOMEM, "check '%s'", pass->a->image->path);

        while (rc == 0 && !pass->failed) {
                uint64_t first = atomic_fetch_add(&pass->next, 1) * pass->window;
                uint64_t end = MIN(first + pass->window, pass->clusters);

                if (first >= pass->clusters)
                        break;
                rc = pass->step(pass, r, buf, first, end, e);
                if (rc == 0)
                        rc = tally_add(&pass->a->tally,
                                       (end - first) << pass->a->image->hdr.cluster_bits, e);
        }
        return rc;
}

/* fails only with what is not a finding */
static int worker(void *ctx, struct err *e)
{
        struct pass *pass = ctx;
        struct qs_reader *r = NULL;
        int rc = qs_reader_new(pass->a->image, &r, e);

        if (rc == 0)
                rc = run_windows(pass, r, e);
        qs_reader_free(r);
        if (rc < 0)
                pass->failed = true;
        return rc;
}

static int run_pass(struct pass *pass, struct err *e)
{
        unsigned bits = pass->a->image->hdr.cluster_bits;

        pass->window = MAX(WINDOW_BYTES >> bits, 1);

        uint64_t windows = DIV_ROUND_UP(pass->clusters, pass->window);

        return crew_run((unsigned)MIN(crew_size(0), MAX(windows, 1)), worker, pass, e);
}

/* Who guards this cluster's bytes, and should they be compared now? */
static bool wanted(const struct pass *pass, uint64_t host)
{
        const struct audit *a = pass->a;

        return a->refs[host] > 0 && (pass->contents || a->role[host] != ROLE_DATA);
}

static int compare_host(struct audit *a, uint64_t host, const uint8_t *bytes, struct err *e)
{
        struct qs_image *m = a->image;
        uint64_t sum = 0;
        struct err why = { 0 };
        int rc = host < sumtree_entries(m->hostsums)
                 ? sumtree_get(m->hostsums, host, &sum, &why) : 0;

        if (rc < 0)
                return audit_absorb(a, rc, &why, e);
        if (a->role[host] == ROLE_GUARDED_ELSEWHERE) {
                if (sum)
                        audit_find(a, AUDIT_CORRUPTION, "host cluster %llu has a sum in "
                                   "HOSTSUMS but is guarded elsewhere", (ull)host);
                return 0;
        }
        a->checked++;
        if (sum != sum_bytes(bytes, m->cluster_bytes, m->hdr.hash_seed))
                audit_find(a, AUDIT_CORRUPTION, "host cluster %llu does not match its checksum",
                           (ull)host);
        return 0;
}

static int host_step(struct pass *pass, struct qs_reader *r, uint8_t *buf, uint64_t first,
                     uint64_t end, struct err *e)
{
        struct audit *a = pass->a;
        const struct qs_image *m = a->image;
        int rc = 0;

        (void)r;
        while (rc == 0 && first < end) {
                uint64_t n = 0;
                struct err why = { 0 };

                while (first + n < end && wanted(pass, first + n))
                        n++;
                if (n == 0) {
                        first++;
                        continue;
                }
                rc = image_pread(m, buf, n << m->hdr.cluster_bits, first << m->hdr.cluster_bits,
                                 "a host cluster", &why);
                if (rc < 0)
                        return audit_absorb(a, rc, &why, e);
                for (uint64_t i = 0; rc == 0 && i < n; i++)
                        rc = compare_host(a, first + i, buf + (i << m->hdr.cluster_bits), e);
                first += n;
        }
        return rc;
}

static int guest_step(struct pass *pass, struct qs_reader *r, uint8_t *buf, uint64_t first,
                      uint64_t end, struct err *e)
{
        for (uint64_t i = first; i < end; i++) {
                struct err why = { 0 };
                int rc = qs_cluster_read(r, i, buf, &why);

                rc = audit_absorb(pass->a, rc, &why, e);
                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* [from, cluster end) of a cluster guarded elsewhere */
static int check_slack(struct audit *a, uint64_t from, const char *what, struct err *e)
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

/* Clusters [first, first + n) of the VM-state area are not in HOSTSUMS; of the
 * last one only `used` bytes are covered by the sum that guards it. */
static int take_state(struct audit *a, uint64_t first, uint64_t n, uint64_t used,
                      const char *what, struct err *e)
{
        const struct qs_image *m = a->image;
        uint64_t offset = 0;

        for (uint64_t i = 0; i < n; i++) {
                struct err why = { 0 };
                int rc = image_state_locate(m, first + i, &offset, &why);

                if (rc < 0)
                        return audit_absorb(a, rc, &why, e);
                a->role[offset >> m->hdr.cluster_bits] = ROLE_GUARDED_ELSEWHERE;
        }
        return check_slack(a, offset + used, what, e);
}

static int take_unguarded(struct audit *a, struct err *e)
{
        const struct qs_image *m = a->image;
        unsigned bits = m->hdr.cluster_bits;
        const struct section *s = sectoc_find(&m->toc, LAYOUT_HOSTSUMS);
        uint64_t blocks = sumtree_blocks(s->bytes / 8, bits);
        uint64_t first_clusters = sumtree_blocks_at(s->bytes / 8, bits) >> bits;
        uint64_t at = s->offset >> bits;
        int rc = take_state(a, 0, 1, SECTOC_BYTES, "the section table", e);

        if (rc == 0)
                rc = take_state(a, at, first_clusters,
                                blocks * 8 - ((first_clusters - 1) << bits),
                                "the first level of HOSTSUMS", e);
        if (rc == 0)
                rc = take_state(a, at + first_clusters, blocks, m->cluster_bytes,
                                "the last block of HOSTSUMS", e);
        if (rc == 0)
                rc = check_slack(a, LAYOUT_SECTOR_BYTES, "the header", e);
        if (rc == 0)
                rc = check_slack(a, m->hdr.snaptable_offset + m->snaptable_bytes,
                                 "the snapshot table", e);
        return rc;
}

static int check_blocks(struct audit *a, struct sumtree *t, struct err *e)
{
        uint64_t step = layout_l2_entries(a->image->hdr.cluster_bits);
        int rc = 0;

        for (uint64_t i = 0; rc == 0 && i < sumtree_entries(t); i += step) {
                uint64_t sum;
                struct err why = { 0 };

                rc = audit_absorb(a, sumtree_get(t, i, &sum, &why), &why, e);
        }
        return rc;
}

static int check_sections(struct audit *a, struct err *e)
{
        struct qs_image *m = a->image;
        struct qs_reader *r = NULL;
        int rc = qs_reader_new(m, &r, e);

        for (unsigned i = 0; rc == 0 && i < m->toc.count; i++) {
                void *data = NULL;
                size_t bytes;
                struct err why = { 0 };

                if (m->toc.section[i].flags & SECTION_TREE)
                        continue;
                rc = qs_section_read(r, m->toc.section[i].name, &data, &bytes, &why);
                rc = audit_absorb(a, rc, &why, e);
                free(data);
        }
        qs_reader_free(r);
        if (rc == 0)
                rc = check_blocks(a, m->checksums, e);
        return rc < 0 ? rc : check_blocks(a, m->hostsums, e);
}

int audit_sums(struct audit *a, bool contents, struct err *e)
{
        struct pass host = {
                .a = a, .contents = contents, .clusters = a->clusters, .step = host_step,
        };
        struct pass guest = {
                .a = a, .contents = contents, .clusters = a->image->disk_clusters,
                .step = guest_step,
        };
        int rc = take_unguarded(a, e);

        if (rc == 0)
                rc = check_sections(a, e);
        if (rc == 0)
                rc = run_pass(&host, e);
        if (rc == 0 && contents)
                rc = run_pass(&guest, e);
        return rc;
}
