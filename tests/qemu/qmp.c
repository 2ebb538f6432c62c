/* SPDX-License-Identifier: Apache-2.0 */
/* qmp - talk to QEMU's monitor from a shell script.
 *
 * usage:  qmp [--timeout SECONDS] SOCKET COMMAND [ARGUMENTS]
 *         qmp --session SOCKET
 *
 * The first form waits for the socket, runs one command and prints what it returns.
 * Exit status: 0; 1 when QEMU answers with an error; 3 when it does not answer in time.
 *
 * A session keeps its connection, so that no event is lost, and has out-of-band
 * commands, which QEMU takes also while its main loop is blocked. Lines on standard
 * input are "COMMAND [ARGUMENTS]", with "!" in front if out of band. All that happens
 * becomes one line, with the time in seconds since the epoch (events: QEMU's own):
 *
 *         1763740000.123456 sent COMMAND
 *         1763740000.123456 return VALUE
 *         1763740000.123456 error TEXT
 *         1763740000.123456 event NAME DATA
 *         1763740000.123456 closed
 *
 * It ends when QEMU closes the connection. ARGUMENTS are a JSON object without blanks
 * in front of its brace.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/io.h"
#include "common/json.h"

#define SECONDS_DEFAULT 60
/* query-block of a machine with many disks takes some 100 KiB */
#define MESSAGE_BYTES_MAX (4u << 20)
#define LINE_BYTES_MAX 65536
#define NEVER UINT64_MAX

enum { EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_SILENT };

/* Messages are lines; what is behind the last newline waits for its rest. */
struct qmp {
        int fd;
        size_t have, taken;             /* bytes in text; of them, given out */
        char *text;                     /* MESSAGE_BYTES_MAX */
};

/* A connection to a socket that may not be there yet. */
static int qmp_connect(const char *path, uint64_t deadline_ns, struct qmp *q, struct err *e)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (strlen(path) >= sizeof(address.sun_path))
                return err_msg(e, ENAMETOOLONG, "'%s' is too long for a socket", path);
        strcpy(address.sun_path, path);
        q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (q->fd < 0)
                return err_set(e, errno, "socket");
        while (connect(q->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                if (errno != ENOENT && errno != ECONNREFUSED && errno != EINTR)
                        return err_set(e, errno, "connect '%s'", path);
                if (clock_now_ns() > deadline_ns)
                        return err_msg(e, ETIMEDOUT, "nobody listens on '%s'", path);
                usleep(20000);
        }
        q->text = malloc(MESSAGE_BYTES_MAX);
        return q->text ? 0 : err_set(e, ENOMEM, "messages");
}

static void qmp_close(struct qmp *q)
{
        fd_close(&q->fd);
        free(q->text);
}

static int wait_readable(int fd, uint64_t deadline_ns, struct err *e)
{
        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                uint64_t now_ns = clock_now_ns();
                int ms = deadline_ns == NEVER ? -1 :
                         now_ns >= deadline_ns ? 0 :
                         (int)((deadline_ns - now_ns) / NS_PER_MS) + 1;
                int n = poll(&p, 1, ms);

                if (n > 0)
                        return 0;
                if (n == 0)
                        return err_msg(e, ETIMEDOUT, "QEMU does not answer");
                if (errno != EINTR)
                        return err_set(e, errno, "poll");
        }
}

/* What the socket has now; -ENODATA at its end. */
static int qmp_fill(struct qmp *q, struct err *e)
{
        memmove(q->text, q->text + q->taken, q->have - q->taken);
        q->have -= q->taken;
        q->taken = 0;
        if (q->have == MESSAGE_BYTES_MAX)
                return err_msg(e, EBADMSG, "QEMU sent a message of more than %u bytes",
                               MESSAGE_BYTES_MAX);

        ssize_t n = read(q->fd, q->text + q->have, MESSAGE_BYTES_MAX - q->have);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n < 0 && errno != ECONNRESET)
                return err_set(e, errno, "read from QEMU");
        if (n <= 0)
                return err_msg(e, ENODATA, "QEMU closed its monitor");
        q->have += (size_t)n;
        return 0;
}

/* The next whole message, or *ret = NULL if there is none yet. */
static int qmp_take(struct qmp *q, struct json_object **ret, struct err *e)
{
        char *line = q->text + q->taken;
        char *end = memchr(line, '\n', q->have - q->taken);

        *ret = NULL;
        if (!end)
                return 0;
        q->taken += (size_t)(end + 1 - line);
        while (end > line && end[-1] == '\r')
                end--;
        return json_parse(line, (size_t)(end - line), ret, e);
}

