/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/door.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/listen.h"

/* Where descriptors or memory are short, a connection that waits would wake us without
 * end: the door is left closed for so long. */
#define REST_MS 100

struct door {
        struct listen_socket listener;
        struct event *acceptable;
        struct event *pause;
        const struct peer_ops *peer;
        const void *offer;
        struct members *members;
};

static void rest(struct door *door)
{
        struct timeval moment = { .tv_usec = REST_MS * 1000 };

        event_del(door->acceptable);
        event_add(door->pause, &moment);
}

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
        struct door *door = arg;

        (void)fd;
        (void)what;
        event_add(door->acceptable, NULL);
}

static bool is_shortage(int errnum)
{
        return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS || errnum == ENOMEM;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
        struct door *door = arg;
        AUTO_FD sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct err e = { .code = 0 };

        (void)what;
        if (sock >= 0)
                members_admit(door->members, door->peer, door->offer, &sock, &e);
        else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
                err_set(&e, errno, "cannot accept a client");
        if (sock < 0 && is_shortage(-e.code))
                rest(door);
        if (e.code)
                log_line(&door->members->host->log, "%s", e.text);
}

static int start(struct door *door, struct err *e)
{
        struct event_base *base = door->members->base;

        door->acceptable = event_new(base, door->listener.fd, EV_READ | EV_PERSIST,
                                     on_acceptable, door);
        door->pause = evtimer_new(base, on_rested, door);
        if (!door->acceptable || !door->pause || event_add(door->acceptable, NULL) < 0)
                return err_msg(e, ENOMEM, "cannot accept clients");
        return 0;
}

int door_open(const struct door_options *o, struct members *members, struct door **ret,
              struct err *e)
{
        struct door *door = calloc(1, sizeof(*door));

        if (!door)
                return err_set(e, ENOMEM, "socket '%s'", o->path);
        *door = (struct door){
                .listener.fd = -1, .peer = o->peer, .offer = o->offer, .members = members,
        };

        int rc = listen_open(o->path, o->peer->sock_type, &door->listener, e);

        if (rc == 0)
                rc = start(door, e);
        if (rc < 0) {
                door_close(door);
                return rc;
        }
        log_note(&members->host->log, "listening at %s, %u workers", o->path,
                 members->host->workers);
        *ret = door;
        return 0;
}

void door_close(struct door *door)
{
        if (!door)
                return;
        if (door->acceptable)
                event_free(door->acceptable);
        if (door->pause)
                event_free(door->pause);
        listen_close(&door->listener);
        free(door);
}
