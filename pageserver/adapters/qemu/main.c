/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pageserver/adapters/qemu/import.h"
#include "pageserver/adapters/qemu/options.h"
#include "pageserver/adapters/qemu/revert.h"
#include "pageserver/adapters/qemu/save.h"
#include "pageserver/adapters/qemu/status.h"
#include "pageserver/adapters/qemu/transport.h"

#define PROGRAM "qemu-snapshot"
#define EXIT_USAGE 2

/* People who try it out see what is wrong, and no bytes of a stream. */
static int open_transport(const struct command *c, struct transport *ret, struct err *e)
{
        int rc = transport_open(&c->transport, ret, e);

        if (rc < 0 || !isatty(c->mode == MODE_SAVE ? ret->in : ret->out))
                return rc;
        transport_close(ret);
        return err_msg(e, EINVAL, "standard %s is a terminal: it is QEMU that starts this "
                       "program, see '" PROGRAM " --help'",
                       c->mode == MODE_SAVE ? "input" : "output");
}

/* QEMU may be sending; where the descriptors are not there, then to standard input. */
static void refuse_save(const struct transport_options *o, struct transport *t)
{
        static const struct transport_options standard = { .kind = TRANSPORT_STDIO };

        if (t->in < 0 && o->kind == TRANSPORT_FD)
                transport_open(&standard, t, NULL);
        qemu_save_refuse(t);
}

static int save(const struct command *c, struct err *e)
{
        struct transport t = TRANSPORT_NONE;
        int rc = open_transport(c, &t, e);

        if (rc == 0) {
                transport_enlarge(&t);
                rc = qemu_save(&c->save, &t, e);
        } else {
                refuse_save(&c->transport, &t);
        }
        transport_close(&t);
        return rc;
}

/* A stream that failed before it began, so that QEMU does not wait for it. Where the user
 * named descriptors that are not there, QEMU waits all the same: if it started us, at
 * standard output. */
static void refuse(const struct transport_options *o, struct transport *t)
{
        static const struct transport_options standard = { .kind = TRANSPORT_STDIO };

        if (t->out < 0 && o->kind == TRANSPORT_FD)
                transport_open(&standard, t, NULL);
        if (t->out >= 0 && !isatty(t->out))
                transport_refuse(t);
}

/* Under postcopy too: what may lie in front of a page that the guest waits for is bounded
 * there, whatever there is room for. */
static int revert(const struct command *c, struct err *e)
{
        struct transport t = TRANSPORT_NONE;
        int rc = open_transport(c, &t, e);

        if (rc == 0) {
                transport_enlarge(&t);
                rc = qemu_revert(&c->revert, &t, e);
        }
        /* a recovery only closes: a byte that QEMU 7.2 does not expect then is its end,
         * and the guest's; so it keeps waiting for another migrate-recover */
        if (rc < 0 && !c->revert.recover)
                refuse(&c->transport, &t);
        transport_close(&t);
        return rc;
}

static int run(const struct command *c, struct err *e)
{
        const struct status_query q = {
                .image = c->image, .tag = c->tag, .wait = c->mode == MODE_WAIT,
                .timeout_s = c->transport.timeout_s, .json = c->json,
        };

        switch (c->mode) {
        case MODE_SAVE:
                return save(c, e) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        case MODE_REVERT:
                return revert(c, e) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        case MODE_IMPORT:
                return qemu_import(c->stream, &c->save, e) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        case MODE_EXPORT:
                return qemu_export(&c->revert, c->stream, c->save.writer.force, e) < 0 ?
                       EXIT_FAILURE : EXIT_SUCCESS;
        default:
                return status_ask(&q, e);
        }
}

/* of a command line that is wrong */
static void refuse_unread(int argc, char **argv)
{
        struct transport_options o;
        struct transport t = TRANSPORT_NONE;

        if (options_save_of(argc, argv, &o)) {
                transport_open(&o, &t, NULL);
                refuse_save(&o, &t);
        } else if (options_revert_of(argc, argv, &o)) {
                transport_open(&o, &t, NULL);
                refuse(&o, &t);
        }
}

int main(int argc, char **argv)
{
        struct command c;
        struct err e = { 0 };
        int status = EXIT_FAILURE;

        signal(SIGPIPE, SIG_IGN);       /* what is written to who went away fails instead */
        switch (options_take(argc, argv, &c, &e)) {
        case OPTIONS_RUN:
                status = run(&c, &e);
                break;
        case OPTIONS_ANSWERED:
                return EXIT_SUCCESS;
        case OPTIONS_WRONG:
                err_print(PROGRAM, &e);
                refuse_unread(argc, argv);
                return EXIT_USAGE;
        }
        if (e.code)
                err_print(PROGRAM, &e);
        return status;
}
