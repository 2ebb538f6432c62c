/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/save.h"

#include <errno.h>

int qemu_save(const struct save_options *o, struct transport *t, struct err *e)
{
        (void)t;
        return err_msg(e, ENOTSUP, "'%s': this build cannot save yet", o->image);
}
