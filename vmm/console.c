/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/console.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/lock.h"
#include "vmm/tty.h"
#include "vmm/unixsock.h"

/* Theory of operation
 *
 * The history is a ring of HISTORY_BYTES addressed by the count of all bytes
 * ever written: byte n lies at n % HISTORY_BYTES and is there while
 * n >= written - HISTORY_BYTES. Every client has such a cursor; one that fell
 * behind jumps to the oldest byte that is still there. Writers only append and
 * ring the eventfd; the event loop does all sending.
 *
 * Input waits in the client's own small buffer while the guest does not take
 * it; reading from that client stops until console_input_room() offers it again.
 */
#define HISTORY_BYTES (64u << 10)
#define INPUT_BYTES 1024
#define CLIENTS_MAX 8           /* people looking at one console */

struct client {
        struct console *console;
        int in_fd;
        int out_fd;                     /* -1: output goes elsewhere (terminal) */
        bool leaving;                   /* no more input; closes once all is sent */
        uint64_t cursor;
        size_t input_bytes;
        uint8_t input[INPUT_BYTES];
        struct event *readable;
        struct event *writable;
};

struct console {
        struct event_base *base;
        int file_fd;
        int listen_fd;
        int wake_fd;
        struct event *listening;
        struct event *woken;
        struct client *clients[CLIENTS_MAX];
        console_input_fn *input;
        void *input_ctx;
        struct tty_state tty;
        bool exit_wanted;

        struct lock lock;
        uint64_t written GUARDED_BY(lock);
        uint8_t history[HISTORY_BYTES] GUARDED_BY(lock);
};

static void client_free(struct client *cl)
{
        struct console *c = cl->console;

        for (size_t i = 0; i < CLIENTS_MAX; i++) {
                if (c->clients[i] == cl)
                        c->clients[i] = NULL;
        }
        if (cl->readable)
                event_free(cl->readable);
        if (cl->writable)
                event_free(cl->writable);
        if (cl->out_fd >= 0)            /* a socket, its own; the terminal is not ours to close */
                fd_close(&cl->out_fd);
        free(cl);
}

static size_t take_history_locked(struct console *c, uint64_t *cursor, uint8_t *buf, size_t room)
        REQUIRES(c->lock)
{
        uint64_t oldest = c->written > HISTORY_BYTES ? c->written - HISTORY_BYTES : 0;

        *cursor = MAX(*cursor, oldest);

        size_t at = *cursor % HISTORY_BYTES;
        size_t n = MIN((uint64_t)room, MIN(c->written - *cursor, HISTORY_BYTES - at));

        memcpy(buf, c->history + at, n);
        return n;
}

static size_t peek_history(struct console *c, uint64_t *cursor, uint8_t *buf, size_t room)
{
        lock_acquire(&c->lock);

        size_t n = take_history_locked(c, cursor, buf, room);

        lock_release(&c->lock);
        return n;
}

/* Sends until there is nothing left or the socket is full. False = client gone. */
static bool client_send(struct client *cl)
{
        uint8_t buf[4096];
        size_t n;

        if (cl->out_fd < 0)
                return !cl->leaving;
        while ((n = peek_history(cl->console, &cl->cursor, buf, sizeof(buf))) > 0) {
                ssize_t sent = send(cl->out_fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (sent < 0 && errno == EAGAIN) {
                        event_add(cl->writable, NULL);
                        return true;
                }
                if (sent < 0)
                        return false;
                cl->cursor += (uint64_t)sent;
        }
        return !cl->leaving;
}

static void client_offer(struct client *cl)
{
        struct console *c = cl->console;
        size_t took = c->input ? c->input(c->input_ctx, cl->input, cl->input_bytes) : 0;

        cl->input_bytes -= took;
        memmove(cl->input, cl->input + took, cl->input_bytes);
        if (cl->input_bytes > 0)
                event_del(cl->readable);
        else
                event_add(cl->readable, NULL);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
        struct client *cl = ctx;
        ssize_t n = read(fd, cl->input, sizeof(cl->input));

        (void)what;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                event_del(cl->readable);
                cl->leaving = true;
                if (!client_send(cl))
                        client_free(cl);
                return;
        }
        if (cl->out_fd < 0 && memchr(cl->input, TTY_ESCAPE, (size_t)n)) {
                cl->console->exit_wanted = true;
                event_base_loopbreak(cl->console->base);
                return;
        }
        cl->input_bytes = (size_t)n;
        client_offer(cl);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
        (void)fd;
        (void)what;
        if (!client_send(ctx))
                client_free(ctx);
}

