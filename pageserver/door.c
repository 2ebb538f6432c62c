/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/door.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/listen.h"

/* How long a door stays shut when not even a refusal is possible: no load for the
 * processor, and no wait that a client takes for silence. */
#define SHUT_MS 100

struct door {
        struct listen_socket listener;
        struct event *acceptable;
        struct event *reopen;
        int spare_fd;                   /* given up so that a refusal can be sent */
        const struct peer_ops *peer;
        const void *offer;
        struct members *members;
};

static struct log *log_of(const struct door *door)
{
        return &door->members->host->log;
}

static void on_reopen(evutil_socket_t fd, short what, void *arg)
{
        struct door *door = arg;

        (void)fd;
        (void)what;
        event_add(door->acceptable, NULL);
}

/* INV-TOLD */
static void shut_for_a_moment(struct door *door)
{
        struct timeval moment = { .tv_usec = SHUT_MS * 1000 };

        event_del(door->acceptable);
        evtimer_add(door->reopen, &moment);
}

static void turn_away(struct door *door, int listen_fd, int errnum)
{
        struct err e;

        fd_close(&door->spare_fd);

        int sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        err_msg(&e, errnum,
                "the page server is out of descriptors: raise its limit, or end a guest");
        if (sock >= 0) {
                door->peer->turn_away(sock, door->offer, &e);
                fd_close(&sock);
        } else {
                shut_for_a_moment(door);
        }
        door->spare_fd = eventfd(0, EFD_CLOEXEC);
        log_line(log_of(door), "refused a client: %s", e.text);
}

static void not_accepted(struct door *door, int listen_fd, int errnum)
{
        switch (errnum) {
        case EAGAIN:
        case ECONNABORTED:
        case EINTR:
                break;
        case EMFILE:
        case ENFILE:
                turn_away(door, listen_fd, errnum);
                break;
        default:
                log_line(log_of(door), "cannot accept a client: %s", strerror(errnum));
                shut_for_a_moment(door);
        }
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
        struct door *door = arg;
        AUTO_FD sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct err e;

        (void)what;
        if (sock < 0) {
                not_accepted(door, (int)fd, errno);
        } else if (members_admit(door->members, door->peer, door->offer, &sock, &e) < 0) {
                log_line(log_of(door), "refused a client: %s", e.text);
                if (sock >= 0)
                        door->peer->turn_away(sock, door->offer, &e);
        }
}

static int listen_there(struct door *door, const struct door_options *o, struct err *e)
{
        if (o->given && *o->given >= 0)
                return listen_adopt(o->given, o->path, o->peer->sock_type, &door->listener, e);
        return listen_open(o->path, o->peer->sock_type, &door->listener, e);
}

static int watch(struct door *door, struct err *e)
{
        struct event_base *base = door->members->base;

        door->acceptable = event_new(base, door->listener.fd, EV_READ | EV_PERSIST,
                                     on_acceptable, door);
        door->reopen = evtimer_new(base, on_reopen, door);
        door->spare_fd = eventfd(0, EFD_CLOEXEC);
        if (!door->acceptable || !door->reopen || door->spare_fd < 0 ||
            event_add(door->acceptable, NULL) < 0)
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
                .listener.fd = -1, .spare_fd = -1, .peer = o->peer, .offer = o->offer,
                .members = members,
        };

        int rc = listen_there(door, o, e);

        if (rc == 0)
                rc = watch(door, e);
        if (rc < 0) {
                door_close(door);
                return rc;
        }
        *ret = door;
        return 0;
}

void door_say(const struct door *door)
{
        if (door)
                log_note(log_of(door), "listening at %s, %u workers", door->listener.path,
                         door->members->host->workers);
}

void door_close(struct door *door)
{
        if (!door)
                return;
        if (door->acceptable)
                event_free(door->acceptable);
        if (door->reopen)
                event_free(door->reopen);
        fd_close(&door->spare_fd);
        listen_close(&door->listener);
        free(door);
}
