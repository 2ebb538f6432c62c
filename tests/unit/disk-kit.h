/* SPDX-License-Identifier: Apache-2.0 */
/* disk-kit.h - folders and files with known content for tests of disks.
 *
 * In $DISK_DIR, for another file system than the working folder's.
 * Errors: end the program.
 */
#ifndef TESTS_UNIT_DISK_KIT_H
#define TESTS_UNIT_DISK_KIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_kit {
        char dir[256];
        char base[300];                 /* a file in there */
        size_t bytes;
        uint8_t *model;                 /* what a guest should read */
};

/* A base of that size; data, with holes of some blocks. */
void disk_kit_init(struct disk_kit *k, size_t bytes);
/* Removes all. */
void disk_kit_fini(struct disk_kit *k);
/* The path of a file in there; the caller's to free. */
char *disk_kit_path(const struct disk_kit *k, const char *name);
/* How many files are in there. */
unsigned disk_kit_files(const struct disk_kit *k);
/* A file holds just that. */
bool disk_kit_holds(const char *path, const uint8_t *want, size_t bytes);

/* xorshift; state is not 0 */
uint64_t disk_kit_random(uint64_t *state);
/* Sectors that do not repeat. */
void disk_kit_fill(uint8_t *p, size_t bytes, uint64_t *state);

#endif
