/* SPDX-License-Identifier: Apache-2.0 */
/* kept-disks.h - which disks belong to the RAM of a saved VM, and where they are.
 *
 * Section META, key "disks_kept": an array with { "id", "kept" } and the members of an
 * identity (disk/keep.h) for each disk. kept: a file of the image's own, in its folder, named
 * NAME-xxxxxxxx.ID; else the disk that the VM had, which nobody may have written since.
 *
 * Ownership: plain values, large. Threads: any.
 * Errors:    a sentence that names the remedy; documents are untrusted.
 */
#ifndef VMM_KEPT_DISKS_H
#define VMM_KEPT_DISKS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "vmm/disk-files.h"
#include "vmm/disk/keep.h"
#include "vmm/machine-config.h"

struct kept_disk {
        char id[MACHINE_ID_MAX + 1];
        bool kept;
        struct disk_identity identity;
};

struct kept_disks {
        unsigned n;
        struct kept_disk disk[MACHINE_DISKS_MAX];
};

/* What whoever reverts has said of disks. */
struct disks_wish {
        bool in_place;                  /* the guest writes to them, not to an overlay */
        const struct machine_config *present;   /* a machine that has disks already; or NULL */
        unsigned n;
        const char *arg[MACHINE_DISKS_MAX];     /* "ID=PATH", "ID=PATH,trust" */
};

int kept_disks_wish(struct disks_wish *w, const char *arg, struct err *e);

/* "disks_kept" in meta, unless there are none. */
void kept_disks_encode(const struct kept_disks *k, struct json_object *meta);
int kept_disks_decode(struct json_object *meta, struct kept_disks *ret, struct err *e);

/* An image that is being read. */
struct kept_disks_image {
        const char *path;
        int fd;                         /* the file that was opened */
};

/* Finds the files of c's disks, saved in image, and sets their paths and overlays. Each is the
 * one that was saved, or -ESTALE; unless it is trusted. -EACCES: it has to be named by whoever
 * reverts, as the image may be anybody's (kept-disks-find.c). ret is initialised; a file that
 * it has already is a lent one, which an overlay is put over. */
int kept_disks_find(const struct kept_disks *k, const struct kept_disks_image *image,
                    const struct disks_wish *w, struct machine_config *c,
                    struct disk_files *ret, struct err *e);

/* Of a snapshot of an image, or of all (tag NULL): before they are replaced. The caller frees
 * *ret, which holds what could be read also on failure. */
int kept_disks_of_image(const char *image, const char *tag, struct kept_disks **ret,
                        size_t *ret_n);

/* Whether a snapshot of image names a file that was kept as one of k. Who wants to remove such
 * files has to leave them where it is not known: the image cannot be read just now. */
enum kept_named { KEPT_NAMED, KEPT_NOT_NAMED, KEPT_NOT_KNOWN };
enum kept_named kept_disks_named(const char *image, const struct kept_disks *k);

/* The files that belong to nobody else, once their snapshots are gone; but for one that a
 * machine writes to in place, which is its disk now. */
void kept_disks_remove(const char *image, const struct kept_disks *k, size_t n);

#endif
