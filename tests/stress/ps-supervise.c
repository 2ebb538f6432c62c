/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a supervisor gives up at once on a server that never was ready, starts one that
 *       dies young again and again but not without pause, and keeps nothing for
 *       strangers. It leaves no descriptor to its server that was not meant for it.
 * Method: this program as servers that misbehave; starts are counted in a file. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/fdstore.h"
#include "pageserver/supervise.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-procs.h"
#include "tests/stress/ps-server.h"

#define WATCH_MS 1500
#define FAILED_STATUS 3

static void moment(unsigned ms)
{
        struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

        nanosleep(&ts, NULL);
}

/* ---- the servers ---------------------------------------------------------------- */

static void say_ready(void)
{
        struct fdstore store;
        struct err e;

        MUST(fdstore_open(&store, getenv("NOTIFY_SOCKET"), &e), &e);
        fdstore_ready(&store);
        fdstore_close(&store);
}

static int count_start(const char *counter)
{
        AUTO_FD fd = open(counter, O_WRONLY | O_APPEND | O_CLOEXEC);

        TEST(write(fd, ".", 1) == 1);
        return 0;
}

/* 0, 1, 2 and the socket, and none that is named anything else */
static int only_the_socket(void)
{
        struct fdgivens g;
        struct err e;

        MUST(fdstore_given(&g, &e), &e);
        TEST(g.n == 1 && !strcmp(g.given[0].name, "socket"));
        for (int fd = 3 + (int)g.n; fd < 200; fd++)
                TEST(fcntl(fd, F_GETFD) < 0);
        fdgivens_free(&g);
        return 0;
}

static int serve(const char *how, const char *counter)
{
        count_start(counter);
        if (!strcmp(how, "fail"))
                return FAILED_STATUS;
        only_the_socket();
        say_ready();
        if (!strcmp(how, "die"))
                raise(SIGKILL);
        for (;;)
                pause();
}

static int supervise(const char *how, const char *path)
{
        char self[PATH_MAX], counter[80];
        char *argv[] = { (char *)"self", (char *)"--serve", (char *)how, counter, NULL };
        struct supervise_options o = {
                .socket_path = path, .program = self, .argv = argv, .settled_ms = 1000,
        };
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        struct err e;

        TEST(n > 0);
        self[n] = '\0';
        snprintf(counter, sizeof(counter), "%s.count", path);

        int rc = supervise_run(&o, &e);

        MUST(rc, &e);
        return rc;
}

/* ---- the test ----------------------------------------------------------------------- */

struct rig {
        struct test_server names;
        char counter[80];
        pid_t supervisor;
};

static void start(struct rig *r, const char *role)
{
        test_server_name(&r->names);
        snprintf(r->counter, sizeof(r->counter), "%s.count", r->names.path);
        close(open(r->counter, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        r->supervisor = guest_run_self(role, r->names.path, -1);
}

static unsigned starts(const struct rig *r)
{
        AUTO_FD fd = open(r->counter, O_RDONLY | O_CLOEXEC);

        return (unsigned)lseek(fd, 0, SEEK_END);
}

static void await_starts(const struct rig *r, unsigned n)
{
        for (int i = 0; starts(r) < n; i++) {
                TEST(i < 10000);
                moment(1);
        }
}

static void ended_with(struct rig *r, int want)
{
        int status;

        TEST(waitpid(r->supervisor, &status, 0) == r->supervisor);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == want);
        TEST(access(r->names.path, F_OK) < 0);
        unlink(r->counter);
        test_server_unname(&r->names);
}

static void gives_up(void)
{
        struct rig r;

        start(&r, "--supervise-fail");
        ended_with(&r, FAILED_STATUS);
        printf("ok: a server that never was ready is not tried again\n");
}

static void takes_its_time(void)
{
        struct rig r;
        unsigned n;

        start(&r, "--supervise-die");
        await_starts(&r, 4);            /* these come at once */
        moment(WATCH_MS);
        n = starts(&r);
        /* 100, 200, 400 and 800 ms later */
        TEST(n >= 6 && n <= 10);
        TEST(kill(r.supervisor, SIGTERM) == 0);
        ended_with(&r, 0);
        printf("ok: %u starts of one that dies at once\n", n);
}

/* the variable as the server has it */
static void address_of(pid_t server, char *ret, size_t room)
{
        static const char key[] = "NOTIFY_SOCKET=";
        char name[64], text[32768];

        snprintf(name, sizeof(name), "/proc/%d/environ", (int)server);

        AUTO_FD fd = open(name, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, text, sizeof(text) - 1);

        TEST(n > 0);
        text[n] = '\0';
        for (const char *at = text; at < text + n; at += strlen(at) + 1) {
                if (!strncmp(at, key, strlen(key))) {
                        snprintf(ret, room, "%s", at + strlen(key));
                        return;
                }
        }
        TEST(!"the server has a manager");
}

static void keeps_nothing_for_strangers(void)
{
        struct rig r;
        struct fdstore store;
        char address[200];
        struct err e;

        start(&r, "--supervise-idle");
        await_starts(&r, 1);
        address_of(procs_only_child(r.supervisor), address, sizeof(address));
        moment(100);                    /* it has said that it is ready */

        unsigned before = procs_fds(r.supervisor);

        MUST(fdstore_open(&store, address, &e), &e);
        for (int i = 0; i < 20; i++)
                MUST(fdstore_put(&store, "cache-0-1", 0, &e), &e);
        fdstore_close(&store);
        moment(100);
        TEST(procs_fds(r.supervisor) == before);
        TEST(kill(procs_only_child(r.supervisor), SIGKILL) == 0);
        await_starts(&r, 2);            /* it looks at what it is given */
        moment(100);
        TEST(starts(&r) == 2);
        TEST(kill(r.supervisor, SIGTERM) == 0);
        ended_with(&r, 0);
        printf("ok: strangers store nothing\n");
}

int main(int argc, char **argv)
{
        static const char role[] = "--supervise-";

        setbuf(stdout, NULL);
        if (argc == 4 && !strcmp(argv[1], "--serve"))
                return serve(argv[2], argv[3]);
        if (argc == 3 && !strncmp(argv[1], role, strlen(role)))
                return supervise(argv[1] + strlen(role), argv[2]);
        alarm(60);
        gives_up();
        takes_its_time();
        keeps_nothing_for_strangers();
        return 0;
}
