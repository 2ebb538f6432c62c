/* SPDX-License-Identifier: Apache-2.0 */
/* door.h - where clients of vmm serve come in: a unix socket, or a TCP port.
 *
 * Who may: at the socket whoever its mode lets in, which are this user and root, and nobody
 * else even if the mode is changed (SO_PEERCRED); at the port who shows the token. Each door
 * has limits of its own, so that a crowd at one keeps nobody out of the other; and who may not
 * come in has others than who may (INV-STRANGE).
 *
 * Threads: the loop's.
 */
#ifndef VMM_SERVE_DOOR_H
#define VMM_SERVE_DOOR_H

#include <event2/event.h>

#include "common/err.h"
#include "vmm/serve/exchange.h"
#include "vmm/serve/token.h"

/* the others wait in the kernel */
#define DOOR_CONNS_MAX 64
/* For a client to say what it wants, and to take its answer; what we need in between is
 * not its time. */
#define DOOR_CONN_SECONDS 10
/* without a byte meanwhile */
#define DOOR_SILENCE_SECONDS 5

struct door;
/* A request that was let in. */
typedef void door_fn(void *ctx, struct exchange *x);

struct door_options {
        struct event_base *base;
        const char *path;               /* of the socket; NULL = TCP: */
        const char *address;            /* HOST:PORT, numbers; [HOST]:PORT */
        const struct token *token;      /* borrowed; with address */
        unsigned rate;                  /* requests a second; as many are turned away */
        door_fn *enter;
        void *ctx;
};

int serve_door_open(const struct door_options *options, struct door **ret, struct err *e);
/* No exchange of it is left. */
void serve_door_close(struct door *d);

#endif
