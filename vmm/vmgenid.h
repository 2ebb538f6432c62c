/* SPDX-License-Identifier: Apache-2.0 */
/* vmgenid.h - the generation id: 128 random bits in a guest's memory that no two of its lives
 * have in common.
 *
 * A guest that is reverted, cloned or rolled back begins another life with what it had drawn
 * from its random number generator; by the new id, and the interrupt that tells of it, it
 * learns that, and mixes fresh randomness in (Linux from 5.18 on, CONFIG_VMGENID). Saving,
 * pausing and moving RAM about change nothing. dsdt.c tells the guest where it is.
 *
 * INV-NEWLIFE: no vCPU runs after one of these before memory has an id that was never there.
 *
 * Threads: plain values; platform.h keeps that of a VM.
 */
#ifndef VMM_VMGENID_H
#define VMM_VMGENID_H

#include <json-c/json.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/memmap.h"
#include "vmm/ram.h"

#define VMGENID_BYTES 16
#define VMGENID_GPA BOOT_EBDA_GPA       /* a page that no guest takes for RAM */
#define VMGENID_GSI 23                  /* the generic event device's, edge */

struct vmgenid {
        uint8_t id[VMGENID_BYTES];
};

/* A new one, in the guest's memory too, before a vCPU runs there. May wait for that page:
 * on a thread that may touch guest memory. */
int vmgenid_renew(const struct ram *ram, struct vmgenid *ret, struct err *e);

/* In hexadecimal, in the order of the bytes in memory; 0 or -ENOMEM. */
int vmgenid_describe(const struct vmgenid *g, struct json_object *o, const char *key);
/* *ret is the caller's to put. */
int vmgenid_save(const struct vmgenid *g, struct json_object **ret, struct err *e);
/* Untrusted. */
int vmgenid_load(struct vmgenid *g, struct json_object *o, struct err *e);

#endif