static int qmp_message(struct qmp *q, uint64_t deadline_ns, struct json_object **ret,
                       struct err *e)
{
        for (;;) {
                int rc = qmp_take(q, ret, e);

                if (rc < 0 || *ret)
                        return rc;
                rc = wait_readable(q->fd, deadline_ns, e);
                if (rc == 0)
                        rc = qmp_fill(q, e);
                if (rc < 0)
                        return rc;
        }
}

/* how: "execute" or "exec-oob"; arguments: JSON or NULL */
static int qmp_send(struct qmp *q, const char *how, const char *command, const char *arguments,
                    struct err *e)
{
        AUTO_FREE char *text = NULL;
        int n = asprintf(&text, "{\"%s\": \"%s\", \"arguments\": %s, \"id\": \"%s\"}\n", how,
                         command, arguments ? arguments : "{}", command);

        if (n < 0) {
                text = NULL;
                return err_set(e, ENOMEM, "command");
        }

        int rc = io_write_full(q->fd, text, (size_t)n);

        return rc < 0 ? err_set(e, -rc, "write to QEMU") : 0;
}

/* 1 and the value when this is the answer to a command, 0 when it is an event,
 * -EREMOTEIO and its sentence when QEMU refused. *ret is borrowed. */
static int answer_of(struct json_object *message, struct json_object **ret, struct err *e)
{
        struct json_object *error;
        const char *text = "no description";

        if (json_object_object_get_ex(message, "return", ret))
                return 1;
        if (!json_object_object_get_ex(message, "error", &error))
                return 0;
        (void)json_take_str(error, "desc", &text, NULL);
        return err_msg(e, EREMOTEIO, "%s", text);
}

/* Sends a command and takes its answer; events until then are dropped. *ret is the
 * caller's message, *ret_value lies in it. */
static int qmp_command(struct qmp *q, const char *command, const char *arguments,
                       uint64_t deadline_ns, struct json_object **ret,
                       struct json_object **ret_value, struct err *e)
{
        int rc = qmp_send(q, "execute", command, arguments, e);

        while (rc == 0) {
                AUTO_JSON *message = NULL;

                rc = qmp_message(q, deadline_ns, &message, e);
                if (rc == 0)
                        rc = answer_of(message, ret_value, e);
                if (rc == 1)
                        *ret = ptr_take(&message);
        }
        return rc < 0 ? rc : 0;
}

static int qmp_open(const char *path, bool oob, uint64_t deadline_ns, struct qmp *q,
                    struct err *e)
{
        AUTO_JSON *greeting = NULL;
        AUTO_JSON *answer = NULL;
        struct json_object *value;
        int rc = qmp_connect(path, deadline_ns, q, e);

        if (rc == 0)
                rc = qmp_message(q, deadline_ns, &greeting, e);
        if (rc == 0)
                rc = qmp_command(q, "qmp_capabilities", oob ? "{\"enable\": [\"oob\"]}" : NULL,
                                 deadline_ns, &answer, &value, e);
        return rc;
}

static const char *json_text(struct json_object *o)
{
        return json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                 JSON_C_TO_STRING_NOSLASHESCAPE);
}

/* ---- one command --------------------------------------------------------------- */

static int run_command(const char *path, const char *command, const char *arguments,
                       uint64_t seconds, struct err *e)
{
        __attribute__((cleanup(qmp_close))) struct qmp q = { .fd = -1 };
        uint64_t deadline_ns = clock_now_ns() + seconds * NS_PER_SEC;
        AUTO_JSON *answer = NULL;
        struct json_object *value;
        int rc = qmp_open(path, false, deadline_ns, &q, e);

        if (rc == 0)
                rc = qmp_command(&q, command, arguments, deadline_ns, &answer, &value, e);
        /* QEMU may end before it answers */
        if (rc == -ENODATA && strcmp(command, "quit") == 0)
                return 0;
        if (rc == 0)
                puts(json_text(value));
        return rc;
}

/* ---- a session ----------------------------------------------------------------- */

static void put_line(uint64_t wall_ns, const char *what, const char *text)
{
        printf("%llu.%06llu %s%s%s\n", (unsigned long long)(wall_ns / NS_PER_SEC),
               (unsigned long long)(wall_ns % NS_PER_SEC / NS_PER_US), what, *text ? " " : "",
               text);
}

