/* SPDX-License-Identifier: Apache-2.0 */
/* make-filters - writes the page server's sandbox-filters.c to its standard output. */
#include "common/check.h"
#include "common/filter-make.h"
#include "pageserver/sandbox-calls.h"

static const struct filter_group *const worker[] = { filter_living, sandbox_every, NULL };
static const struct filter_group *const main_thread[] = {
        filter_living, sandbox_every, sandbox_main, NULL,
};
static const struct filter_group *const deadly[] = {
        filter_programs, filter_kills, filter_deadly, NULL,
};

static const struct filter_wanted wanted[] = {
        { "[SANDBOX_LOG][SANDBOX_WORKER]", true, worker, deadly },
        { "[SANDBOX_LOG][SANDBOX_MAIN]", true, main_thread, deadly },
        { "[SANDBOX_ON][SANDBOX_WORKER]", false, worker, deadly },
        { "[SANDBOX_ON][SANDBOX_MAIN]", false, main_thread, deadly },
};

int main(void)
{
        return filter_make(&(struct filter_file){
                .header = "pageserver/sandbox-filters.h",
                .array = "const struct filter sandbox_filters[SANDBOX_MODES][SANDBOX_ROLES]",
                .wanted = wanted, .n = ARRAY_SIZE(wanted),
        });
}
