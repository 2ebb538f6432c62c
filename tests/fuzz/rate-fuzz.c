/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no body of a request makes the parser of prefetch orders misbehave, and what
 *   it refuses changes nothing.
 * Method: libFuzzer, or mutations of one good body (mutate.h). */
#include "common/rate.h"

#include <string.h>

#include "common/check.h"
#include "tests/fuzz/mutate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        struct rate_order order = { .what = RATE_PAUSE, .rate = 4711 };
        struct err e = { 0 };
        int rc = rate_order_parse_json((const char *)data, bytes, &order, &e);

        if (rc == 0) {
                ASSERT(order.what == RATE_SET || order.rate == 0);
        } else {
                ASSERT(e.code == rc && e.text[0]);
                ASSERT(order.what == RATE_PAUSE && order.rate == 4711);
        }
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        static char good[] = "{\"rate\":\"64M\", \"x\":[1,{\"y\":null}]}";

        return mutate_main(argc, argv, (uint8_t *)good, strlen(good));
}

#endif
