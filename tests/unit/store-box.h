/* SPDX-License-Identifier: Apache-2.0 */
/* store-box.h - a folder with a parent in it and, once it is made, a child; what
 * the tests of deltas share. Setup that fails aborts or ends the test. */
#ifndef TESTS_UNIT_STORE_BOX_H
#define TESTS_UNIT_STORE_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "qcowstore/imghdr.h"
#include "tests/unit/store-kit.h"

#define BOX_PAGE 4096u
#define BOX_PAGES (5u * 256 + 3)        /* some chunks, and not a whole cluster */
#define BOX_BYTES ((uint64_t)BOX_PAGES * BOX_PAGE)

/* 4 KiB clusters, not compressed */
extern const struct qs_writer_options box_options;

struct box {
        char folder[KIT_PATH_MAX];
        char parent[KIT_PATH_MAX];
        char child[KIT_PATH_MAX];
        struct kit_ram ram;             /* the parent's, and the child's to be */
        struct qs_writer_options child_options;
};

/* random; seed 0 = zeros. The caller frees ram.bytes. */
struct kit_ram box_ram(uint64_t seed);
/* A parent, and a child that is not made yet. */
void box_begin(struct box *b);
void box_end(struct box *b);
int box_make_child(struct box *b, struct err *e);
void box_make_parent_again(struct box *b);

/* the image reads as the model, has so many layers, and nothing is wrong in its file */
void box_agrees(const char *path, const uint8_t *model, unsigned layers);
/* a writer, and its image: published, it agrees; the writer is freed */
struct qs_writer *box_writer(const char *path, const struct qs_writer_options *o);
void box_publish(struct qs_writer *w, const char *path, const uint8_t *model,
                 struct qs_writer_stats *ret);
struct imghdr box_header(const char *path, uint8_t sector[LAYOUT_SECTOR_BYTES]);
bool box_is_marked(const char *path);
/* Rewrites the snapshot table with its first entry n times, so much later. */
void box_repeat_tag(const char *path, unsigned n, uint32_t date_more_ns);

#endif
