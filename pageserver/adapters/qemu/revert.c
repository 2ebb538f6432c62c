/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/revert.h"

#include <errno.h>

int qemu_revert(const struct revert_options *o, struct transport *t, struct err *e)
{
        (void)t;
        return err_msg(e, ENOTSUP, "'%s': this build cannot revert yet", o->image);
}
