/* SPDX-License-Identifier: Apache-2.0 */
/* fake-store.h - the reading half of qcowstore/store.h over a made-up image, so
 * that tests of the page server can break it at will.
 *
 * A chain is the file at its top; those below only count when it is asked whether
 * two images are the same.
 *
 * The "image file" is a memfd that holds struct fake_image and nothing else; its
 * clusters are computed. It works across exec, and what a test changes in it takes
 * effect at the next read.
 */
#ifndef TESTS_STRESS_FAKE_STORE_H
#define TESTS_STRESS_FAKE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_BAD_MAX 8
#define FAKE_WORDS 512                  /* uint64_t in a page */
#define FAKE_SECTION_MAX 512

struct fake_image {
        uint64_t magic;
        uint64_t seed;
        uint64_t disk_bytes;
        uint32_t cluster_bits;
        uint32_t slow_us;               /* for each cluster read */
        uint32_t hangs;                 /* no read of a cluster returns before this is 0 */
        uint32_t opens_never;           /* nor does opening it before this is */
        uint32_t packed;                /* QS_PACKED is what it says its data are */
        uint32_t bads;
        uint64_t bad[FAKE_BAD_MAX];     /* clusters whose read fails */
        /* the only section: FC-REGIONS; 0 bytes = none */
        uint32_t section_bytes;
        uint8_t section[FAKE_SECTION_MAX];
};

/* the caller closes it; -1 with errno */
int fake_image_file(const struct fake_image *image);
void fake_image_update(int fd, const struct fake_image *image);

bool fake_is_zero(const struct fake_image *image, uint64_t cluster);
uint64_t fake_word(const struct fake_image *image, uint64_t gpa);
/* whether a whole page of guest memory is right */
bool fake_page_ok(const struct fake_image *image, uint64_t gpa, const volatile uint64_t *page);

#endif
