/* SPDX-License-Identifier: Apache-2.0 */
#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *cond, const char *file, int line)
{
        fprintf(stderr, "snapback: bug: '%s' does not hold at %s:%d; please report it\n",
                cond, file, line);
        abort();
}
