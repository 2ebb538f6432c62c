/* SPDX-License-Identifier: Apache-2.0 */
/* doctor.h - what a host is like, and what that means for those who run VMs on it.
 *
 * struct doctor_host is what was found (doctor-probe.h fills it); a check is a row of
 * doctor_checks[], whose function looks at nothing else: no call, no file, no clock.
 *
 * Threads: any.
 */
#ifndef VMM_DOCTOR_H
#define VMM_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define DOCTOR_WORD_MAX 24

/* Of an err in here code 0 says that it went well; else its sentence has the remedy. */
struct doctor_host {
        unsigned kernel_major, kernel_minor;
        struct err kvm;                 /* opening it, and what it can do */
        struct err vm;                  /* making one and running it; as kvm when that failed */
        uint64_t create_us;             /* of a VM with one vCPU */
        uint64_t ring0_per_s;           /* instructions of a guest's kernel */
        char nx_huge_pages[DOCTOR_WORD_MAX];    /* KVM's parameter; "" = it has none */
        struct err uffd;                /* one that takes faults of the kernel */
        uint64_t uffd_features;
        bool pagemap_scan;
        uint64_t huge_pages, huge_pages_free;   /* of 2 MiB, of the pool */
        char thp[DOCTOR_WORD_MAX];      /* always, madvise, never; "" = the kernel has none */
        uint64_t memory_bytes;          /* that may still be taken; UINT64_MAX = unknown */
        uint64_t overcommit;            /* vm.overcommit_memory */
        uint64_t open_files;            /* RLIMIT_NOFILE */
        uint64_t pending_signals;       /* RLIMIT_SIGPENDING */
        bool calls_limited;             /* by this build, on this kernel */
        int landlock_abi;               /* 0 = none */
        bool is_root;
        struct err runtime;             /* the runtime folder */
        bool runtime_private;           /* or can be made so */
        struct err pageserver;          /* the program */
        int tun_errno;                  /* of opening /dev/net/tun */
        int nameless_errno;             /* of a file without a name in the folder */
        int reflink_errno;              /* of FICLONE there */
        bool tsc_steady;                /* constant_tsc and nonstop_tsc */
        char clocksource[DOCTOR_WORD_MAX];
};

/* OK       nothing is lost
 * WARNING  VMs run and are reverted with postcopy, but slower, or something else is lost
 * MISSING  they do not */
enum doctor_verdict { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_MISSING, DOCTOR_VERDICTS };

struct doctor_finding {
        enum doctor_verdict verdict;
        char text[160];                 /* what is found, or lost */
        char remedy[ERR_TEXT_MAX];      /* "" only when it is OK */
};

struct doctor_check {
        const char *name;
        void (*judge)(const struct doctor_host *host, struct doctor_finding *ret);
};

#define DOCTOR_CHECKS 18
extern const struct doctor_check doctor_checks[DOCTOR_CHECKS];

/* "ok", "warning", "missing" */
const char *doctor_verdict_name(enum doctor_verdict verdict);

#endif
