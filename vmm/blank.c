/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/blank.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "vmm/confine.h"
#include "vmm/create.h"
#include "vmm/launch.h"
#include "vmm/prepared.h"
#include "vmm/revert.h"
#include "vmm/starter.h"

/* what is made before the order comes */
struct blank {
        struct prepared *prepared;
        struct starter *starter;
        struct confine confine;
};

static void blank_free(struct blank *b)
{
        prepared_free(b->prepared);
        starter_free(b->starter);
        confine_fini(&b->confine);
}

static int say(int sock, struct json_object *o)
{
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        int rc = io_write_full(sock, text, strlen(text));

        return rc == 0 ? io_write_full(sock, "\n", 1) : rc;
}

static void say_error(int sock, const struct err *e)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", e->text);
        json_put_u64(o, "errno", (uint64_t)-e->code);
        (void)say(sock, o);
}

static int say_ready(int sock)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_bool(o, "ready", true);
        return say(sock, o);
}

/* Up to the newline, which is the last byte that is ever sent. 0 bytes: nobody wants us. */
static int read_order(int sock, char *buf, size_t room, size_t *ret_bytes, struct err *e)
{
        size_t n = 0;

        for (;;) {
                ssize_t more = recv(sock, buf + n, room - n, 0);

                if (more < 0 && errno == EINTR)
                        continue;
                if (more < 0)
                        return err_set(e, errno, "read the order for a VM");
                if (more == 0) {
                        *ret_bytes = 0;
                        return 0;
                }
                n += (size_t)more;
                if (buf[n - 1] == '\n') {
                        *ret_bytes = n - 1;
                        return 0;
                }
                if (n == room)
                        return err_msg(e, EMSGSIZE, "the order for a VM is too long");
        }
}

static int take_order(const char *text, size_t bytes, struct launch_options *launch,
                      struct create_request *request, struct err *e)
{
        AUTO_JSON *o = NULL;
        struct json_object *body;
        const char *name;
        int rc = json_parse(text, bytes, &o, e);

        if (rc == 0)
                rc = json_take_obj(o, "request", &body, e);
        if (rc == 0)
                rc = create_request_decode(body, request, e);
        if (rc == 0)
                rc = json_take_str(o, "name", &name, e);
        if (rc == 0)
                rc = rundir_check_name(name, e);
        if (rc == 0)
                rc = json_take_u64(o, "start_ns", UINT64_MAX, &launch->start_ns, e);
        if (rc < 0)
                return rc;
        strcpy(launch->name, name);
        launch->console_file = request->console[0] ? request->console : NULL;
        launch->paused = !request->resume;
        return 0;
}

/* The life of the VM. */
static int become(int *sock, struct blank *b, const char *text, size_t bytes, struct err *e)
{
        struct launch_options launch = {
                .order_ns = clock_now_ns(), .prepared = b->prepared, .starter = b->starter,
                .confine = &b->confine,
        };
        AUTO_FREE struct create_request *request = malloc(sizeof(*request));
        int rc = request ? 0 : err_msg(e, ENOMEM, "no memory for a VM");

        if (rc == 0)
                rc = take_order(text, bytes, &launch, request, e);
        if (rc < 0) {
                say_error(*sock, e);
                blank_free(b);
                return rc;
        }
        return launch_here(&launch, fd_take(sock), create_build, request, e);
}

/* The guess, as far as it can be: NULL = without. */
static struct revert *foresee(const struct create_request *expected, struct shape *shape)
{
        struct revert *r;
        struct err e;

        if (!expected || create_foresee(expected, &r, &e) < 0)
                return NULL;
        if (!shape->memory_bytes) {
                shape->memory_bytes = revert_meta(r)->memory_bytes;
                shape->cpus = revert_meta(r)->cpus;
        }
        return r;
}

static int prepare(int sock, struct shape *shape, const struct create_request *expected,
                   struct prepared **ret, struct err *e)
{
        struct revert *r = foresee(expected, shape);
        int rc = prepared_make(shape, ret, e);

        if (rc < 0) {
                revert_close(r);
                say_error(sock, e);
                return rc;
        }
        if (r)
                prepared_foresee(*ret, r);
        return say_ready(sock) < 0 ? -EPIPE : 0;
}

static int confine(struct blank *b, char *const *folders, struct err *e)
{
        int rc = 0;

        for (; rc == 0 && *folders; folders++)
                rc = confine_add(&b->confine, *folders, e);
        return rc;
}

static int serve(int *sock, struct shape *shape, enum sandbox_mode mode,
                 const struct create_request *expected, char *const *folders, struct err *e)
{
        AUTO_FREE char *order = malloc(BLANK_ORDER_BYTES_MAX);
        struct blank b = { .prepared = NULL };
        size_t bytes = 0;
        int rc = order ? starter_new(mode, &b.starter, e)
                       : err_msg(e, ENOMEM, "no memory for an order");

        if (rc == 0) {
                rc = confine(&b, folders, e);
                if (rc < 0)
                        say_error(*sock, e);
        }
        if (rc == 0 && shape->cpus)
                rc = prepare(*sock, shape, expected, &b.prepared, e);
        if (rc == 0)
                rc = read_order(*sock, order, BLANK_ORDER_BYTES_MAX, &bytes, e);
        if (rc < 0 || bytes == 0) {
                blank_free(&b);
                return rc;
        }
        return become(sock, &b, order, bytes, e);
}

int blank_main(int argc, char **argv)
{
        AUTO_FD sock = BLANK_SOCK;
        struct shape shape = { 0 };
        enum sandbox_mode mode;
        struct err e = { 0 };
        int type;
        socklen_t room = sizeof(type);

        if (argc < 5 || sandbox_mode_parse(argv[3], &mode, NULL) < 0 ||
            getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &room) < 0 ||
            fcntl(sock, F_SETFD, FD_CLOEXEC) < 0) {
                fprintf(stderr, "vmm: 'vmm " BLANK_COMMAND "' is started by 'vmm serve' only\n");
                return 1;
        }
        /* was started by another name (child.c) */
        pthread_setname_np(pthread_self(), "vmm");
        shape.cpus = (unsigned)strtoul(argv[1], NULL, 10);
        shape.memory_bytes = strtoull(argv[2], NULL, 10);

        AUTO_FREE struct create_request *expected = argv[4][0] ? malloc(sizeof(*expected)) : NULL;

        if (expected && create_request_parse(argv[4], strlen(argv[4]), expected, NULL) < 0)
                free(ptr_take(&expected));
        return serve(&sock, &shape, mode, expected, argv + 5, &e) < 0 ? 1 : 0;
}
