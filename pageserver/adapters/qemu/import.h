/* SPDX-License-Identifier: Apache-2.0 */
/* import.h - saved streams in files: migration streams, and what 'virsh save' writes.
 *
 * Errors: 0 or a negative errno with a sentence.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_IMPORT_H
#define PAGESERVER_ADAPTERS_QEMU_IMPORT_H

#include <stdbool.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/revert.h"
#include "pageserver/adapters/qemu/save.h"

/* A stream, plain or compressed with gzip or zstd, perhaps behind libvirt's header. */
int qemu_import(const char *stream, const struct save_options *o, struct err *e);
/* The plain stream of an image; appears whole under its name or not at all. */
int qemu_export(const struct revert_options *o, const char *stream, bool force, struct err *e);

#endif
