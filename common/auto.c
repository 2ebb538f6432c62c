/* SPDX-License-Identifier: Apache-2.0 */
#include "common/auto.h"

#include <errno.h>

void fd_close(int *fd)
{
        if (*fd >= 0) {
                int keep = errno;

                close(*fd);
                errno = keep;
        }
        *fd = -1;
}
