/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/metasum.h"

#include "qcowstore/xxh3.h"

struct metasum *metasum_new(uint64_t seed)
{
        XXH3_state_t *state = XXH3_createState();

        if (state)
                XXH3_64bits_reset_withSeed(state, seed);
        return (struct metasum *)state;
}

void metasum_free(struct metasum *m)
{
        XXH3_freeState((XXH3_state_t *)m);
}

void metasum_add(struct metasum *m, const void *bytes, size_t n)
{
        XXH3_64bits_update((XXH3_state_t *)m, bytes, n);
}

uint64_t metasum_get(const struct metasum *m)
{
        uint64_t sum = XXH3_64bits_digest((const XXH3_state_t *)m);

        return sum ? sum : 1;
}
