/* SPDX-License-Identifier: Apache-2.0 */
/* vmgenid.h - the generation id of a guest: where it lies and who says that it changed. */
#ifndef VMM_VMGENID_H
#define VMM_VMGENID_H

#include "vmm/memmap.h"

#define VMGENID_GPA BOOT_EBDA_GPA       /* a page that no guest takes for RAM */
#define VMGENID_GSI 23                  /* the generic event device's, edge */

#endif