static void client_add(struct console *c, int in_fd, int out_fd)
{
        struct client *cl = calloc(1, sizeof(*cl));
        size_t slot = 0;

        while (slot < CLIENTS_MAX && c->clients[slot])
                slot++;
        if (!cl || slot == CLIENTS_MAX) {
                free(cl);
                fd_close(&out_fd);
                return;
        }
        c->clients[slot] = cl;
        cl->console = c;
        cl->in_fd = in_fd;
        cl->out_fd = out_fd;
        cl->readable = event_new(c->base, in_fd, EV_READ | EV_PERSIST, on_readable, cl);
        if (out_fd >= 0)
                cl->writable = event_new(c->base, out_fd, EV_WRITE, on_writable, cl);
        if (!cl->readable || (out_fd >= 0 && !cl->writable)) {
                client_free(cl);
                return;
        }
        event_add(cl->readable, NULL);
        if (!client_send(cl))
                client_free(cl);
}

static void on_connection(evutil_socket_t fd, short what, void *ctx)
{
        int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        (void)what;
        if (sock >= 0)
                client_add(ctx, sock, sock);
}

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
        struct console *c = ctx;
        uint64_t count;

        (void)what;
        if (read(fd, &count, sizeof(count)) < 0)
                return;
        for (size_t i = 0; i < CLIENTS_MAX; i++) {
                if (c->clients[i] && !client_send(c->clients[i]))
                        client_free(c->clients[i]);
        }
}

static int open_outputs(struct console *c, const struct console_options *o, struct err *e)
{
        if (o->file) {
                /* a FIFO nobody reads must not hold us, here or when it is full */
                c->file_fd = open(o->file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC |
                                  O_NONBLOCK | O_NOCTTY, 0600);
                if (c->file_fd < 0)
                        return err_set(e, errno, "open console file '%s'", o->file);
        } else if (o->terminal) {
                c->file_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
                if (c->file_fd < 0)
                        return err_set(e, errno, "duplicate standard output");
        }
        c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (c->wake_fd < 0)
                return err_set(e, errno, "create an eventfd");
        return unixsock_listen(o->socket_path, SOCK_STREAM, &c->listen_fd, e);
}

/* Files and /dev/null are always readable: as a console they say nothing. */
static bool can_be_waited_for(int fd)
{
        struct stat st;

        if (isatty(fd))
                return true;
        return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

int console_new(struct event_base *base, const struct console_options *options,
                struct console **ret, struct err *e)
{
        struct console *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory for the console");
        c->base = base;
        c->file_fd = c->listen_fd = c->wake_fd = -1;
        lock_init(&c->lock);

        int rc = open_outputs(c, options, e);

        if (rc == 0) {
                c->listening = event_new(base, c->listen_fd, EV_READ | EV_PERSIST, on_connection,
                                         c);
                c->woken = event_new(base, c->wake_fd, EV_READ | EV_PERSIST, on_wake, c);
                if (!c->listening || !c->woken || event_add(c->listening, NULL) < 0 ||
                    event_add(c->woken, NULL) < 0)
                        rc = err_msg(e, ENOMEM, "no memory for the console's events");
        }
        if (rc < 0) {
                console_free(c);
                return rc;
        }
        if (options->terminal && can_be_waited_for(STDIN_FILENO)) {
                tty_raw(STDIN_FILENO, &c->tty);
                client_add(c, STDIN_FILENO, -1);
        }
        *ret = c;
        return 0;
}

void console_connect(struct console *c, console_input_fn *input, void *ctx)
{
        c->input = input;
        c->input_ctx = ctx;
}

void console_input_room(struct console *c)
{
        for (size_t i = 0; i < CLIENTS_MAX; i++) {
                if (c->clients[i] && c->clients[i]->input_bytes > 0)
                        client_offer(c->clients[i]);
        }
}

static void append_locked(struct console *c, const uint8_t *data, size_t bytes) REQUIRES(c->lock)
{
        for (size_t i = 0; i < bytes; i++)
                c->history[(c->written + i) % HISTORY_BYTES] = data[i];
        c->written += bytes;
}

void console_out(struct console *c, const uint8_t *data, size_t bytes)
{
        uint64_t one = 1;

        /* a full disk or a closed terminal must not stop the guest */
        if (c->file_fd >= 0)
                (void)!io_write_full(c->file_fd, data, bytes);
        lock_acquire(&c->lock);
        append_locked(c, data, bytes);
        lock_release(&c->lock);
        (void)!write(c->wake_fd, &one, sizeof(one));
}

bool console_wants_exit(const struct console *c)
{
        return c->exit_wanted;
}

void console_hang_up(struct console *c)
{
        for (size_t i = 0; i < CLIENTS_MAX; i++) {
                if (c->clients[i]) {
                        client_send(c->clients[i]);
                        client_free(c->clients[i]);
                }
        }
        tty_restore(&c->tty);
}

void console_free(struct console *c)
{
        if (!c)
                return;
        console_hang_up(c);
        if (c->listening)
                event_free(c->listening);
        if (c->woken)
                event_free(c->woken);
        fd_close(&c->file_fd);
        fd_close(&c->listen_fd);
        fd_close(&c->wake_fd);
        lock_fini(&c->lock);
        free(c);
}
