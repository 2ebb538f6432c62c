/* SPDX-License-Identifier: Apache-2.0 */
/* mutate.h - runs a fuzz target without libFuzzer: on files, or on mutations of
 * one good input.
 *
 * Every input lies in a heap block of its own size, so that ASan sees each byte
 * read beyond it.
 */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The files named on the command line; without any, `good`, all its mutations
 * and cuts, the same in every run. Returns an exit status. */
int mutate_main(int argc, char **argv, const uint8_t *good, size_t bytes);

#endif
