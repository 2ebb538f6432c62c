/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/import.h"

#include <errno.h>

int qemu_import(const char *stream, const struct save_options *o, struct err *e)
{
        (void)o;
        return err_msg(e, ENOTSUP, "'%s': this build cannot import yet", stream);
}

int qemu_export(const struct revert_options *o, const char *stream, bool force, struct err *e)
{
        (void)o;
        (void)force;
        return err_msg(e, ENOTSUP, "'%s': this build cannot export yet", stream);
}
