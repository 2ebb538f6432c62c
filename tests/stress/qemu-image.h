/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-image.h - an image of a QEMU machine that never was, and what is in it.
 *
 * Blocks: "pc.ram", cut at its 3 GiB only if it is as large; "vga.vram" and three ROMs of
 * uneven sizes behind it, the last of one page. Content is zeros, noise and text in runs
 * of a few pages. Setup that fails aborts.
 */
#ifndef TESTS_STRESS_QEMU_IMAGE_H
#define TESTS_STRESS_QEMU_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pageserver/adapters/qemu/state.h"

struct qemu_image_options {
        uint64_t ram_bytes;             /* of pc.ram */
        uint32_t ram_page_bytes;        /* of the host, below it; 0 = 4096 */
        unsigned cluster_bits;
        bool full;                      /* no zeros */
        const char *backing;
        const char *tag;                /* NULL = default */
        unsigned seed;
};

struct qemu_image {
        struct qemu_state state;
        uint8_t *disk;                  /* the model, at the image's offsets */
};

void qemu_image_make(struct qemu_image *m, const char *path,
                     const struct qemu_image_options *options);
void qemu_image_fini(struct qemu_image *m);

/* What has to be at offset of a block; runs to the block's end, or to where it is cut. */
const uint8_t *qemu_image_at(const struct qemu_image *m, unsigned block, uint64_t offset);
bool qemu_image_is_zero(const struct qemu_image *m, unsigned block, uint64_t offset,
                        uint64_t bytes);
/* Flips a bit of what is stored of RAM about the middle of the file. */
void qemu_image_damage(const char *path);

#endif
