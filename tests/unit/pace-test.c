/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a VM's pace is what the orders so far add up to.
 * Method: a list of orders, and after each the rate that applies. */
#include <CUnit/CUnit.h>
#include <stdio.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/pace.h"

static void orders(void)
{
        static const struct {
                struct rate_order order;
                uint64_t now;
                bool paused;
        } rows[] = {
                { { RATE_SET, 100 }, 100, false },
                { { RATE_PAUSE, 0 }, RATE_OFF, true },
                { { RATE_PAUSE, 0 }, RATE_OFF, true },
                { { RATE_RESUME, 0 }, 100, false },
                { { RATE_RESUME, 0 }, 100, false },
                { { RATE_PAUSE, 0 }, RATE_OFF, true },
                { { RATE_SET, 200 }, 200, false },      /* ends the pause */
                { { RATE_SET, RATE_OFF }, RATE_OFF, false },
                { { RATE_RESUME, 0 }, RATE_OFF, false },
                { { RATE_SET, RATE_UNLIMITED }, RATE_UNLIMITED, false },
        };
        struct pace p;

        pace_init(&p, 7);
        CU_ASSERT_EQUAL(pace_now(&p), 7);
        CU_ASSERT_FALSE(pace_paused(&p));
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char row[32];

                snprintf(row, sizeof(row), "order %zu", i);
                pace_order(&p, &rows[i].order);
                EXPECT_EQUAL(row, pace_now(&p), rows[i].now);
                EXPECT_EQUAL(row, pace_paused(&p), rows[i].paused);
        }
}

static const CU_TestInfo cases[] = {
        { "each order has its effect", orders },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("pace", cases);
}
