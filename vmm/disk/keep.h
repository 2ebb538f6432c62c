/* SPDX-License-Identifier: Apache-2.0 */
/* keep.h - keeps a moment of a disk in a file of its own, while the guest goes on.
 *
 * new     while the guest runs: makes a file without a name in the target's folder, or takes one.
 * freeze  at the moment: the device is drained. Takes microseconds, allocates nothing.
 * share   from a thread of the save's, soon: the reflink, which writes of the guest wait for.
 *         Nothing, where it is to be a copy.
 * run     from that thread: copies everything that is not a hole, unless it is shared, while a
 *         write of the guest first sets aside what it overwrites. Afterwards the file holds
 *         the moment, durable.
 * publish gives it its name; -EEXIST if something has that already.
 * retract takes the name away again: what it belongs to did not come about.
 * free    without publish nothing is left. Ends the setting aside.
 *
 * The file belongs to RAM that is saved elsewhere: it is made read-only.
 * Threads: one for each, but for the guest's writes (keep-priv.h).
 * Errors:  a sentence; whatever fails, the guest's disk and its writes are unharmed.
 */
#ifndef VMM_DISK_KEEP_H
#define VMM_DISK_KEEP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/disk/disk.h"

enum disks_mode {
        DISKS_AUTO,                     /* reflink where the file system can, else copy */
        DISKS_REFLINK,                  /* or fail */
        DISKS_COPY,
        DISKS_NONE,                     /* the disk stays what it is: only its identity is kept */
};

/* What a saved VM says of the disk that belongs to its RAM. Section META, key "disks_kept". */
struct disk_identity {
        char path[4096];                /* absolute, or relative to the image's folder */
        uint64_t bytes;
        uint64_t content;               /* id of what is in it: identity.c says how it is made */
        int64_t mtime_ns;
        uint64_t inode;
};

struct disk_keep_options {
        const char *target_path;
        const int *target_fd;           /* an empty file that was lent, instead: it outlives this,
                                         * is not published and need not be durable */
        enum disks_mode mode;           /* not NONE */
        bool (*cancelled)(void *ctx);
        void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
        void *ctx;
};

int disk_keep_new(struct disk *d, const struct disk_keep_options *o, struct disk_keep **ret,
                  struct err *e);
void disk_keep_freeze(struct disk_keep *k);
/* What fails here run says. Of several disks, before the first run. */
void disk_keep_share(struct disk_keep *k);
int disk_keep_run(struct disk_keep *k, struct err *e);
/* *ret's path is the name alone: relative to its folder. */
int disk_keep_publish(struct disk_keep *k, struct disk_identity *ret, struct err *e);
void disk_keep_retract(struct disk_keep *k);
void disk_keep_free(struct disk_keep *k);
/* "reflink" or "copy"; bytes copied and set aside: what `vmm save` prints. */
struct json_object *disk_keep_describe(const struct disk_keep *k);

/* Of a disk that is not kept, at the moment, drained and flushed. */
int disk_identify(struct disk *d, struct disk_identity *ret, struct err *e);
/* -ESTALE with a sentence and the remedy if the file, called path, is not (any more) that
 * disk. *ret_itself: it is the very file, and no copy; never of a block device. */
int disk_identity_check(const struct disk_identity *id, int fd, const char *path, bool *ret_itself,
                        struct err *e);
struct json_object *disk_identity_encode(const struct disk_identity *id);
int disk_identity_decode(struct json_object *o, struct disk_identity *ret, struct err *e);

#endif
