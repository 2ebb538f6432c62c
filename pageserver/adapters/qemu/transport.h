/* SPDX-License-Identifier: Apache-2.0 */
/* transport.h - the two directions between QEMU and this program.
 *
 * Under "exec:" they are standard input and output, two pipes; else one socket, or two
 * descriptors that were inherited. Descriptors are blocking and close-on-exec. Peers
 * are untrusted: whoever reads `in` judges every byte.
 *
 * Ownership: transport_close() closes what was opened.
 * Threads:   `wrote` belongs to whoever writes.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_TRANSPORT_H
#define PAGESERVER_ADAPTERS_QEMU_TRANSPORT_H

#include <stdbool.h>

#include "common/err.h"

struct transport {
        int in;                         /* from QEMU */
        int out;                        /* to QEMU; may be the same as in */
        bool wrote;                     /* to be set by who writes the first byte to out */
};

#define TRANSPORT_NONE { .in = -1, .out = -1 }

enum transport_kind { TRANSPORT_STDIO, TRANSPORT_FD, TRANSPORT_LISTEN, TRANSPORT_CONNECT };

struct transport_options {
        enum transport_kind kind;
        int in, out;                    /* FD */
        const char *address;            /* LISTEN, CONNECT: "unix:PATH", "tcp:HOST:PORT" */
        unsigned timeout_s;             /* for the connection to be made; 0 = no end */
};

/* "fd:N", "fd:IN,OUT" */
int transport_parse_uri(const char *text, struct transport_options *ret, struct err *e);
/* judges an address; kind: LISTEN or CONNECT. An IPv6 host stands in brackets. */
int transport_parse_address(const char *text, enum transport_kind kind,
                            struct transport_options *ret, struct err *e);

/* Waits for the connection, if there is to be one. LISTEN accepts one; its socket in
 * the file system has mode 0600 and is removed before this returns. */
int transport_open(const struct transport_options *o, struct transport *ret, struct err *e);
/* Pipes and sockets hold as much as the kernel lets them, up to 1 MiB: 3 times the speed
 * of the default, but so much lies in front of an urgent page. */
void transport_enlarge(const struct transport *t);
/* QEMU that waits for a stream does so for ever when it gets none; a byte that begins
 * none, and ends none, makes it fail at once. Nothing is done if something was written. */
void transport_refuse(struct transport *t);
/* Nothing is written any more, what QEMU sends is still read. */
void transport_end(struct transport *t);
void transport_close(struct transport *t);

#endif
