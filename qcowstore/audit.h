/* SPDX-License-Identifier: Apache-2.0 */
/* audit.h - the work of qs_check(): what is known of every host cluster, and
 * what was found wrong. Private to check*.c.
 *
 * Theory of operation
 *
 * Everything that the header leads to is walked once per path, as QCOW2 counts
 * references: refs[] is what the counts should be, stored[] what the file
 * says. A cluster's role says who guards its bytes in a file of ours: HOSTSUMS,
 * unless it is GUARDED_ELSEWHERE (layout.h). Then bytes are compared: clusters
 * of tables always, all others when contents are wanted.
 *
 * INV-GUARDIAN: each cluster in use is compared with exactly one sum; in those
 *               guarded elsewhere what the sum does not cover is zero.
 *
 * Threads: audit_find() from any thread; the rest is constant while threads
 *          compare, but for the atomic counters.
 */
#ifndef QCOWSTORE_AUDIT_H
#define QCOWSTORE_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/lock.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/store.h"
#include "qcowstore/tally.h"

/* Sentences given to the caller; a ruined file has millions of faults. */
#define AUDIT_FINDINGS_MAX 100

enum audit_role {
        ROLE_DATA = 0,
        ROLE_TABLE = 1,                 /* L1, L2, refcounts */
        ROLE_GUARDED_ELSEWHERE = 2,     /* header, snapshot table, section table, HOSTSUMS */
};

struct audit {
        struct qs_image *image;
        uint64_t clusters;              /* of the file */
        uint32_t *refs;
        uint32_t *stored;
        uint8_t *role;
        uint8_t *seen;                  /* L2 tables of the L1 being walked */
        uint64_t used;                  /* guest clusters with data */
        _Atomic uint64_t checked;
        struct tally tally;
        struct lock lock;
        qs_finding_fn *finding GUARDED_BY(lock);
        void *finding_ctx GUARDED_BY(lock);
        struct qs_check_report report GUARDED_BY(lock);
        uint64_t listed GUARDED_BY(lock);
};

enum audit_kind { AUDIT_CORRUPTION, AUDIT_LEAK };

void audit_find(struct audit *a, enum audit_kind kind, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* -EBADMSG becomes a finding and 0; what else went wrong stays an error */
int audit_absorb(struct audit *a, int rc, const struct err *why, struct err *e);

/* Walks all tables and compares the counts; fills in refs and role. */
int audit_structure(struct audit *a, struct err *e);
/* Compares bytes with sums; only for files of ours, after the structure. */
int audit_sums(struct audit *a, bool contents, struct err *e);

#endif
