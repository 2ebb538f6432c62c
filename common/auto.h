/* SPDX-License-Identifier: Apache-2.0 */
/* auto.h - ownership by scope for descriptors and heap.
 *
 * AUTO_FD and AUTO_FREE close or free what they hold when the scope ends.
 * fd_take() and ptr_take() move the value out: from there on the receiver
 * owns it. Locks are never held this way (see lock.h).
 */
#ifndef COMMON_AUTO_H
#define COMMON_AUTO_H

#include <stdlib.h>
#include <unistd.h>

/* closes and marks as closed; a negative descriptor is left alone; errno kept */
void fd_close(int *fd);

static inline int fd_take(int *fd)
{
        int v = *fd;

        *fd = -1;
        return v;
}

static inline void auto_free(void *p)
{
        free(*(void **)p);
}

#define ptr_take(pp) \
        __extension__({ __typeof__(*(pp)) v_ = *(pp); *(pp) = NULL; v_; })

#define AUTO_FD __attribute__((cleanup(fd_close))) int
#define AUTO_FREE __attribute__((cleanup(auto_free)))

#endif
