/* SPDX-License-Identifier: Apache-2.0 */
/* legacy.h - images that libqcow reads for us: QCOW version 1, and those
 * encrypted with AES.
 *
 * Slow and one thread at a time: libqcow knows one handle. It is loaded when
 * such a file is opened, and not at all into programs that open files on behalf
 * of others (qs_image_open_at). It reads wrong bytes for ZERO entries and knows
 * no parents: so of an encrypted QCOW2 file the tables are read here, libqcow
 * decrypts what they say is data, and all other QCOW2 is read natively.
 *
 * Threads: any. Errors: -ENOTSUP without the library.
 */
#ifndef QCOWSTORE_LEGACY_H
#define QCOWSTORE_LEGACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct legacy;
struct qs_image;

/* QCOW version 1, or encrypted in the way of its time */
bool legacy_wanted(int fd);
int legacy_open_image(int fd, const char *path, const char *tag, const char *passphrase,
                      struct qs_image **ret, struct err *e);
void legacy_close(struct legacy *l);
/* zeros behind the end of the disk */
int legacy_read(struct legacy *l, uint64_t offset, void *buf, size_t bytes, struct err *e);

#endif
