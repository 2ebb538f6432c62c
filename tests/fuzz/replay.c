/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a fuzz target survives its corpus without a fuzzer at hand.
 * Method: every file of $srcdir/tests/fuzz/corpus/FUZZ_CORPUS, then mutants of
 *       it that are the same in every run: flipped bits, set bytes, cuts. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/io.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/store-ram.h"

#ifndef FUZZ_MUTANTS
#define FUZZ_MUTANTS 2000
#endif
#define INPUT_MAX (1u << 20)

static void mutate(uint8_t *p, size_t *n, uint64_t *state)
{
        static const uint8_t interesting[] = { 0, 1, 0x7f, 0x80, 0xff };
        unsigned changes = 1 + (unsigned)(store_random(state) % 4);

        for (unsigned i = 0; i < changes && *n > 0; i++) {
                size_t at = store_random(state) % *n;

                switch (store_random(state) % 8) {
                case 0:
                        *n = at;
                        break;
                case 1:
                case 2:
                        p[at] = interesting[store_random(state) % sizeof(interesting)];
                        break;
                case 3:
                        p[at] = (uint8_t)store_random(state);
                        break;
                default:
                        p[at] ^= (uint8_t)(1 << store_random(state) % 8);
                        break;
                }
        }
}

static int replay(const char *path)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        AUTO_FREE char *seed = NULL;
        size_t n;
        uint64_t state = 1;

        if (fd < 0 || io_read_all(fd, INPUT_MAX, &seed, &n) < 0) {
                fprintf(stderr, "cannot read '%s'\n", path);
                return -1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)seed, n);
        for (unsigned i = 0; i < FUZZ_MUTANTS; i++) {
                size_t m = n;
                /* of its own size, so that sanitizers see reads behind the end */
                AUTO_FREE uint8_t *mutant = malloc(n + 1);
                AUTO_FREE uint8_t *exact = NULL;

                if (!mutant)
                        return -1;
                memcpy(mutant, seed, n);
                mutate(mutant, &m, &state);
                exact = malloc(m ? m : 1);
                if (!exact)
                        return -1;
                memcpy(exact, mutant, m);
                LLVMFuzzerTestOneInput(exact, m);
        }
        return 0;
}

int main(void)
{
        const char *srcdir = getenv("srcdir");
        char path[4096];
        unsigned files = 0;

        snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".",
                 FUZZ_CORPUS);

        DIR *dir = opendir(path);
        size_t end = strlen(path);

        for (struct dirent *d; dir && (d = readdir(dir));) {
                if (d->d_name[0] == '.')
                        continue;
                snprintf(path + end, sizeof(path) - end, "/%s", d->d_name);
                if (replay(path) < 0)
                        return 1;
                files++;
        }
        if (dir)
                closedir(dir);
        printf("%s: %u seeds, %u mutants of each\n", FUZZ_CORPUS, files, FUZZ_MUTANTS);
        return files == 0;
}
