/* SPDX-License-Identifier: Apache-2.0 */
/* filter-verdicts.h - a filter of system calls against the lists that it was made from.
 *
 * The program is run step by step as the kernel would, against a walk over the lists: all
 * numbers that there are and the edges of the ranges; for each row what it wants of the
 * arguments, and that with each single bit turned.
 */
#ifndef TESTS_UNIT_FILTER_VERDICTS_H
#define TESTS_UNIT_FILTER_VERDICTS_H

#include <stdbool.h>

#include "common/filter-calls.h"
#include "common/filter.h"

struct filter_row {
        const char *name;
        const struct filter *made;
        bool log;
        const struct filter_group *const *allowed;      /* NULL ends both */
        const struct filter_group *const *deadly;
};

/* CUnit assertions */
void filter_verdicts(const struct filter_row *row);
/* One step is the process's own; loaded as it is the program lets nobody be signalled. */
void filter_process_number(const struct filter_row *row);

#endif
