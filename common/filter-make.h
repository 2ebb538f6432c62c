/* SPDX-License-Identifier: Apache-2.0 */
/* filter-make.h - writes filters of system calls as C, for a part's make-filters.
 *
 * Runs once, when the part is built. Other kernels than this one will load the programs, so
 * libseccomp is told what they can do (FILTER_API) and does not look here.
 */
#ifndef COMMON_FILTER_MAKE_H
#define COMMON_FILTER_MAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/filter-calls.h"

struct filter_wanted {
        const char *index;                              /* of the array, in C */
        bool log;                                       /* refuses nothing, logs it */
        const struct filter_group *const *allowed;      /* NULL ends both */
        const struct filter_group *const *deadly;
};

struct filter_file {
        const char *header;             /* that declares it */
        const char *array;              /* its declaration */
        const struct filter_wanted *wanted;
        size_t n;
};

/* The file, to standard output; an exit status. */
int filter_make(const struct filter_file *file);

#endif