static void put_event(struct json_object *message)
{
        struct json_object *at, *data = NULL;
        uint64_t s = 0, us = 0;
        const char *name = "?";
        AUTO_FREE char *text = NULL;

        (void)json_take_str(message, "event", &name, NULL);
        if (json_take_obj(message, "timestamp", &at, NULL) == 0) {
                (void)json_take_u64(at, "seconds", UINT32_MAX, &s, NULL);
                (void)json_take_u64(at, "microseconds", 999999, &us, NULL);
        }
        json_object_object_get_ex(message, "data", &data);
        if (asprintf(&text, "%s %s", name, data ? json_text(data) : "{}") < 0)
                text = NULL;
        put_line(s * NS_PER_SEC + us * NS_PER_US, "event", text ? text : name);
}

static void put_message(struct json_object *message)
{
        struct json_object *value;
        struct err e = { 0 };
        int rc = answer_of(message, &value, &e);

        if (rc < 0)
                put_line(clock_wall_ns(), "error", e.text);
        else if (rc == 1)
                put_line(clock_wall_ns(), "return", json_text(value));
        else
                put_event(message);
}

/* A line of standard input. */
static int session_line(struct qmp *q, char *line, struct err *e)
{
        bool oob = *line == '!';
        char *command = line + oob;
        char *arguments = strchr(command, ' ');

        if (arguments)
                *arguments++ = 0;
        if (!*command)
                return 0;
        put_line(clock_wall_ns(), "sent", command);
        return qmp_send(q, oob ? "exec-oob" : "execute", command, arguments, e);
}

/* Whole lines only: who writes into our pipe writes them so. */
static int session_input(struct qmp *q, bool *ret_open, struct err *e)
{
        char text[LINE_BYTES_MAX];
        ssize_t n = read(STDIN_FILENO, text, sizeof(text) - 1);
        int rc = 0;

        *ret_open = n > 0;
        text[n > 0 ? n : 0] = 0;
        for (char *rest = text, *line; rc == 0 && (line = strsep(&rest, "\n")) && rest;)
                rc = session_line(q, line, e);
        return rc;
}

static int session_output(struct qmp *q, struct err *e)
{
        int rc = qmp_fill(q, e);

        while (rc == 0) {
                AUTO_JSON *message = NULL;

                rc = qmp_take(q, &message, e);
                if (rc < 0 || !message)
                        return rc;
                put_message(message);
        }
        return rc;
}

static int session_step(struct qmp *q, bool *input_open, struct err *e)
{
        struct pollfd p[] = {
                { .fd = q->fd, .events = POLLIN },
                { .fd = *input_open ? STDIN_FILENO : -1, .events = POLLIN },
        };
        int rc = 0;

        if (poll(p, 2, -1) < 0)
                return errno == EINTR ? 0 : err_set(e, errno, "poll");
        if (p[1].revents)
                rc = session_input(q, input_open, e);
        if (rc == 0 && p[0].revents)
                rc = session_output(q, e);
        return rc;
}

static int run_session(const char *path, struct err *e)
{
        __attribute__((cleanup(qmp_close))) struct qmp q = { .fd = -1 };
        bool input_open = true;
        int rc = qmp_open(path, true, clock_now_ns() + SECONDS_DEFAULT * NS_PER_SEC, &q, e);

        setvbuf(stdout, NULL, _IOLBF, 0);
        if (rc == 0)
                put_line(clock_wall_ns(), "open", "");
        while (rc == 0)
                rc = session_step(&q, &input_open, e);
        if (rc == -ENODATA || rc == -EPIPE) {
                put_line(clock_wall_ns(), "closed", "");
                return 0;
        }
        return rc;
}

static int usage(void)
{
        fputs("usage: qmp [--timeout SECONDS] SOCKET COMMAND [ARGUMENTS]\n"
              "       qmp --session SOCKET\n", stderr);
        return EXIT_USAGE;
}

int main(int argc, char **argv)
{
        struct err e = { 0 };
        uint64_t seconds = SECONDS_DEFAULT;
        int rc;

        if (argc == 3 && strcmp(argv[1], "--session") == 0) {
                rc = run_session(argv[2], &e);
        } else {
                if (argc > 3 && strcmp(argv[1], "--timeout") == 0) {
                        seconds = strtoull(argv[2], NULL, 10);
                        argc -= 2;
                        argv += 2;
                }
                if (argc < 3 || argc > 4)
                        return usage();
                rc = run_command(argv[1], argv[2], argv[3], seconds, &e);
        }
        if (rc < 0)
                err_print("qmp", &e);
        return rc == 0 ? EXIT_DONE : rc == -ETIMEDOUT ? EXIT_SILENT : EXIT_ERROR;
}
