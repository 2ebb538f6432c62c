/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-filters.h - the page server's filters of system calls (common/filter.h).
 *
 * pageserver/make-filters writes them when the page server is built, from the lists of
 * sandbox-calls.c. Only builds that limit system calls have them: with libseccomp, without
 * sanitizers.
 */
#ifndef PAGESERVER_SANDBOX_FILTERS_H
#define PAGESERVER_SANDBOX_FILTERS_H

#include "common/filter.h"
#include "pageserver/sandbox.h"

#define SANDBOX_MODES (SANDBOX_ON + 1)
#define SANDBOX_ROLES (SANDBOX_MAIN + 1)

extern const struct filter sandbox_filters[SANDBOX_MODES][SANDBOX_ROLES];

#endif
