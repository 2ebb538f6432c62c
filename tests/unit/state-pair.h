/* SPDX-License-Identifier: Apache-2.0 */
/* state-pair.h - a saved VM and a new one to load, both of state-fake.h. */
#ifndef TESTS_UNIT_STATE_PAIR_H
#define TESTS_UNIT_STATE_PAIR_H

#include "tests/unit/state-fake.h"

#define PAIR_KHZ 2000000u

struct pair_saved {
        struct json_object *json;
        struct state_blob blob;
};

struct pair {
        struct fake from, to;
        struct pair_saved saved;
};

/* A state as a running VM has it: consistent where the loader looks. */
struct machine_state *pair_plausible(unsigned cpus, uint64_t seed);
/* As after creation: the same MSRs exist, nothing has a value. */
struct machine_state *pair_fresh(const struct machine_state *like);

struct pair_saved pair_save(struct fake *f);
void pair_saved_fini(struct pair_saved *s);

/* Two VMs, the first one saved. */
struct pair *pair_new(unsigned cpus);
void pair_free(struct pair *p);
int pair_load(struct pair *p, struct err *e);

#endif
