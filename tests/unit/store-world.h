/* SPDX-License-Identifier: Apache-2.0 */
/* store-world.h - a folder with an image in it, perhaps with a delta of that, and a guest
 * that came from the last of them. What fails ends the test. */
#ifndef TESTS_UNIT_STORE_WORLD_H
#define TESTS_UNIT_STORE_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/store-guest.h"

/* Files: the parent, perhaps a delta of it, and what is saved. */
enum { A, B, C, D, FILES };

struct world {
        char folder[KIT_PATH_MAX];
        char path[FILES][KIT_PATH_MAX];
        struct kit_ram ram;             /* the parent's */
        struct qs_writer_options o;     /* of the parent */
        struct qs_image *parent;
        struct guest guest;
};

/* of clusters */
#define WORLD_BITS 5u
extern const unsigned world_bits[WORLD_BITS];

/* with a parent of random content */
void world_begin(struct world *w, unsigned bits, enum qs_compress compress, uint64_t seed);
void world_end(struct world *w);
/* Another parent in its place, of what w->ram and w->o are now. */
void world_begin_again(struct world *w);
/* From now on the guest's parent is a delta of A; with or without A's seed. */
void world_put_layer(struct world *w, bool alike);
/* All that it has is asked for, once. ret may be NULL. */
void world_save(struct world *w, const char *path, const struct qs_writer_options *o,
                struct qs_writer_stats *ret);
struct qs_image *world_open(const char *path, const char *tag);

#endif
