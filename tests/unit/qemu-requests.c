/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: requests come out in their order, a page once in a lifetime (INV-ASKED), and no more
 *       are held than there is room for.
 * Method: a queue that is filled and emptied past its end. */
#include "pageserver/adapters/qemu/requests.h"

#include "common/check.h"
#include "tests/unit/suite.h"

static void once(void)
{
        static struct requests r;
        uint64_t page;

        CU_ASSERT_EQUAL_FATAL(requests_init(&r, 100), 0);
        CU_ASSERT(requests_new(&r, 7));
        CU_ASSERT(!requests_new(&r, 7));
        requests_push(&r, 7);
        CU_ASSERT(requests_pop(&r, &page) && page == 7);
        CU_ASSERT(!requests_pop(&r, &page));
        CU_ASSERT(!requests_new(&r, 7));
        CU_ASSERT(requests_new(&r, 99));
        requests_fini(&r);
}

static void in_order_past_the_end(void)
{
        static struct requests r;
        uint64_t in = 0, out = 0, page;

        CU_ASSERT_EQUAL_FATAL(requests_init(&r, 1), 0);
        for (unsigned round = 0; round < 3; round++) {
                while (!requests_full(&r))
                        requests_push(&r, in++);
                CU_ASSERT_EQUAL(in - out, REQUESTS_MAX);
                for (unsigned i = 0; i < REQUESTS_MAX - 5; i++)
                        CU_ASSERT(requests_pop(&r, &page) && page == out++);
        }
        while (requests_pop(&r, &page))
                CU_ASSERT_EQUAL(page, out++);
        CU_ASSERT_EQUAL(in, out);
        requests_fini(&r);
}

static const CU_TestInfo cases[] = {
        { "a page is asked for once", once },
        { "in their order", in_order_past_the_end },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-requests", cases);
}
