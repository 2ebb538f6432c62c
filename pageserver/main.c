/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>

#include "pageserver/isolate.h"
#include "pageserver/options.h"
#include "pageserver/server.h"

#define EXIT_USAGE 2

static int serve(const struct server_options *o)
{
        struct err e;

        signal(SIGPIPE, SIG_IGN);               /* of stderr; sockets do without */
        if (isolate_process(&o->account, &e) == 0 && server_run(o, &e) == 0)
                return EXIT_SUCCESS;
        err_print("pageserver", &e);
        return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
        struct server_options o;
        struct err e;

        switch (options_take(argc, argv, &o, &e)) {
        case OPTIONS_SERVE:
                return serve(&o);
        case OPTIONS_ANSWERED:
                return EXIT_SUCCESS;
        case OPTIONS_WRONG:
                break;
        }
        err_print("pageserver", &e);
        return EXIT_USAGE;
}
