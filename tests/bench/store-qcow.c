/* SPDX-License-Identifier: Apache-2.0 */
/* store-qcow - random reads of 4 KiB by libqcow, a peer of the benchmark.
 *
 *   store-qcow IMAGE COUNT          "qcow 4k p50_ns p99_ns" of pages with content
 */
#include <libqcow.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define PAGE 4096

static int by_value(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a;
        uint64_t y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static size_t sample(libqcow_file_t *file, size64_t bytes, uint64_t *took, size_t count)
{
        static const uint8_t zero[PAGE];
        uint64_t random = 88172645463325252;
        uint8_t buf[PAGE];
        size_t n = 0;

        for (size_t tries = 0; n < count && tries < count * 100; tries++) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;

                off64_t at = (off64_t)(random % (bytes / PAGE) * PAGE);

                uint64_t start = clock_now_ns();

                if (libqcow_file_read_buffer_at_offset(file, buf, PAGE, at, NULL) != PAGE)
                        return 0;
                took[n] = clock_now_ns() - start;
                n += memcmp(buf, zero, PAGE) != 0;
        }
        return n;
}

int main(int argc, char **argv)
{
        libqcow_file_t *file = NULL;
        libqcow_error_t *error = NULL;
        size64_t bytes = 0;
        size_t count = argc == 3 ? (size_t)atoi(argv[2]) : 0;
        uint64_t *took = calloc(count + 1, sizeof(*took));

        if (count == 0 || !took || libqcow_file_initialize(&file, &error) != 1 ||
            libqcow_file_open(file, argv[1], LIBQCOW_OPEN_READ, &error) != 1 ||
            libqcow_file_get_media_size(file, &bytes, &error) != 1 || bytes < PAGE) {
                fprintf(stderr, "usage: store-qcow IMAGE COUNT (an image that libqcow reads)\n");
                return 1;
        }

        size_t n = sample(file, bytes, took, count);

        if (n > 0) {
                qsort(took, n, sizeof(*took), by_value);
                printf("qcow 4k %llu %llu\n", (unsigned long long)took[(n - 1) / 2],
                       (unsigned long long)took[(n - 1) * 99 / 100]);
        }
        libqcow_file_free(&file, NULL);
        free(took);
        return n == 0;
}
