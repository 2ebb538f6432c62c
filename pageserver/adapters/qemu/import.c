/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/import.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/publish.h"
#include "pageserver/adapters/qemu/input.h"
#include "pageserver/adapters/qemu/pump.h"
#include "pageserver/adapters/qemu/transport.h"

/* the direction in which nobody is */
static int open_nobody(int *ret_fd, struct err *e)
{
        *ret_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "open '/dev/null'") : 0;
}

/* ---- import ----------------------------------------------------------------------------- */

/* A file that is damaged ends too early for the saver (INV-SOUND): what is wrong with
 * the file is the better reason. */
static int save_input(struct input *in, const struct save_options *o, struct err *e)
{
        struct transport t = TRANSPORT_NONE;
        struct err of_file;
        struct pump *pump;
        int rc = open_nobody(&t.out, e);

        if (rc == 0)
                rc = pump_start(in, &pump, &t.in, e);
        if (rc < 0) {
                transport_close(&t);
                return rc;
        }
        rc = qemu_save(o, &t, e);
        transport_close(&t);
        if (pump_end(pump, &of_file) == 0 || rc == 0)
                return rc;
        if (e)
                *e = of_file;
        return of_file.code;
}

int qemu_import(const char *stream, const struct save_options *o, struct err *e)
{
        struct save_options foreground = *o;
        struct input *in = NULL;
        int rc = input_open(stream, &in, e);

        foreground.foreground = true;
        foreground.sync = true;
        if (rc == 0)
                rc = save_input(in, &foreground, e);
        input_close(in);
        return rc;
}

/* ---- export ----------------------------------------------------------------------------- */

static int revert_into(int fd, const struct revert_options *o, struct err *e)
{
        struct transport t = TRANSPORT_NONE;
        int rc = open_nobody(&t.in, e);

        if (rc < 0)
                return rc;
        t.out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        rc = t.out < 0 ? err_set(e, errno, "duplicate a descriptor") : qemu_revert(o, &t, e);
        transport_close(&t);
        return rc;
}

int qemu_export(const struct revert_options *o, const char *stream, bool force, struct err *e)
{
        struct publish *file;
        int rc = publish_new(stream, force, &file, e);

        if (rc < 0)
                return rc;
        rc = revert_into(publish_fd(file), o, e);
        if (rc == 0)
                rc = publish_commit(file, e);
        publish_free(file);
        return rc;
}
