/* SPDX-License-Identifier: Apache-2.0 */
/* make-filters - writes the monitor's sandbox-filters.c to its standard output. */
#include "common/check.h"
#include "common/filter-make.h"
#include "vmm/sandbox-calls.h"

#define ROLE(role) \
        { "[SANDBOX_LOG][" #role "]", true, sandbox_allowed[role], sandbox_kills[role] }, \
        { "[SANDBOX_ON][" #role "]", false, sandbox_allowed[role], sandbox_kills[role] }

static const struct filter_wanted wanted[] = {
        ROLE(SANDBOX_VCPU),
        ROLE(SANDBOX_DEVICE),
        ROLE(SANDBOX_DISK),
        ROLE(SANDBOX_GUARD),
        ROLE(SANDBOX_COPY),
        ROLE(SANDBOX_JOB),
        ROLE(SANDBOX_LOOP),
        ROLE(SANDBOX_STARTER),
        ROLE(SANDBOX_PAGER),
};

int main(void)
{
        return filter_make(&(struct filter_file){
                .header = "vmm/sandbox-filters.h",
                .array = "const struct filter role_filters[SANDBOX_MODES][SANDBOX_ROLES]",
                .wanted = wanted, .n = ARRAY_SIZE(wanted),
        });
}
