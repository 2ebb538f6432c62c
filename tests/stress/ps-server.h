/* SPDX-License-Identifier: Apache-2.0 */
/* ps-server.h - page servers for tests: as a thread, or as this program started
 * anew, both over the fake store. */
#ifndef TESTS_STRESS_PS_SERVER_H
#define TESTS_STRESS_PS_SERVER_H

#include <pthread.h>
#include <sys/types.h>

#include "pageserver/server.h"

struct test_server {
        char folder[32];
        char path[64];                  /* of its socket */
        char http[64];                  /* and that of HTTP */
        pthread_t thread;
        struct server_options options;
        int rc;
};

/* in a thread of this process, as t->options say */
void test_server_launch(struct test_server *t);
/* the same with a name and usual options; it listens when this returns */
void test_server_start(struct test_server *t, unsigned workers);
/* with --http too */
void test_server_start_http(struct test_server *t, unsigned workers);
/* SIGTERM to this process; it must end cleanly */
void test_server_stop(struct test_server *t);

/* a socket path in a folder of its own */
void test_server_name(struct test_server *t);
void test_server_unname(struct test_server *t);
/* until somebody listens there */
void test_server_await(const struct test_server *t);

/* To be called first in main(): if this process was started as --private (by
 * ps_client_spawn) or --daemon PATH, it becomes that server and does not return. */
void test_server_role(int argc, char **argv);

#endif
