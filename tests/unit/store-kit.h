/* SPDX-License-Identifier: Apache-2.0 */
/* store-kit.h - what qcowstore's tests share: images made of a flat model,
 * files as bytes, a folder that goes away. Setup that fails aborts. */
#ifndef TESTS_UNIT_STORE_KIT_H
#define TESTS_UNIT_STORE_KIT_H

#include <stddef.h>
#include <stdint.h>

#include "qcowstore/store.h"

#define KIT_PATH_MAX 128

/* Guest memory as a flat model; ranges say what of it is RAM. */
struct kit_ram {
        uint8_t *bytes;                 /* disk_bytes, zero outside the ranges */
        struct qs_ram_range range[QS_RAM_RANGES_MAX];
        size_t ranges;
        int copies;                     /* spans are handed out in the caller's buffer */
        unsigned drafts;                /* other RAM is taken before, so often (store-draft.h) */
        uint64_t seed;                  /* of these */
};

/* "PATH" in a fresh folder; kit_gone() removes the folder if it is empty and
 * returns whether it was. */
void kit_folder(char folder[KIT_PATH_MAX]);
const char *kit_path(const char *folder, const char *name, char path[KIT_PATH_MAX]);
int kit_gone(const char *folder);

/* One image: RAM, sections META and DEVICES, published. Threads etc. as in o.
 * 0 or a negative errno and *e. */
int kit_save(const char *path, const struct qs_writer_options *o, struct kit_ram *ram,
             struct err *e);
extern const char kit_meta[];

struct qs_ram_source kit_source(struct kit_ram *ram);

/* the caller frees */
uint8_t *kit_load(const char *path, size_t *ret_bytes);
/* a file with these bytes and without a name */
int kit_file(const uint8_t *bytes, size_t n);
int kit_open(const char *path);

/* number of clusters whose bytes differ from the model; -errno when one cannot
 * be read */
long kit_compare(struct qs_image *image, const uint8_t *model);

/* findings, one more when it looks changed by another program; or a negative errno
 * of qs_check() */
long kit_check(int fd, int contents);

/* Patches file: each u32 offset (modulo its size), u8 length, bytes. */
void kit_patch(uint8_t *file, size_t size, const uint8_t *data, size_t n);
/* every way to read, over the first clusters; what fails, fails */
void kit_touch(struct qs_image *image);

#endif
