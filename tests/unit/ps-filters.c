/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the programs that were made when the page server was built say of every call what
 *       the lists say that they were made from.
 * Method: filter-verdicts.h. */
#include "common/check.h"
#include "pageserver/sandbox-calls.h"
#include "pageserver/sandbox-filters.h"
#include "tests/unit/expect.h"
#include "tests/unit/filter-verdicts.h"
#include "tests/unit/suite.h"

static const struct filter_group *const worker[] = { filter_living, sandbox_every, NULL };
static const struct filter_group *const main_thread[] = {
        filter_living, sandbox_every, sandbox_main, NULL,
};
static const struct filter_group *const deadly[] = {
        filter_programs, filter_kills, filter_deadly, NULL,
};

static const struct filter_row rows[] = {
        { "log, worker", &sandbox_filters[SANDBOX_LOG][SANDBOX_WORKER], true, worker, deadly },
        { "log, main", &sandbox_filters[SANDBOX_LOG][SANDBOX_MAIN], true, main_thread, deadly },
        { "on, worker", &sandbox_filters[SANDBOX_ON][SANDBOX_WORKER], false, worker, deadly },
        { "on, main", &sandbox_filters[SANDBOX_ON][SANDBOX_MAIN], false, main_thread, deadly },
};

static void verdicts(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                filter_verdicts(&rows[i]);
}

static void process_number(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                filter_process_number(&rows[i]);
}

static void without(void)
{
        for (int role = 0; role < SANDBOX_ROLES; role++) {
                CU_ASSERT(sandbox_filters[SANDBOX_NONE][role].steps == 0);
                CU_ASSERT(sandbox_filters[SANDBOX_OFF][role].steps == 0);
        }
}

static const CU_TestInfo cases[] = {
        { "each verdict is the lists'", verdicts },
        { "one step is the process's own", process_number },
        { "modes without a filter", without },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("filters", cases);
}
