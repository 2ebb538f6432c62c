/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control-priv.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/rate.h"
#include "vmm/clone.h"
#include "vmm/recorder.h"
#include "vmm/rollback.h"
#include "vmm/unixsock.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * One handler for every request: the route table gives the action or the
 * status. An action answers at once, but for those that have a thread of their own,
 * whose request is pending until that is done (control-pending.c).
 */

static void on_answered(struct evhttp_request *http, void *ctx)
{
        (void)http;
        vm_stop(ctx);
}

void control_before_end(struct control *c, struct evhttp_request *http)
{
        if (c->vm->stopping)
                evhttp_request_set_on_complete_cb(http, on_answered, c->vm);
}

void control_add_headers(struct evhttp_request *http, const char *type)
{
        struct evkeyvalq *headers = evhttp_request_get_output_headers(http);

        evhttp_add_header(headers, "Content-Type", type);
        evhttp_add_header(headers, "Connection", "close");
}

void control_reply(struct control *c, struct evhttp_request *http, int status,
                   struct json_object *o)
{
        struct evbuffer *buf = evbuffer_new();
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

        control_add_headers(http, "application/json");
        if (buf)
                evbuffer_add_printf(buf, "%s\n", text);
        control_before_end(c, http);
        evhttp_send_reply(http, status, NULL, buf);
        if (buf)
                evbuffer_free(buf);
}

static int status_of(int rc)
{
        switch (rc) {
        case -EINVAL: case -EBADMSG: case -EEXIST: case -ENAMETOOLONG: case -EXDEV:
        case -EMLINK: case -ENOTSUP: case -ENOENT:
                return 400;
        case -EBUSY: case -ETIMEDOUT: case -ESTALE: case -ENODATA: case -ECANCELED:
                return 409;
        default:
                return 500;
        }
}

static void reply_error(struct control *c, struct evhttp_request *http, int status,
                        const char *text)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", text);
        control_reply(c, http, status, o);
}

void control_reply_result(struct control *c, struct evhttp_request *http, int rc,
                          const struct err *e)
{
        if (rc < 0) {
                reply_error(c, http, status_of(rc), e->text);
        } else {
                AUTO_JSON *o = json_object_new_object();

                control_reply(c, http, 200, o);
        }
}

static void get_vm(struct request *r)
{
        AUTO_JSON *o = vm_describe(r->control->vm);

        control_reply(r->control, r->http, 200, o);
}

static void patch_vm(struct request *r)
{
        AUTO_JSON *o = NULL;
        const char *state;
        struct err e;
        int rc = json_parse(r->body, r->body_bytes, &o, &e);

        if (rc == 0)
                rc = json_take_str(o, "state", &state, &e);
        if (rc == 0 && !strcmp(state, "Paused"))
                rc = vm_pause(r->control->vm, &e);
        else if (rc == 0 && !strcmp(state, "Resumed"))
                rc = vm_resume(r->control->vm, &e);
        else if (rc == 0)
                rc = err_msg(&e, EINVAL, "state '%s' is neither 'Paused' nor 'Resumed'", state);
        control_reply_result(r->control, r->http, rc, &e);
}

static void cancel_save(struct request *r, struct json_object *o)
{
        const char *path = NULL;
        struct err e;
        int rc = 0;

        if (json_object_object_get_ex(o, "snapshot_path", NULL))
                rc = json_take_str(o, "snapshot_path", &path, &e);
        if (rc < 0)
                control_reply_result(r->control, r->http, rc, &e);
        else
                control_cancel_save(r, path);
}

static int press_power_button(struct vm *vm, struct err *e)
{
        int rc = vm_has_guest(vm, e);

        if (rc == 0)
                platform_power_button(vm->platform);
        return rc;
}

static void put_actions(struct request *r)
{
        struct vm *vm = r->control->vm;
        AUTO_JSON *o = NULL;
        const char *type;
        struct err e;
        int rc = json_parse(r->body, r->body_bytes, &o, &e);

        if (rc == 0)
                rc = json_take_str(o, "action_type", &type, &e);
        if (rc == 0 && !strcmp(type, "CancelSave")) {
                cancel_save(r, o);      /* answered when it has ended */
                return;
        }
        if (rc == 0 && !strcmp(type, "Stop"))
                vm_stop_soon(vm);
        else if (rc == 0 && !strcmp(type, "PowerButton"))
                rc = press_power_button(vm, &e);
        else if (rc == 0)
                rc = err_msg(&e, EINVAL, "action '%s' is neither 'Stop' nor 'PowerButton' nor "
                             "'CancelSave'", type);
        control_reply_result(r->control, r->http, rc, &e);
}

static void put_prefetch(struct request *r)
{
        struct rate_order order;
        struct err e;
        int rc = rate_order_parse_json(r->body, r->body_bytes, &order, &e);

        if (rc == 0)
                rc = vm_prefetch(r->control->vm, &order, &e);
        control_reply_result(r->control, r->http, rc, &e);
}

static void patch_balloon(struct request *r)
{
        AUTO_JSON *o = NULL;
        uint64_t mib;
        struct err e;
        int rc = json_parse(r->body, r->body_bytes, &o, &e);

        if (rc == 0)
                rc = json_take_u64(o, "amount_mib", RAM_BYTES_MAX >> 20, &mib, &e);
        if (rc == 0)
                rc = vm_set_balloon(r->control->vm, mib << 20, &e);
        control_reply_result(r->control, r->http, rc, &e);
}

/* A record, a rollback or a clone. */
static void on_done(void *ctx, struct json_object *result, const struct err *e)
{
        pending_answer(ctx, result, e);
}

