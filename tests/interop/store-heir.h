/* SPDX-License-Identifier: Apache-2.0 */
/* store-heir.h - RAM of a guest that came from an image, and says which pages are as
 * there: garbage stands in their place. */
#ifndef TESTS_INTEROP_STORE_HEIR_H
#define TESTS_INTEROP_STORE_HEIR_H

#include <stdint.h>

#include "qcowstore/store.h"

/* ram: o->disk_bytes. Errors are sentences. */
int store_heir_save(const char *path, const struct qs_writer_options *o, struct qs_image *image,
                    const uint8_t *ram, struct err *e);

#endif
