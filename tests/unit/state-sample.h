/* SPDX-License-Identifier: Apache-2.0 */
/* state-sample.h - machine states with a different value in every field. */
#ifndef TESTS_UNIT_STATE_SAMPLE_H
#define TESTS_UNIT_STATE_SAMPLE_H

#include "vmm/state-priv.h"

#define SAMPLE_CPUIDS 20
#define SAMPLE_MSRS 30

/* Full range random numbers, the same for the same seed; padding is zero.
 * Aborts without memory; the caller frees. */
struct machine_state *sample_state(unsigned cpus, uint64_t seed);
/* xorshift64; *seed is not 0 */
uint64_t sample_random(uint64_t *seed);

/* Through text, as a file holds it. The caller puts it. */
struct json_object *sample_reparse(struct json_object *o);

#endif
