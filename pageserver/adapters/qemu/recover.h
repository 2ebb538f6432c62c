/* SPDX-License-Identifier: Apache-2.0 */
/* recover.h - what a QEMU in state postcopy-paused has already.
 *
 * A page counts as there when QEMU has all of it. Who says otherwise gets it a second time,
 * and then fails: INV-ONCE (hostpages.h) rests on what QEMU says.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_RECOVER_H
#define PAGESERVER_ADAPTERS_QEMU_RECOVER_H

#include <stdint.h>

#include "pageserver/adapters/qemu/hostpages.h"

/* Marks as sent what QEMU's map of the block says; a bit for each page of the target, as
 * many as the block has. */
void recover_mark(struct hostpages *h, unsigned block, const uint8_t *bitmap);

#endif
