/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox-calls.h"

#define STARTS \
        filter_living, sandbox_bytes, sandbox_vcpu, sandbox_guard, sandbox_disk, \
        sandbox_device, sandbox_job, sandbox_loop, sandbox_starter, NULL

/* What a role's threads may: filter_living is every thread's (common/filter-calls.h). */
const struct filter_group *const sandbox_allowed[SANDBOX_ROLES][SANDBOX_LISTS_MAX] = {
        [SANDBOX_VCPU] = { filter_living, sandbox_vcpu, NULL },
        [SANDBOX_DEVICE] = { filter_living, sandbox_bytes, sandbox_device, NULL },
        [SANDBOX_DISK] = { filter_living, sandbox_bytes, sandbox_disk, NULL },
        [SANDBOX_GUARD] = { filter_living, sandbox_bytes, sandbox_guard, NULL },
        [SANDBOX_COPY] = { filter_living, sandbox_bytes, sandbox_guard, sandbox_copy, NULL },
        [SANDBOX_JOB] = {
                filter_living, sandbox_bytes, sandbox_guard, sandbox_disk, sandbox_job, NULL,
        },
        [SANDBOX_LOOP] = {
                filter_living, sandbox_bytes, sandbox_guard, sandbox_disk, sandbox_device,
                sandbox_job, sandbox_loop, NULL,
        },
        [SANDBOX_STARTER] = { STARTS },
        [SANDBOX_PAGER] = { STARTS },
};

#define DEADLY filter_programs, filter_kills, filter_deadly, NULL

/* The starter makes programs, which give up privileges, and ends those that hang. */
const struct filter_group *const sandbox_kills[SANDBOX_ROLES][SANDBOX_LISTS_MAX] = {
        [SANDBOX_VCPU] = { DEADLY },
        [SANDBOX_DEVICE] = { DEADLY },
        [SANDBOX_DISK] = { DEADLY },
        [SANDBOX_GUARD] = { DEADLY },
        [SANDBOX_COPY] = { DEADLY },
        [SANDBOX_JOB] = { DEADLY },
        [SANDBOX_LOOP] = { DEADLY },
        [SANDBOX_STARTER] = { filter_deadly, NULL },
        [SANDBOX_PAGER] = { filter_deadly, NULL },
};
