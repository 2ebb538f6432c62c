/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/sample.h"

#include <stdlib.h>

#include "common/check.h"

void sample_add(struct sample *s, uint64_t ns)
{
        if (s->n == s->room) {
                s->room = s->room ? s->room * 2 : 4096;
                s->ns = realloc(s->ns, s->room * sizeof(*s->ns));
                ASSERT(s->ns);
        }
        s->ns[s->n++] = ns;
}

void sample_free(struct sample *s)
{
        free(s->ns);
        *s = (struct sample){ 0 };
}

static int by_value(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a;
        uint64_t y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

uint64_t sample_part(struct sample *s, unsigned percent)
{
        if (s->n == 0)
                return 0;
        qsort(s->ns, s->n, sizeof(*s->ns), by_value);
        return s->ns[(s->n - 1) * percent / 100];
}

/* xorshift64 */
static uint64_t next_random(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

uint32_t *sample_shuffle(size_t n, uint64_t seed)
{
        uint32_t *order = malloc(n * sizeof(*order));
        uint64_t state = seed * 2654435761u + 88172645463325252;

        ASSERT(order);
        for (size_t i = 0; i < n; i++) {
                size_t j = next_random(&state) % (i + 1);

                order[i] = order[j];
                order[j] = (uint32_t)i;
        }
        return order;
}
