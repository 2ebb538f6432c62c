/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds the fuzz target with well-formed messages and 10^5 mutations of them, from a
 * fixed seed. Files named on the command line are fed as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/wire/psmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUTATIONS 100000

static size_t seed_message(unsigned *seed, uint8_t *buf)
{
        static struct psmsg m;

        memset(&m, 0, sizeof(m));
        m.type = (enum psmsg_type)(PSMSG_HELLO + (unsigned)rand_r(seed) % PSMSG_TYPE_LAST);
        if (m.type == PSMSG_WELCOME)
                m.welcome.lane = PSMSG_LANE_COPY;
        if (m.type == PSMSG_ERROR)
                m.error = (struct psmsg_error){ .code = -1, .text = "why" };
        if (m.type == PSMSG_HELLO)
                m.hello = (struct psmsg_hello){
                        .nimages = 1 + (unsigned)rand_r(seed) % PSMSG_IMAGES_MAX,
                        .page_bytes = PSMSG_PAGE_SMALL, .has_cache = rand_r(seed) % 2,
                        .tag = "tag", .path = "path",
                };
        if (m.type == PSMSG_ATTACH) {
                m.attach.nuffds = 1 + (unsigned)rand_r(seed) % PSMSG_UFFDS_MAX;
                m.attach.nregions = 1 + (unsigned)rand_r(seed) % 8;
                for (unsigned i = 0; i < m.attach.nregions; i++)
                        m.attach.region[i] = (struct psmsg_region){
                                .hva = (1ull << 32) + ((uint64_t)i << 22), .bytes = 1 << 21,
                                .gpa = (uint64_t)i << 21, .uffd = i % m.attach.nuffds,
                        };
        }
        return psmsg_encode(&m, buf);
}

/* in a block of its own size, so that a sanitizer sees what lies behind */
static void feed(const uint8_t *data, size_t n)
{
        uint8_t *copy = malloc(n + 1);

        ASSERT(copy);
        memcpy(copy, data, n);
        LLVMFuzzerTestOneInput(copy, n);
        free(copy);
}

static void feed_file(const char *path)
{
        static uint8_t buf[4 * PSMSG_BYTES_MAX];
        FILE *f = fopen(path, "rb");

        ASSERT(f);
        feed(buf, fread(buf, 1, sizeof(buf), f));
        fclose(f);
}

int main(int argc, char **argv)
{
        uint8_t buf[PSMSG_BYTES_MAX + 64];
        unsigned seed = 20;

        for (int i = 1; i < argc; i++)
                feed_file(argv[i]);
        for (unsigned k = 0; k < MUTATIONS; k++) {
                size_t n = seed_message(&seed, buf);
                unsigned flips = (unsigned)rand_r(&seed) % 4;

                for (unsigned i = 0; i < flips; i++)
                        buf[(unsigned)rand_r(&seed) % n] = (uint8_t)rand_r(&seed);
                if (rand_r(&seed) % 8 == 0)
                        n = (unsigned)rand_r(&seed) % (n + 1);
                feed(buf, n);
        }
        return 0;
}
