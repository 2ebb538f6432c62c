/* SPDX-License-Identifier: Apache-2.0 */
/* image-write.h - vmm image import, flatten, rebase, compact and optimize: images
 * that are made of other files.
 *
 * In the options cluster_bits and zstd_level 0 mean that the user did not say:
 * a new image takes the defaults, a rewritten one stays as it is.
 * Errors: the exit status, and *e.
 */
#ifndef VMM_IMAGE_WRITE_H
#define VMM_IMAGE_WRITE_H

#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

int image_import(const struct qs_flat *from, const struct qs_blob *sections, size_t nsections,
                 const char *path, const struct qs_writer_options *writer, bool json,
                 struct err *e);
/* the image gets no parent, or another one, under its own name */
int image_flatten(const char *path, const struct qs_open_options *open,
                  const struct qs_writer_options *writer, bool json, struct err *e);
int image_rebase(const char *path, const struct qs_open_options *open,
                 const struct qs_writer_options *writer, bool json, struct err *e);
/* the image is made anew with all its snapshots; optimize: content too */
int image_compact(const char *path, bool json, struct err *e);
int image_optimize(const char *path, const struct qs_writer_options *writer, bool json,
                   struct err *e);

#endif
