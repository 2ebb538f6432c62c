/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/ps-server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pageserver/client.h"
#include "tests/stress/ps-guest.h"

void test_server_name(struct test_server *t)
{
        strcpy(t->folder, "ps-test-XXXXXX");
        TEST(mkdtemp(t->folder) != NULL);
        snprintf(t->path, sizeof(t->path), "%s/socket", t->folder);
        snprintf(t->http, sizeof(t->http), "%s/http", t->folder);
}

void test_server_unname(struct test_server *t)
{
        unlink(t->path);
        TEST(rmdir(t->folder) == 0);
}

void test_server_await(const struct test_server *t)
{
        struct timespec moment = { .tv_nsec = 1000000 };
        struct ps_client *c;

        for (int i = 0; i < 10000; i++) {
                if (ps_client_connect(t->path, &c, NULL) == 0) {
                        ps_client_free(c);
                        return;
                }
                nanosleep(&moment, NULL);
        }
        TEST(!"the server listens");
}

static void *run(void *arg)
{
        struct test_server *t = arg;
        struct err e;

        t->rc = server_run(&t->options, &e);
        if (t->rc < 0)
                fprintf(stderr, "server: %s\n", e.text);
        return NULL;
}

void test_server_launch(struct test_server *t)
{
        TEST(pthread_create(&t->thread, NULL, run, t) == 0);
}

static void start(struct test_server *t, unsigned workers, bool http)
{
        test_server_name(t);
        t->options = (struct server_options){
                .socket_path = t->path, .http_address = http ? t->http : NULL,
                .workers = workers, .prefetch_limit = UINT64_MAX,
        };
        test_server_launch(t);
        test_server_await(t);
}

void test_server_start(struct test_server *t, unsigned workers)
{
        start(t, workers, false);
}

void test_server_start_http(struct test_server *t, unsigned workers)
{
        start(t, workers, true);
}

void test_server_stop(struct test_server *t)
{
        TEST(kill(getpid(), SIGTERM) == 0);
        TEST(pthread_join(t->thread, NULL) == 0);
        TEST(t->rc == 0);
        TEST(access(t->path, F_OK) < 0);
        test_server_unname(t);
}

void test_server_role(int argc, char **argv)
{
        struct server_options o = { .private_sock = 3, .workers = 2,
                                    .prefetch_limit = UINT64_MAX, .sandbox = SANDBOX_ON };
        struct err e;

        if (argc == 3 && !strcmp(argv[1], "--daemon"))
                o.socket_path = argv[2];
        else if (argc == 2 && !strcmp(argv[1], "--private"))
                o.is_private = true;
        else
                return;
        if (server_run(&o, &e) < 0) {
                fprintf(stderr, "server: %s\n", e.text);
                exit(1);
        }
        exit(0);
}
