/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-filters.h - the filters of system calls of a VM's threads (common/filter.h).
 *
 * vmm/make-filters writes them when the monitor is built, from the lists of sandbox-calls.h.
 * Only builds that limit system calls have them: with libseccomp, without sanitizers.
 */
#ifndef VMM_SANDBOX_FILTERS_H
#define VMM_SANDBOX_FILTERS_H

#include "common/filter.h"
#include "vmm/sandbox.h"

#define SANDBOX_MODES (SANDBOX_ON + 1)
#define SANDBOX_ROLES (SANDBOX_PAGER + 1)

extern const struct filter role_filters[SANDBOX_MODES][SANDBOX_ROLES];

#endif
