/* SPDX-License-Identifier: Apache-2.0 */
/* image-workingset.h - vmm image workingset: shows, takes out or makes what a snapshot's
 * guest wants first. As text: an extent a line, address and length.
 *
 * Errors: the exit status, and *e.
 */
#ifndef VMM_IMAGE_WORKINGSET_H
#define VMM_IMAGE_WORKINGSET_H

#include <stdbool.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct workingset_change {
        bool clear;
        const char *from;               /* a delta of the image; NULL = none */
        const char *from_file;          /* text; NULL = none */
};

/* All fields empty: shows it. open: tag and where parents may lie. */
int image_workingset(const char *path, const struct qs_open_options *open,
                     const struct workingset_change *change, bool json, struct err *e);

#endif
