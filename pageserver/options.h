/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the command line of pageserver, as a table.
 *
 * A row is an option: its name, its argument, its lines of --help and the function
 * that takes it into server_options. To add one: a row and a function in options.c,
 * and its words in pageserver(8) and contrib/completion/pageserver.bash.
 */
#ifndef PAGESERVER_OPTIONS_H
#define PAGESERVER_OPTIONS_H

#include "common/err.h"
#include "pageserver/server.h"

enum options {
        OPTIONS_SERVE,
        OPTIONS_ANSWERED,               /* --help, --version: nothing is to be done */
        OPTIONS_WRONG,                  /* the err says what */
};

/* *ret starts with the defaults; texts in it point into argv. */
enum options options_take(int argc, char **argv, struct server_options *ret, struct err *e);

#endif
