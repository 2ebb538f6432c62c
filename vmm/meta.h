/* SPDX-License-Identifier: Apache-2.0 */
/* meta.h - the META section: what a saved VM was, so that it can be built again.
 *
 * Versioned JSON; fields that a reader does not know are ignored, a newer
 * version is refused. Untrusted on reading.
 */
#ifndef VMM_META_H
#define VMM_META_H

#include <json-c/json.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/machine-config.h"
#include "vmm/kept-disks.h"
#include "vmm/rundir.h"

#define META_VERSION 1

/* Sections of a saved VM; qcowstore adds its own beside them. */
#define SECTION_META "META"             /* this */
#define SECTION_DEVICES "DEVICES"       /* platform_save() */
#define SECTION_KVM "KVM"               /* state_save()'s JSON */
#define SECTION_BLOB "BLOB"             /* state_save()'s blob */

struct meta {
        char name[VM_NAME_MAX + 1];
        uint64_t memory_bytes;
        unsigned cpus;
        uint64_t saved_wall_ns;
        struct machine_config machine;
        struct kept_disks disks;        /* on reading; a save adds them (kept-disks.h) */
};

struct json_object *meta_encode(const struct meta *m);
int meta_decode(const char *text, size_t bytes, struct meta *ret, struct err *e);

#endif
