/* SPDX-License-Identifier: Apache-2.0 */
/* revert-priv.h - a revert: for revert.c, and for revert-ahead.c, which begins it before it is
 * asked for.
 */
#ifndef VMM_REVERT_PRIV_H
#define VMM_REVERT_PRIV_H

#include "vmm/disk-files.h"
#include "vmm/pager.h"
#include "vmm/restore.h"
#include "vmm/revert.h"

struct revert {
        struct revert_options options;
        struct qs_image *image;
        struct qs_reader *reader;
        struct meta meta;
        struct disk_files disk_files;
        uint64_t opened_ns;

        /* of one that was begun ahead */
        struct restore_docs docs;
        struct pager *pager;            /* NULL = RAM is not served yet */
};

/* revert_open() in two steps: what the image says, */
int revert_look(const struct revert_options *options, struct revert **ret, struct err *e);
/* and what becomes of its machine here. */
int revert_change_machine(struct revert *r, struct err *e);
/* server is taken. vm: NULL = there is none yet, pager_adopt() will say whose it is. */
int revert_new_pager(struct revert *r, struct ps_client *server, struct vm *vm,
                     struct pager **ret, struct err *e);
/* ctx is the struct revert */
int revert_section(void *ctx, const char *name, void **ret_data, size_t *ret_bytes,
                   struct err *e);

#endif
