/* SPDX-License-Identifier: Apache-2.0 */
/* supervise.h - a small parent that keeps what must not be lost with a page server.
 *
 * Where there is no systemd: the manager's end of fdstore.h. It opens the socket,
 * runs the server as its child with the socket and all that the server has put away,
 * and runs another as soon as that one ends. It opens no image and talks to no
 * client, so that there is little in it that could fail.
 *
 *   SIGHUP            upgrade: the program file is started anew beside the server,
 *                     which is ended once the new one is ready to follow
 *   SIGTERM, SIGINT   end: the server, then itself
 *
 * A child that ends before it was ever ready is not tried again: its options are wrong.
 *
 * INV-ONESERVER: what is kept is given to a server only after the one before is gone:
 *                both would claim the same clusters, each on its own map of claims.
 *
 * If the supervisor is killed the server serves on, with nobody behind it.
 *
 * Threads: it must be the only one of its process, for it forks.
 */
#ifndef PAGESERVER_SUPERVISE_H
#define PAGESERVER_SUPERVISE_H

#include "common/err.h"

/* Two for each image cache; more caches than clients there are only of idle ones. */
#define SUPERVISE_KEPT_MAX 4096

/* A server that has run for so long did not end of its start. */
#define SUPERVISE_SETTLED_MS 1000

struct supervise_options {
        const char *socket_path;        /* of our own protocol; NULL = the server has none */
        const char *program;            /* started anew at each upgrade */
        char *const *argv;              /* of the server; NULL-terminated */
        unsigned settled_ms;            /* SUPERVISE_SETTLED_MS */
};

/* Until it is ended. The exit status for the program, or an error from starting. */
int supervise_run(const struct supervise_options *options, struct err *e);

#endif
