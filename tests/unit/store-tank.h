/* SPDX-License-Identifier: Apache-2.0 */
/* store-tank.h - a pool next to a model of it: what each tag must hold, in memory.
 *
 * Every act is one change of the file; tank_agrees() compares all there is. CUnit's
 * assertions: main thread only. Setup that fails aborts. */
#ifndef TESTS_UNIT_STORE_TANK_H
#define TESTS_UNIT_STORE_TANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcowstore/pool.h"
#include "tests/unit/store-kit.h"

#define TANK_TAGS 6

struct tank_tag {
        uint8_t *bytes;                 /* the RAM it must hold; NULL = there is no such tag */
        uint8_t *state;                 /* its section */
        size_t state_bytes;
        uint64_t date_ns;
        uint64_t vm_clock_ns;
        unsigned born;                  /* the highest one is the default */
};

struct tank {
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct qs_writer_options o;     /* of the next change */
        struct kit_ram ram;             /* evolves */
        struct tank_tag tag[TANK_TAGS];
        const void *extra;              /* one more section, WORKING-SET; NULL = none */
        size_t extra_bytes;
        uint8_t *attic;                 /* RAM as it was some time ago */
        uint32_t refs_max;              /* 0 = as it is */
        unsigned births;
        uint64_t random;
};

/* No file yet. RAM is all zero. */
void tank_begin(struct tank *t, unsigned bits, enum qs_compress compress,
                const struct qs_ram_range *ranges, size_t n);
void tank_end(struct tank *t);
uint64_t tank_below(struct tank *t, uint64_t n);
/* changes up to so many pages: new content, zeros, copies of others, of tags' and of
 * what was there some time ago */
void tank_evolve(struct tank *t, unsigned pages);
void tank_name(unsigned i, char tag[QS_TAG_MAX + 1]);
unsigned tank_tags(const struct tank *t);
/* the default tag; -1 = there is none */
int tank_latest(const struct tank *t);

/* What the library answers; the model changes if that is 0. */
int tank_add(struct tank *t, unsigned i, bool force, struct err *e);
int tank_delete(struct tank *t, unsigned i, struct err *e);
/* A writer with RAM and sections, not published. */
int tank_write(struct tank *t, unsigned i, bool force, struct qs_writer **ret, struct err *e);

/* Opens tag i by a description of its own. */
struct qs_image *tank_open(const struct tank *t, unsigned i);
/* All tags, the list, the check with contents; equal content is stored once. */
void tank_agrees(const struct tank *t);
/* INDEX sections are few, each at most half as long as the one before it. */
void tank_index_is_small(const struct tank *t);
uint64_t tank_file_bytes(const struct tank *t);
uint64_t tank_disk_usage(const struct tank *t);

#endif
