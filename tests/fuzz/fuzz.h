/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - the one function of a fuzz target. libFuzzer calls it with what it
 * invents (--enable-fuzzers); in plain `make check` replay.c calls it with the
 * corpus and simple mutants of it. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
