/* SPDX-License-Identifier: Apache-2.0 */
/* control-priv.h - shared by the files of the control socket.
 *
 * Each request is answered once, by control_reply*() or by the pending that it was
 * given to; only evhttp frees it.
 */
#ifndef VMM_CONTROL_PRIV_H
#define VMM_CONTROL_PRIV_H

#include <event2/http.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/http-conns.h"
#include "vmm/control.h"

/* The client closed its connection and waits no more. */
typedef void pending_gone_fn(struct control *c);

/* A request that is answered when work of another thread is done, in one piece, or in
 * parts: lines of JSON in a chunked answer. */
struct pending {
        struct control *control;
        struct evhttp_request *http;    /* NULL = none */
        pending_gone_fn *gone;          /* NULL = its work goes on without a client */
        struct hangup *hangup;          /* while no part was sent */
        bool in_parts;
};

struct control {
        struct vm *vm;
        int fd;                         /* listens */
        struct evhttp *http;
        struct http_conns *conns;
        struct pending save;
        struct pending cancel;
        struct pending record;
        struct pending rollback;
        struct pending clone;
        struct event *tick;             /* while a save is shown; else NULL */
};

struct request {
        struct control *control;
        struct evhttp_request *http;
        const char *body;
        size_t body_bytes;
};

void control_reply(struct control *c, struct evhttp_request *http, int status,
                   struct json_object *o);
/* of every answer: one request for each connection */
void control_add_headers(struct evhttp_request *http, const char *type);
/* of an answer, before its last byte is sent */
void control_before_end(struct control *c, struct evhttp_request *http);
/* {} on success */
void control_reply_result(struct control *c, struct evhttp_request *http, int rc,
                          const struct err *e);

void pending_wait(struct pending *p, struct evhttp_request *http, pending_gone_fn *gone);
void pending_wait_in_parts(struct pending *p, struct evhttp_request *http,
                           pending_gone_fn *gone);
/* One part more, unless the client does not read them. */
void pending_tell(struct pending *p, struct json_object *part);
/* The answer, or its last part; nothing when no request waits. result NULL: *e. */
void pending_answer(struct pending *p, struct json_object *result, const struct err *e);
/* Without an answer, before the server is freed. */
void pending_drop(struct pending *p);

/* GET /machine-config, /drives, /network-interfaces */
void control_machine_config(struct request *r);
void control_drives(struct request *r);
void control_network_interfaces(struct request *r);
/* GET /metrics */
void control_metrics(struct request *r);
/* PUT /snapshot/load */
void control_load(struct request *r);
/* PUT /snapshot/create */
void control_save(struct request *r);
/* PUT /actions CancelSave; path: as of save_cancel() */
void control_cancel_save(struct request *r, const char *path);
/* before the server is freed; no save runs any more */
void control_save_fini(struct control *c);

#endif
