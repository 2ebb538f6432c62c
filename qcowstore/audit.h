/* SPDX-License-Identifier: Apache-2.0 */
/* audit.h - the work of qs_check(): what is known of every host cluster, and
 * what was found wrong. Private to check*.c.
 *
 * Theory of operation
 *
 * structure   Everything that the header leads to is walked, and counted as
 *             QCOW2 counts references: once per way from an L1 table to a
 *             cluster. refs[] is what the counts should be, stored[] what the file
 *             says. An L2 table that several L1 tables share is walked once, with
 *             the number of ways to it as weight, so that many tags that differ
 *             little cost little.
 * bytes       (contents only) Every cluster in use is read once, by several
 *             threads, and its sum kept in sums[]: 8 bytes a cluster.
 * file        What belongs to the file: header, snapshot table, the tables
 *             under meta_sum, the pool area.
 * tags        One after the other: sections and sums, then all that the tag refers
 *             to against its own HOSTSUMS. The plain content of a raw cluster is
 *             what is stored, so its sum is in sums[]; a compressed one is
 *             unpacked once, and remembered with its sum in `unpacked` (a
 *             direct-mapped table of bounded size: what was pushed out of it is
 *             unpacked again).
 *
 * Of a file that another program changed, what it says of itself as a whole is
 * not compared, and snapshots that are not ours are walked for structure only.
 *
 * INV-GUARDIAN: each cluster in use is compared with at least one sum; in
 *               those that no sum covers whole, the rest is zero.
 *
 * Threads: audit_find() from any thread, so marks; the rest is constant while
 *          threads compare.
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

/* of a host cluster */
enum audit_mark {
        MARK_L2_HERE = 1,               /* an L2 table of the L1 table at hand */
        MARK_WALKED = 2,                /* an L2 table whose entries were counted */
        MARK_FILE = 4,                  /* guarded, but not by HOSTSUMS of a tag */
        MARK_COMPARED = 8,              /* with HOSTSUMS of a tag that refers to it */
        MARK_BAD = 16,                  /* and differed: a finding */
};

struct audit {
        struct qs_image *image;         /* header and snapshot table; open only if foreign */
        bool contents;
        uint64_t clusters;              /* of the file */
        uint32_t *refs;
        uint32_t *stored;
        uint32_t *ways;                 /* from L1 tables to an L2 table that is here */
        uint64_t *sums;                 /* of the bytes; NULL without contents */
        _Atomic uint8_t *marks;         /* enum audit_mark */
        _Atomic uint64_t *unpacked;
        uint64_t unpacked_room;         /* a power of two */
        bool incomplete;                /* some tag could not be looked at */
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

static inline bool audit_marked(const struct audit *a, uint64_t host, uint8_t marks)
{
        return a->marks[host] & marks;
}

/* what it had before */
static inline uint8_t audit_mark(struct audit *a, uint64_t host, uint8_t marks)
{
        return atomic_fetch_or_explicit(&a->marks[host], marks, memory_order_relaxed);
}

/* [from, cluster end) is zero? `what` is before it. */
int audit_slack(struct audit *a, uint64_t from, const char *what, struct err *e);

/* Clusters [0, clusters) of whatever, in windows, by several threads. */
struct audit_pass {
        struct audit *a;
        struct qs_image *image;         /* what a thread's reader reads; NULL = it has none */
        void *ctx;
        uint64_t clusters;
        /* buf: a window; clusters [first, end) */
        int (*step)(struct audit_pass *pass, struct qs_reader *r, uint8_t *buf, uint64_t first,
                    uint64_t end, struct err *e);
        /* audit_run()'s own */
        uint64_t window;                /* clusters */
        _Atomic uint64_t next;
        _Atomic bool failed;
};

int audit_run(struct audit_pass *pass, struct err *e);

/* Walks all tables and compares the counts. */
int audit_structure(struct audit *a, struct err *e);
/* The rest is for files of ours, in this order. */
int audit_bytes(struct audit *a, struct err *e);
int audit_file(struct audit *a, struct err *e);
/* snapshot i, which is ours */
int audit_tag(struct audit *a, uint32_t i, struct err *e);
/* INV-GUARDIAN, once all were looked at */
void audit_guardians(struct audit *a);

#endif
