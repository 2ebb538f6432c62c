/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever comes to the doors of vmm serve gets the HTTP status that it earns or is
 *       sent away in time, and others are served all the same. No VM is made here.
 * Method: the program, told to be ready by a socket of ours (sd_notify(3)); a table of
 *         requests; the token; another user; then too long, too slow and too many ones. */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/stress/http-ask.h"

#define TOKEN "correct-horse-battery"
#define READY_SECONDS 30
#define CROWD 200
/* door.h, and some for a slow machine */
#define BODY_MAX (64u << 10)
#define SLOW_SECONDS (10 + 5)
#define OTHER_USER 65534

#define TEST(cond) \
        do { \
                if (!(cond)) { \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
                        exit(1); \
                } \
        } while (0)

extern char **environ;

struct rig {
        char folder[64];
        char sock[96], port[32];
        pid_t pid;
};

/* ---- the service --------------------------------------------------------------- */

/* A port that nobody has: hardly anyone takes it before the service does. */
static void choose_port(struct rig *r)
{
        struct sockaddr_in sa = {
                .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        socklen_t bytes = sizeof(sa);
        AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        TEST(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        TEST(getsockname(fd, (struct sockaddr *)&sa, &bytes) == 0);
        snprintf(r->port, sizeof(r->port), "127.0.0.1:%u", ntohs(sa.sin_port));
}

static int listen_for_ready(const struct rig *r)
{
        struct timeval patience = { .tv_sec = READY_SECONDS };
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/notify", r->folder);
        unlink(sa.sun_path);
        TEST(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        setenv("NOTIFY_SOCKET", sa.sun_path, 1);
        return fd;
}

static void start(struct rig *r, const char *rate)
{
        char token_file[96], said[64] = "";
        AUTO_FD ready = listen_for_ready(r);

        choose_port(r);
        snprintf(r->sock, sizeof(r->sock), "%s/s", r->folder);
        snprintf(token_file, sizeof(token_file), "%s/token", r->folder);

        FILE *f = fopen(token_file, "w");

        TEST(f && fputs(TOKEN "\n", f) >= 0 && fclose(f) == 0 && chmod(token_file, 0600) == 0);

        const char *argv[] = {
                "vmm/vmm", "serve", "--socket", r->sock, "--listen", r->port, "--token-file",
                token_file, "--rate", rate, NULL,
        };

        TEST(posix_spawn(&r->pid, argv[0], NULL, NULL, (char **)argv, environ) == 0);
        TEST(recv(ready, said, sizeof(said) - 1, 0) > 0 && !strcmp(said, "READY=1\n"));
}

static void stop(struct rig *r)
{
        int status;

        TEST(kill(r->pid, SIGTERM) == 0);
        TEST(waitpid(r->pid, &status, 0) == r->pid);
        TEST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        TEST(access(r->sock, F_OK) < 0 && errno == ENOENT);
}

/* ---- requests ------------------------------------------------------------------ */

/* The answer to these bytes; NULL: there was none. */
static char *send_raw(const char *address, const char *text, size_t bytes)
{
        AUTO_FD sock = http_dial(address, true);

        TEST(sock >= 0);
        /* a part may be refused before the rest was taken */
        for (size_t at = 0; at < bytes;) {
                ssize_t n = send(sock, text + at, bytes - at, MSG_NOSIGNAL);

                if (n <= 0)
                        break;
                at += (size_t)n;
        }
        return http_read(sock);
}

static bool is_error_json(const char *answer)
{
        AUTO_JSON *o = NULL;
        const char *body = http_body(answer), *why;
        size_t n = strlen(body);

        while (n > 0 && body[n - 1] == '\n')
                n--;
        return json_parse(body, n, &o, NULL) == 0 && json_take_str(o, "error", &why, NULL) == 0;
}

static void expect(const char *address, const char *what, const char *text, size_t bytes,
                   int status, bool json)
{
        AUTO_FREE char *answer = send_raw(address, text, bytes);

        if (http_status(answer) != status || (json && !is_error_json(answer))) {
                fprintf(stderr, "%s: expected %d, got: %s\n", what, status,
                        answer ? answer : "nothing");
                exit(1);
        }
}

static void table(const struct rig *r)
{
        static const struct {
                const char *what, *request;
                int status;
                bool json;              /* else evhttp's own answer */
        } rows[] = {
                { "no such path", "GET / HTTP/1.1\r\n\r\n", 404, true },
                { "a folder above", "GET /vms/../create HTTP/1.1\r\n\r\n", 404, true },
                { "a name too many", "GET /vms/a/b HTTP/1.1\r\n\r\n", 404, true },
                { "no name", "GET /vms/ HTTP/1.1\r\n\r\n", 404, true },
                { "a bad name", "GET /vms/%2e%2e HTTP/1.1\r\n\r\n", 400, true },
                { "no such VM", "GET /vms/none HTTP/1.1\r\n\r\n", 404, true },
                { "nothing to end", "DELETE /vms/none HTTP/1.1\r\n\r\n", 404, true },
                { "its own socket", "DELETE /vms/serve HTTP/1.1\r\n\r\n", 400, true },
                { "another method", "PUT /create HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 405,
                  true },
                { "HEAD", "HEAD /vms HTTP/1.1\r\n\r\n", 405, false },
                { "TRACE", "TRACE /vms HTTP/1.1\r\n\r\n", 405, true },
                { "no body", "POST /create HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, true },
                { "no JSON", "POST /create HTTP/1.1\r\nContent-Length: 4\r\n\r\n{\"a\"", 400,
                  true },
                { "deep JSON", "POST /create HTTP/1.1\r\nContent-Length: 40\r\n\r\n"
                  "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", 400, true },
                { "nothing to make", "POST /create HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400,
                  true },
                { "nothing to save", "POST /snapshot HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
                  400, true },
                { "nobody to save", "POST /snapshot HTTP/1.1\r\nContent-Length: 13\r\n\r\n"
                  "{\"name\":\"no\"}", 404, true },
                { "no VM to pause", "PATCH /vms/no HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 404,
                  true },
                { "all VMs", "GET /vms HTTP/1.1\r\n\r\n", 200, false },
                { "a query", "GET /vms?a=b HTTP/1.1\r\n\r\n", 200, false },
                { "metrics", "GET /metrics HTTP/1.1\r\n\r\n", 200, false },
                { "a chunked body", "POST /create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "2\r\n{}\r\n0\r\n\r\n", 400, true },
                { "a second request", "GET /vms HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\n\r\n", 200,
                  false },
                { "a negative length", "POST /create HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400,
                  false },
                { "no method", "FROB /vms HTTP/1.1\r\n\r\n", 501, false },
                { "no version", "GET /vms\r\n\r\n", 400, false },
                { "a header without end", "GET /vms HTTP/1.1\r\nnonsense\r\n\r\n", 400, false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                expect(r->sock, rows[i].what, rows[i].request, strlen(rows[i].request),
                       rows[i].status, rows[i].json);
}

static void long_ones(const struct rig *r)
{
        const size_t most = 8u << 20;
        AUTO_FREE char *text = malloc(most);

        TEST(text);

        int head = snprintf(text, most, "POST /create HTTP/1.1\r\nContent-Length: %u\r\n\r\n",
                            BODY_MAX);

        memset(text + head, ' ', most - (size_t)head);
        expect(r->sock, "the longest body", text, (size_t)head + BODY_MAX, 400, true);
        head = snprintf(text, most, "POST /create HTTP/1.1\r\nContent-Length: %u\r\n\r\n",
                        BODY_MAX + 1);
        text[head] = ' ';
        expect(r->sock, "a body too long", text, (size_t)head + BODY_MAX + 1, 413, true);
        head = snprintf(text, most, "POST /create HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n");
        expect(r->sock, "a huge body", text, (size_t)head, 413, false);
        head = snprintf(text, most, "GET /vms HTTP/1.1\r\nX: ");
        memset(text + head, 'x', most - (size_t)head);
        expect(r->sock, "a header too long", text, 32u << 10, 400, false);
}

static void tokens(const struct rig *r)
{
        static const struct {
                const char *what, *request;
                int status;
        } rows[] = {
                { "no token", "GET /vms HTTP/1.1\r\n\r\n", 401 },
                { "no scheme", "GET /vms HTTP/1.1\r\nAuthorization: " TOKEN "\r\n\r\n", 401 },
                { "another", "GET /vms HTTP/1.1\r\nAuthorization: Bearer " TOKEN "x\r\n\r\n",
                  401 },
                { "the token", "GET /vms HTTP/1.1\r\nAuthorization: Bearer " TOKEN "\r\n\r\n",
                  200 },
                { "no token, no path", "GET /nope HTTP/1.1\r\n\r\n", 401 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                expect(r->port, rows[i].what, rows[i].request, strlen(rows[i].request),
                       rows[i].status, rows[i].status == 401);
}

/* Somebody opens the socket to all: others are turned away even so. */
static void other_users(const struct rig *r)
{
        static const char request[] = "GET /vms HTTP/1.1\r\n\r\n";
        int status;

        if (geteuid() != 0) {
                puts("another user is not tried: not root");
                return;
        }
        TEST(chmod(r->sock, 0666) == 0 && chmod(r->folder, 0711) == 0);

        pid_t pid = fork();

        TEST(pid >= 0);
        if (pid == 0) {
                TEST(setuid(OTHER_USER) == 0);
                expect(r->sock, "another user", request, strlen(request), 403, true);
                _exit(0);
        }
        TEST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        TEST(chmod(r->sock, 0600) == 0 && chmod(r->folder, 0700) == 0);
}

static void is_served(const struct rig *r)
{
        AUTO_FREE char *answer = http_ask(r->sock, "GET", "/vms", NULL);

        TEST(http_status(answer) == 200);
}

/* A byte a second is no silence, but has no end. */
static void slow_one(const struct rig *r)
{
        static const char request[] = "GET /vms HTTP/1.1\r\nX: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
        AUTO_FD sock = http_dial(r->sock, true);
        uint64_t start_ns = clock_now_ns();

        TEST(sock >= 0);
        for (size_t i = 0; i < strlen(request); i++) {
                char byte;

                if (send(sock, request + i, 1, MSG_NOSIGNAL) < 0)
                        break;
                TEST(clock_now_ns() - start_ns < SLOW_SECONDS * NS_PER_SEC);
                if (i % 10 == 0)
                        is_served(r);
                sleep(1);
                if (recv(sock, &byte, 1, MSG_DONTWAIT) == 0)
                        break;
        }
}

/* They come and say nothing; who comes behind them is served once they have been sent away. */
static void crowd(const struct rig *r)
{
        int socks[CROWD];
        unsigned n = 0;

        for (unsigned i = 0; i < CROWD; i++) {
                socks[i] = http_dial(r->sock, false);
                n += socks[i] >= 0;
        }
        TEST(n > 64);
        for (unsigned i = 0; i < CROWD; i++) {
                if (i % 2)
                        fd_close(&socks[i]);
        }
        is_served(r);
        for (unsigned i = 0; i < CROWD; i++)
                fd_close(&socks[i]);
        is_served(r);
}

static void too_often(const struct rig *r)
{
        unsigned served = 0, refused = 0;

        for (unsigned i = 0; i < 20; i++) {
                AUTO_FREE char *answer = http_ask(r->sock, "GET", "/vms", NULL);

                served += http_status(answer) == 200;
                refused += http_status(answer) == 429 && strstr(answer, "Retry-After: 1") &&
                           is_error_json(answer);
        }
        TEST(served >= 3 && refused > 0 && served + refused == 20);
        /* the other door has a limit of its own */
        expect(r->port, "the other door", "GET /vms HTTP/1.1\r\n\r\n", 21, 401, true);
}

/* The answer to a request with that token from 127.0.0.N. */
static char *ask_port(const struct rig *r, unsigned n, const char *token)
{
        struct sockaddr_in from = {
                .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + n),
        };
        struct sockaddr_in to = {
                .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                .sin_port = htons((uint16_t)atoi(strchr(r->port, ':') + 1)),
        };
        AUTO_FD sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char text[128];
        int bytes = snprintf(text, sizeof(text), "GET /vms HTTP/1.1\r\n"
                             "Authorization: Bearer %s\r\n\r\n", token);

        TEST(bind(sock, (struct sockaddr *)&from, sizeof(from)) == 0);
        TEST(connect(sock, (struct sockaddr *)&to, sizeof(to)) == 0);
        TEST(send(sock, text, (size_t)bytes, MSG_NOSIGNAL) == bytes);
        return http_read(sock);
}

static unsigned count_status(const struct rig *r, unsigned n, const char *token, unsigned times,
                             int status)
{
        unsigned counted = 0;

        while (times--) {
                AUTO_FREE char *answer = ask_port(r, n, token);

                counted += http_status(answer) == status;
        }
        return counted;
}

/* Those without the token take nothing from who has it; INV-STRANGE. slow: the rate of each
 * address is what ends their answers, else that of the door. */
static void strangers(const struct rig *r, bool slow)
{
        unsigned heard = count_status(r, 3, "wrong-wrong-wrong-wrong", 40, 401);

        TEST(heard >= 3 && heard < 40);
        TEST(count_status(r, 3, "wrong-wrong-wrong-wrong", 10, 429) > 0);
        TEST(count_status(r, 3, TOKEN, 2, 200) == 2);
        if (slow)
                TEST(count_status(r, 4, "wrong-wrong-wrong-wrong", 3, 401) == 3);
}

int main(void)
{
        struct rig r = { .folder = "/tmp/snapback-serve.XXXXXX" };
        char command[96];

        TEST(mkdtemp(r.folder));
        setenv("VMM_RUNTIME_DIR", r.folder, 1);
        start(&r, "100000");
        table(&r);
        long_ones(&r);
        tokens(&r);
        strangers(&r, true);
        other_users(&r);
        slow_one(&r);
        crowd(&r);
        stop(&r);
        start(&r, "3");
        too_often(&r);
        sleep(1);                       /* its 401 has cost one of three */
        strangers(&r, false);
        stop(&r);
        snprintf(command, sizeof(command), "rm -r '%s'", r.folder);
        return system(command) == 0 ? 0 : 1;
}
