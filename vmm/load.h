/* SPDX-License-Identifier: Apache-2.0 */
/* load.h - all RAM of an image into memory, by all cores. */
#ifndef VMM_LOAD_H
#define VMM_LOAD_H

#include "common/err.h"
#include "qcowstore/store.h"
#include "vmm/ram.h"

struct starter;

/* ram is mapped, untouched and writable: zero clusters are left untouched. starter, of the
 * threads, may be NULL. */
int load_ram(struct qs_image *image, const struct ram *ram, struct starter *starter,
             struct err *e);

#endif
