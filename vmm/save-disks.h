/* SPDX-License-Identifier: Apache-2.0 */
/* save-disks.h - the disks of a VM that is being saved: kept beside the image, or identified.
 *
 * new       while the guest runs; moment, at the moment: it stands still
 * start     a thread that keeps what was begun, beside the one that copies RAM
 * finish    it is done: all is durable, without a name
 * publish   before the image has its name; what refers to a disk comes after it
 * retract   the image was not published
 * free      ends what runs; without publish nothing is left
 *
 * Threads: one, the save's. Errors: a sentence; the guest's disks are unharmed.
 */
#ifndef VMM_SAVE_DISKS_H
#define VMM_SAVE_DISKS_H

#include <json-c/json.h>
#include <stdbool.h>

#include "common/err.h"
#include "vmm/disk/keep.h"
#include "vmm/kept-disks.h"

struct save_disks;
struct vm;

struct save_disks_options {
        const char *image;              /* files are named IMAGE-xxxxxxxx.ID */
        /* instead: empty files for the disks that the guest may write, in the order of its
         * disks; they outlive this, and are not published. NULL = none */
        const struct disk_files *files;
        enum disks_mode mode;
        bool (*cancelled)(void *ctx);
        /* of all that are kept together; from any thread */
        void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
        void *ctx;
};

int save_disks_new(struct vm *vm, const struct save_disks_options *o, struct save_disks **ret,
                   struct err *e);
int save_disks_moment(struct save_disks *s, struct err *e);
int save_disks_start(struct save_disks *s, struct err *e);
int save_disks_finish(struct save_disks *s, struct err *e);
int save_disks_publish(struct save_disks *s, struct err *e);
/* What the image is to say of them; from publish on. */
const struct kept_disks *save_disks_kept(const struct save_disks *s);
/* Those of them that were not kept; from finish on. */
void save_disks_identified(const struct save_disks *s, struct kept_disks *ret);
void save_disks_retract(struct save_disks *s);
void save_disks_free(struct save_disks *s);

/* "disks", unless there are none: what `vmm save` prints. */
void save_disks_describe(const struct save_disks *s, struct json_object *o);
/* "auto", "reflink", "copy", "none" */
int disks_mode_parse(const char *text, enum disks_mode *ret, struct err *e);

#endif
