/* SPDX-License-Identifier: Apache-2.0 */
/* store-twin.h - an image with two snapshots, and looks at its locks, for the
 * tests of who may have it open. Setup that fails aborts. */
#ifndef TESTS_UNIT_STORE_TWIN_H
#define TESTS_UNIT_STORE_TWIN_H

#include <stdbool.h>
#include <sys/types.h>

#include "qcowstore/layout.h"
#include "qcowstore/store.h"
#include "tests/unit/store-kit.h"

#define TWIN_RAM_BYTES (64u << 10)
/* locked for a snapshot, by its small id */
#define TWIN_TAG_BYTE(id) (1024 + (id))

/* Snapshot 1 is "one", 2 is "two"; the header is sector[0]. */
struct twin {
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        uint8_t sector[2][LAYOUT_SECTOR_BYTES];         /* default: "one" or "two" */
};

void twin_make(struct twin *p);
/* was there nothing else in its folder? */
bool twin_remove(const struct twin *p);

void twin_write(const struct twin *p, const void *data, size_t bytes, uint64_t at);
int twin_open_rw(const struct twin *p);
/* An image with an open of its own; NULL with *e. */
struct qs_image *twin_open_tag(const struct twin *p, const char *tag, struct err *e);
/* does anybody hold this byte? */
bool twin_taken(const struct twin *p, off_t byte);

#endif
