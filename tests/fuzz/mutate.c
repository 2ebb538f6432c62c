/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/mutate.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

/* a second or two, with a sanitizer too */
#ifndef MUTATIONS
#define MUTATIONS 200000u
#endif
#define INPUT_BYTES_MAX (64u << 20)

static uint64_t random_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

/* Values at which length checks go wrong. */
static uint64_t interesting(uint64_t *state)
{
        static const uint64_t values[] = { 0, 1, 4, 0x7fffffff, 0x80000000, 0xffffffff,
                                           0x100000000, INT64_MAX, UINT64_MAX, UINT64_MAX - 3 };
        uint64_t r = random_next(state);

        return r % 2 ? values[(r >> 8) % ARRAY_SIZE(values)] : r >> (r >> 58);
}

static void run_once(const uint8_t *data, size_t bytes)
{
        AUTO_FREE uint8_t *copy = malloc(bytes ? bytes : 1);

        ASSERT(copy);
        memcpy(copy, data, bytes);
        LLVMFuzzerTestOneInput(copy, bytes);
}

static void run_mutation(const uint8_t *good, size_t bytes, uint64_t *state)
{
        AUTO_FREE uint8_t *data = malloc(bytes);
        unsigned changes = 1 + (unsigned)(random_next(state) % 4);

        ASSERT(data);
        memcpy(data, good, bytes);
        while (changes--) {
                size_t width = (size_t)1 << random_next(state) % 4;
                size_t at = (size_t)(random_next(state) % (bytes - width));
                uint64_t v = interesting(state);

                memcpy(data + at, &v, width);
        }
        run_once(data, random_next(state) % 8 ? bytes : (size_t)(random_next(state) % bytes));
}

static int run_file(const char *path)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        AUTO_FREE char *data = NULL;
        size_t bytes;

        if (fd < 0 || io_read_all(fd, INPUT_BYTES_MAX, &data, &bytes) < 0) {
                fprintf(stderr, "cannot read '%s'\n", path);
                return 1;
        }
        run_once((const uint8_t *)data, bytes);
        return 0;
}

int mutate_main(int argc, char **argv, const uint8_t *good, size_t bytes)
{
        uint64_t state = 0x9e3779b97f4a7c15;
        int rc = 0;

        ASSERT(bytes > 8);
        for (int i = 1; i < argc; i++)
                rc |= run_file(argv[i]);
        if (argc > 1)
                return rc;
        run_once(good, bytes);
        for (unsigned i = 0; i < MUTATIONS; i++)
                run_mutation(good, bytes, &state);
        return 0;
}
