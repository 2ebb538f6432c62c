/* SPDX-License-Identifier: Apache-2.0 */
/* confine.h - the folders beneath which a VM makes, writes and reads files (--confine DIR).
 *
 * The kernel sees to it (sandbox-files.h); here is the list, and the sentence for who asks a
 * VM for what it may not do. No folder: wherever its user may.
 *
 * Ownership: in place, confine_fini(). Threads: constant once the VM is built.
 */
#ifndef VMM_CONFINE_H
#define VMM_CONFINE_H

#include "common/err.h"
#include "vmm/sandbox.h"

/* each is a rule that every later open() is compared with */
#define CONFINE_MAX 16

struct confine {
        unsigned n;
        char *folder[CONFINE_MAX];      /* heap; absolute, without links */
};

/* Of the command line. -ENOTDIR, -ENOENT: there is no such folder. */
int confine_add(struct confine *c, const char *folder, struct err *e);
void confine_fini(struct confine *c);
#define AUTO_CONFINE __attribute__((cleanup(confine_fini))) struct confine
/* -EINVAL, -EOPNOTSUPP: with that sandbox, or this kernel, nobody would see to it. No folder: 0. */
int confine_can_be(const struct confine *c, enum sandbox_mode mode, struct err *e);

/* -EACCES: path, which need not exist, is not beneath one; name: of the VM */
int confine_check(const struct confine *c, const char *name, const char *path, struct err *e);

/* Adds the remedy to what failed with -EACCES; rc is passed through. */
int confine_explain(const struct confine *c, int rc, struct err *e);

#endif
