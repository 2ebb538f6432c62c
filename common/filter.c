/* SPDX-License-Identifier: Apache-2.0 */
#include "common/filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/check.h"

/* what to do about it is the same */
#define CANNOT "cannot limit system calls (--sandbox off does without)"

int filter_copy(const struct filter *made, struct sock_fprog *ret, struct err *e)
{
        *ret = (struct sock_fprog){ .len = 0 };
        if (made->steps == 0)
                return 0;

        struct sock_filter *step = calloc(made->steps, sizeof(*step));

        if (!step)
                return err_set(e, ENOMEM, CANNOT);
        memcpy(step, made->step, made->steps * sizeof(*step));
        if (made->pid_step) {
                ASSERT(step[made->pid_step].k == FILTER_PID);
                step[made->pid_step].k = (uint32_t)getpid();
        }
        *ret = (struct sock_fprog){ .len = made->steps, .filter = step };
        return 0;
}

/* No mitigation against code of ours that speculates past stores: it would slow down
 * decompression on kernels before 5.16, and we run nobody's code. */
int filter_load(const struct sock_fprog *filter, struct err *e)
{
        if (filter->len > 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                                       SECCOMP_FILTER_FLAG_SPEC_ALLOW, filter) < 0)
                return err_set(e, errno, CANNOT);
        return 0;
}
