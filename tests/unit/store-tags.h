/* SPDX-License-Identifier: Apache-2.0 */
/* store-tags.h - a pool and what it must hold: each change is made in the file
 * and, if it succeeds, in the model. Setup that fails aborts.
 *
 * Threads: one; readers open the file by themselves.
 */
#ifndef TESTS_UNIT_STORE_TAGS_H
#define TESTS_UNIT_STORE_TAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qcowstore/store.h"
#include "tests/unit/store-kit.h"

#define TAGS_MAX 16

struct tag {
        char name[QS_TAG_MAX + 1];
        uint8_t *ram;                   /* disk_bytes */
        uint8_t *section;               /* SERIAL's */
        size_t section_bytes;
};

struct tags {
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        /* how the next one is saved; append is set already */
        struct qs_writer_options options;
        struct qs_ram_range range[2];   /* what of it is RAM */
        size_t ranges;
        uint32_t refs_max;              /* 0 = as it is */
        uint64_t random;                /* state of store_random() */
        struct qs_writer_stats stats;   /* of the last one */
        /* the model, the latest one last */
        struct tag tag[TAGS_MAX];
        unsigned n;
};

/* No file yet; all of disk_bytes is RAM. */
void tags_init(struct tags *t, unsigned cluster_bits, uint64_t disk_bytes, uint64_t seed);
/* Removes the file; was the folder empty then? */
bool tags_fini(struct tags *t);

/* A copy of a tag's RAM, or zeros without one; the caller frees. */
uint8_t *tags_ram(const struct tags *t, const char *like);
/* Sets n pages at random places: zeros, text or noise, some of them copies of others. */
void tags_scribble(struct tags *t, uint8_t *ram, unsigned pages);

/* Adds a tag, with options.force replaces it. Takes ram, which is zero where no range
 * is; 0 or a negative errno. */
int tags_save(struct tags *t, const char *name, uint8_t *ram, struct err *e);
int tags_delete(struct tags *t, const char *name, struct err *e);
const struct tag *tags_find(const struct tags *t, const char *name);

/* How much is wrong, each said on stderr: list and default, ids, bytes and sections of
 * every tag, what qs_check() finds, with the contents or without. */
unsigned tags_wrong(const struct tags *t, bool contents);
/* of one tag, read through an open image */
unsigned tags_differ(const struct tags *t, const struct tag *tag, struct qs_image *image);

#endif
