/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - the page server: a loop for clients and signals, workers for faults.
 *
 * Threads: server_run() is the main thread. Faults never run on it.
 */
#ifndef PAGESERVER_SERVER_H
#define PAGESERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/isolate.h"
#include "pageserver/peer-firecracker.h"
#include "pageserver/placement.h"
#include "pageserver/sandbox.h"
#include "pageserver/worker.h"

/* doors for Firecracker's guests */
#define SERVER_FC_MAX 64
/* of sockaddr_un.sun_path */
#define SERVER_SOCKET_BYTES 108

struct server_fc {
        char socket_path[SERVER_SOCKET_BYTES];
        const char *image_path;         /* what they are restored from */
};

struct server_options {
        bool is_private;                /* one client, and no door */
        int private_sock;               /* of the one client; taken */
        const char *socket_path;        /* of a daemon, or NULL */
        struct server_fc fc[SERVER_FC_MAX];
        unsigned fcs;
        enum fc_on_bad fc_on_bad;
        bool fc_kill_on_error;
        const char *http_address;       /* of http.h; NULL = none */
        unsigned workers;               /* of either kind, 1..WORKERS_MAX */
        enum placement placement;
        uint64_t prefetch_limit;        /* bytes per second for each client */
        enum sandbox_mode sandbox;      /* the calling thread enters it too */
        struct account account;         /* for isolate_process(), before server_run() */
        uint64_t around_bytes;          /* fault-around: a power of two, 0 = none */
        uint64_t cache_keep;            /* daemon: bytes of caches that nobody uses */
        bool supervise;                 /* the program's: run under supervise.h */
};

/* The number of workers for this machine. */
unsigned server_default_workers(void);
/* What may be kept in memory for nobody on this machine: a quarter of it. Half of what is
 * commonly left to the page cache, whose work this is; and unlike that it is not
 * given up page by page, so it must not crowd it out. */
uint64_t server_default_keep(void);

/* Serves until SIGTERM or SIGINT, a private server also until its client has hung
 * up and its memory is gone. 0, or an error from starting. */
int server_run(const struct server_options *options, struct err *e);

#endif