static void put_rollback(struct request *r)
{
        struct control *c = r->control;
        struct rollback_request request;
        struct err e;
        int rc = rollback_parse(r->body, r->body_bytes, &request, &e);

        if (rc == 0)
                rc = rollback_start(c->vm, &request, on_done, &c->rollback, &e);
        if (rc < 0)
                control_reply_result(c, r->http, rc, &e);
        else
                pending_wait(&c->rollback, r->http, NULL);
}

static void put_working_set(struct request *r)
{
        struct control *c = r->control;
        struct err e;
        int rc = c->vm->recorder
                 ? recorder_store(c->vm->recorder, on_done, &c->record, &e)
                 : err_msg(&e, EINVAL, "VM '%s' is not recorded: revert with --record",
                           c->vm->name);

        if (rc < 0)
                control_reply_result(c, r->http, rc, &e);
        else
                pending_wait(&c->record, r->http, NULL);
}

static void put_clone(struct request *r)
{
        struct control *c = r->control;
        struct evhttp_connection *client = evhttp_request_get_connection(r->http);
        int sock = bufferevent_getfd(evhttp_connection_get_bufferevent(client));
        struct clone_request clone;
        struct err e;
        int rc = clone_request_parse(r->body, r->body_bytes, &clone, &e);

        if (rc == 0)
                rc = clone_start(c->vm, sock, &clone, on_done, &c->clone, &e);
        if (rc < 0)
                control_reply_result(c, r->http, rc, &e);
        else    /* its thread looks whether the client is there (clone-door.h) */
                pending_wait(&c->clone, r->http, NULL);
}

static const struct {
        struct control_route route;
        enum evhttp_cmd_type method;
        void (*act)(struct request *r);
} routes[] = {
        { { "GET", "/vm" }, EVHTTP_REQ_GET, get_vm },
        { { "GET", "/metrics" }, EVHTTP_REQ_GET, control_metrics },
        { { "PATCH", "/vm" }, EVHTTP_REQ_PATCH, patch_vm },
        { { "GET", "/machine-config" }, EVHTTP_REQ_GET, control_machine_config },
        { { "GET", "/drives" }, EVHTTP_REQ_GET, control_drives },
        { { "GET", "/network-interfaces" }, EVHTTP_REQ_GET, control_network_interfaces },
        { { "PUT", "/actions" }, EVHTTP_REQ_PUT, put_actions },
        { { "PUT", "/prefetch" }, EVHTTP_REQ_PUT, put_prefetch },
        { { "PATCH", "/balloon" }, EVHTTP_REQ_PATCH, patch_balloon },
        { { "PUT", "/snapshot/create" }, EVHTTP_REQ_PUT, control_save },
        { { "PUT", "/snapshot/load" }, EVHTTP_REQ_PUT, control_load },
        { { "PUT", "/snapshot/rollback" }, EVHTTP_REQ_PUT, put_rollback },
        { { "PUT", "/working-set" }, EVHTTP_REQ_PUT, put_working_set },
        { { "PUT", "/clone" }, EVHTTP_REQ_PUT, put_clone },
};

const struct control_route *control_route_at(size_t i)
{
        return i < ARRAY_SIZE(routes) ? &routes[i].route : NULL;
}

static void on_request(struct evhttp_request *http, void *ctx)
{
        struct evbuffer *in = evhttp_request_get_input_buffer(http);
        const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(http));
        struct request r = { .control = ctx, .http = http, .body_bytes = evbuffer_get_length(in) };
        bool path_known = false;

        r.body = r.body_bytes ? (const char *)evbuffer_pullup(in, -1) : "";
        for (size_t i = 0; path && i < ARRAY_SIZE(routes); i++) {
                if (strcmp(routes[i].route.path, path))
                        continue;
                path_known = true;
                if (routes[i].method == evhttp_request_get_command(http)) {
                        routes[i].act(&r);
                        return;
                }
        }
        if (path_known)
                reply_error(ctx, http, 405, "this path does not take that method");
        else
                reply_error(ctx, http, 404, "there is no such path: see vmm(1)");
}

static int start(struct control *c, const char *socket_path, struct err *e)
{
        static const struct http_conns_limits limits = {
                .max = CONTROL_CONNS_MAX, .seconds = CONTROL_CONN_SECONDS,
                .input_bytes = 2 * (CONTROL_BODY_MAX + CONTROL_HEADERS_MAX),
        };
        int rc = unixsock_listen(socket_path, SOCK_STREAM, &c->fd, e);

        if (rc < 0)
                return rc;
        c->http = evhttp_new(c->vm->base);
        if (!c->http)
                return err_msg(e, ENOMEM, "no memory for the control socket");
        evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_PUT | EVHTTP_REQ_PATCH);
        evhttp_set_max_body_size(c->http, CONTROL_BODY_MAX);
        evhttp_set_max_headers_size(c->http, CONTROL_HEADERS_MAX);
        evhttp_set_timeout(c->http, CONTROL_SILENCE_SECONDS);
        evhttp_set_gencb(c->http, on_request, c);
        return http_conns_new(c->vm->base, c->http, c->fd, &limits, &c->conns, e);
}

int control_new(struct vm *vm, const char *socket_path, struct control **ret, struct err *e)
{
        struct control *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory for the control socket");
        c->vm = vm;
        c->fd = -1;
        c->save.control = c->cancel.control = c->record.control = c;
        c->rollback.control = c;
        c->clone.control = c;

        int rc = start(c, socket_path, e);

        if (rc < 0)
                control_free(c);
        else
                *ret = c;
        return rc;
}

void control_free(struct control *c)
{
        if (!c)
                return;
        control_save_fini(c);
        pending_drop(&c->record);
        pending_drop(&c->rollback);
        pending_drop(&c->clone);
        if (c->http)
                evhttp_free(c->http);
        http_conns_free(c->conns);
        fd_close(&c->fd);
        free(c);
}
