/* SPDX-License-Identifier: Apache-2.0 */
/* store-guest.h - a guest that came from an image and wrote some of its RAM since, as a
 * source of RAM: what it did not write it only says is its parent's, and shows garbage
 * there. Setup that fails aborts. */
#ifndef TESTS_UNIT_STORE_GUEST_H
#define TESTS_UNIT_STORE_GUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/store-box.h"

struct guest {
        uint8_t *bytes;                 /* what it sees: BOX_BYTES, zero outside the ranges */
        uint8_t *shown;                 /* what it shows: garbage where it wrote nothing */
        bool own[BOX_PAGES];
        struct qs_ram_range range[QS_RAM_RANGES_MAX];
        size_t ranges;
        struct qs_image *parent;        /* NULL = all zero */
        uint64_t random;
        _Atomic unsigned asked[BOX_PAGES];
        bool copies;
};

/* content: the parent's, BOX_BYTES; NULL = zeros */
void guest_init(struct guest *g, struct qs_image *parent, const uint8_t *content, uint64_t seed);
void guest_fini(struct guest *g);
/* Forgets all it wrote, has holes or not; then writes pages, such a part of 1000. */
void guest_runs(struct guest *g, const uint8_t *content, bool holes, unsigned permille);
void guest_write(struct guest *g, unsigned page, unsigned kind);

struct qs_ram_source guest_source(struct guest *g);
uint64_t guest_below(struct guest *g, uint64_t n);
/* pages that it was not asked for once each, or that are no RAM and were asked for */
unsigned guest_asked_wrongly(const struct guest *g);
/* clusters of so many bits that are wholly the parent's */
unsigned guest_untouched(const struct guest *g, unsigned cluster_bits);
/* 0 or a negative errno */
int guest_save(struct guest *g, const char *path, const struct qs_writer_options *o,
               struct qs_writer_stats *ret, struct err *e);
/* The snapshot reads as the guest does, and nothing is wrong in the file. */
void guest_agrees(const struct guest *g, const char *path, const char *tag);

#endif
