/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the programs that were made when the monitor was built say of every call what the
 *       lists of each role say; a role that another starts is not wider than that.
 * Method: filter-verdicts.h; each row of each role's lists is looked for in the starter's. */
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/filter-verdicts.h"
#include "tests/unit/suite.h"
#include "vmm/sandbox-calls.h"

static const char *const names[SANDBOX_ROLES] = {
        "vcpu", "device", "disk", "guard", "copy", "job", "loop", "starter", "pager",
};

static struct filter_row row_of(enum sandbox_mode mode, unsigned role)
{
        return (struct filter_row){
                .name = names[role], .made = &role_filters[mode][role],
                .log = mode == SANDBOX_LOG, .allowed = sandbox_allowed[role],
                .deadly = sandbox_kills[role],
        };
}

static void verdicts(void)
{
        for (unsigned role = 0; role < SANDBOX_ROLES; role++) {
                const struct filter_row log = row_of(SANDBOX_LOG, role);
                const struct filter_row on = row_of(SANDBOX_ON, role);

                filter_verdicts(&log);
                filter_verdicts(&on);
        }
}

/* a program that the starter starts has another number */
static void process_number(void)
{
        for (unsigned role = 0; role < SANDBOX_STARTER; role++) {
                const struct filter_row on = row_of(SANDBOX_ON, role);

                filter_process_number(&on);
        }
        CU_ASSERT(role_filters[SANDBOX_ON][SANDBOX_STARTER].pid_step == 0);
}

/* The same call, without limits or with the same. */
static bool covers(const struct filter_call *wide, const struct filter_call *c)
{
        if (wide->number != c->number)
                return false;
        return wide->limits == 0 || (wide->limits == c->limits &&
                                     !memcmp(wide->limit, c->limit,
                                             c->limits * sizeof(c->limit[0])));
}

static bool starter_has(const struct filter_call *c)
{
        for (const struct filter_group *const *l = sandbox_allowed[SANDBOX_STARTER]; *l; l++) {
                for (const struct filter_group *g = *l; g->reason; g++) {
                        for (size_t i = 0; i < g->n; i++) {
                                if (covers(&g->call[i], c))
                                        return true;
                        }
                }
        }
        return false;
}

static void inherited(void)
{
        for (unsigned role = 0; role < SANDBOX_STARTER; role++) {
                for (const struct filter_group *const *l = sandbox_allowed[role]; *l; l++) {
                        for (const struct filter_group *g = *l; g->reason; g++) {
                                for (size_t i = 0; i < g->n; i++)
                                        EXPECT_TRUE(g->reason, starter_has(&g->call[i]));
                        }
                }
        }
}

static void without(void)
{
        for (unsigned role = 0; role < SANDBOX_ROLES; role++)
                CU_ASSERT(role_filters[SANDBOX_OFF][role].steps == 0);
}

static const CU_TestInfo cases[] = {
        { "each verdict is the lists'", verdicts },
        { "one step is the process's own", process_number },
        { "who starts a thread may all that it may", inherited },
        { "a mode without a filter", without },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("vm-filters", cases);
}
