/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/vmcall.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/auto.h"
#include "common/json.h"
#include "vmm/rundir.h"

/* Theory of operation
 *
 * libevent 2.1 has no HTTP client for unix sockets, and need not: HTTP/1.0 is one request,
 * one answer that ends with the connection, and no chunks.
 */

#define ANSWER_BYTES_MAX (1u << 20)

struct vmcall {
        vmcall_done_fn *done;
        vmcall_line_fn *line;
        void *ctx;
        struct bufferevent *bev;
        bool in_lines;                  /* its head was taken */
        struct json_object *last;       /* line */
        char name[VM_NAME_MAX + 1];
};

/* "HTTP/1.1 200 OK" */
static int parse_status(const char *text, size_t bytes)
{
        static const char version[] = "HTTP/1.";
        const char *p = text + sizeof(version);
        int status = 0;

        if (bytes < sizeof(version) + 4 || memcmp(text, version, sizeof(version) - 1) || *p != ' ')
                return 0;
        for (int i = 1; i <= 3; i++) {
                if (p[i] < '0' || p[i] > '9')
                        return 0;
                status = status * 10 + (p[i] - '0');
        }
        return status;
}

int vmcall_parse(const char *text, size_t bytes, int *ret_status, struct json_object **ret_o,
                 struct err *e)
{
        int status = parse_status(text, bytes);
        const char *end = status < 100 ? NULL : memmem(text, bytes, "\r\n\r\n", 4);

        if (!end)
                return err_msg(e, EBADMSG, "it is no HTTP");

        const char *body = end + 4;
        size_t n = bytes - (size_t)(body - text);

        while (n > 0 && body[n - 1] == '\n')
                n--;

        int rc = json_parse(body, n, ret_o, e);

        if (rc == 0)
                *ret_status = status;
        return rc;
}

static void finish(struct vmcall *c, int status, struct json_object *o, const struct err *e)
{
        bufferevent_disable(c->bev, EV_READ | EV_WRITE);
        c->done(c->ctx, status, o, e);          /* may free c */
}

static void fail(struct vmcall *c, int errnum, const char *why)
{
        struct err e;

        err_msg(&e, errnum, "VM '%s' %s", c->name, why);
        finish(c, 0, NULL, &e);
}

/* Only what was begun well comes in lines. */
static bool take_head(struct vmcall *c)
{
        struct evbuffer *in = bufferevent_get_input(c->bev);
        struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);

        if (end.pos < 0)
                return false;
        c->in_lines = parse_status((const char *)evbuffer_pullup(in, end.pos), (size_t)end.pos)
                      == 200;
        if (c->in_lines)
                evbuffer_drain(in, (size_t)end.pos + 4);
        else
                c->line = NULL;
        return c->in_lines;
}

/* The last one is kept: it is the result. */
static int take_lines(struct vmcall *c)
{
        size_t bytes;
        char *text;
        int rc = 0;

        while (rc == 0 && (text = evbuffer_readln(bufferevent_get_input(c->bev), &bytes,
                                                  EVBUFFER_EOL_LF))) {
                struct json_object *o;

                rc = json_parse(text, bytes, &o, NULL);
                free(text);
                if (rc < 0)
                        break;
                if (c->last)
                        c->line(c->ctx, c->last);
                json_object_put(c->last);
                c->last = o;
        }
        return rc;
}

static void end_lines(struct vmcall *c)
{
        if (c->last && evbuffer_get_length(bufferevent_get_input(c->bev)) == 0)
                finish(c, 200, c->last, NULL);
        else
                fail(c, EIO, "does not end its answer: it may have ended itself meanwhile");
}

static void take_answer(struct vmcall *c)
{
        struct evbuffer *in = bufferevent_get_input(c->bev);
        size_t bytes = evbuffer_get_length(in);
        const char *text = bytes ? (const char *)evbuffer_pullup(in, -1) : NULL;
        AUTO_JSON *o = NULL;
        struct err e;
        int status = 0;

        if (!text) {
                fail(c, EIO, "does not answer: it may have ended meanwhile");
                return;
        }
        if (vmcall_parse(text, bytes, &status, &o, &e) < 0) {
                err_in(&e, e.code, "what VM '%s' answers cannot be used", c->name);
                finish(c, 0, NULL, &e);
                return;
        }
        finish(c, status, o, NULL);
}

static void on_event(struct bufferevent *bev, short what, void *ctx)
{
        struct vmcall *c = ctx;

        (void)bev;
        if (what & BEV_EVENT_CONNECTED)
                return;
        if (what & BEV_EVENT_TIMEOUT)
                fail(c, ETIMEDOUT, "does not answer in time");
        else if (c->in_lines)
                end_lines(c);
        else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
                take_answer(c);
}

static void on_readable(struct bufferevent *bev, void *ctx)
{
        struct vmcall *c = ctx;

        if (c->line && (c->in_lines || take_head(c)) && take_lines(c) < 0)
                fail(ctx, EBADMSG, "says what is no JSON");
        else if (evbuffer_get_length(bufferevent_get_input(bev)) > ANSWER_BYTES_MAX)
                fail(ctx, EMSGSIZE, "answers without end");
}

static void write_request(struct bufferevent *bev, const struct vmcall_options *o)
{
        const char *body = o->body ? o->body : "";

        evbuffer_add_printf(bufferevent_get_output(bev),
                            "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                            o->method, o->path, strlen(body), body);
}

static int start(struct vmcall *c, const struct vmcall_options *o, struct err *e)
{
        const struct timeval patience = { .tv_sec = o->seconds };
        const struct timeval *t = o->seconds ? &patience : NULL;
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        struct rundir_path path;
        int rc = rundir_path(&path, o->name, "sock", e);

        if (rc < 0)
                return rc;
        strcpy(sa.sun_path, path.text);
        c->bev = bufferevent_socket_new(o->base, -1, BEV_OPT_CLOSE_ON_FREE |
                                        BEV_OPT_DEFER_CALLBACKS);
        if (!c->bev)
                return err_msg(e, ENOMEM, "no memory to ask VM '%s'", o->name);
        bufferevent_setcb(c->bev, on_readable, NULL, on_event, c);
        bufferevent_set_timeouts(c->bev, t, t);
        write_request(c->bev, o);
        bufferevent_enable(c->bev, EV_READ | EV_WRITE);
        if (bufferevent_socket_connect(c->bev, (struct sockaddr *)&sa, sizeof(sa)) < 0)
                return err_msg(e, EAGAIN, "VM '%s' cannot be reached now", o->name);
        return 0;
}

int vmcall_new(const struct vmcall_options *o, struct vmcall **ret, struct err *e)
{
        struct vmcall *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory to ask VM '%s'", o->name);
        c->done = o->done;
        c->line = o->line;
        c->ctx = o->ctx;
        snprintf(c->name, sizeof(c->name), "%s", o->name);

        int rc = start(c, o, e);

        if (rc < 0)
                vmcall_free(c);
        else
                *ret = c;
        return rc;
}

void vmcall_free(struct vmcall *c)
{
        if (!c)
                return;
        if (c->bev)
                bufferevent_free(c->bev);
        json_object_put(c->last);
        free(c);
}
