/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/door.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/listen.h"

struct door {
        struct listen_socket listener;
        struct event *acceptable;
        const struct peer_ops *peer;
        struct members *members;
};

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
        struct door *door = arg;
        AUTO_FD sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct err e = { .code = 0 };

        (void)what;
        if (sock < 0) {
                if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
                        err_set(&e, errno, "cannot accept a client");
        } else {
                members_admit(door->members, door->peer, &sock, &e);
        }
        if (e.code)
                log_line(&door->members->host->log, "%s", e.text);
}

int door_open(const char *path, const struct peer_ops *peer, struct members *members,
              struct door **ret, struct err *e)
{
        struct door *door = calloc(1, sizeof(*door));

        if (!door)
                return err_set(e, ENOMEM, "socket '%s'", path);
        *door = (struct door){ .listener.fd = -1, .peer = peer, .members = members };

        int rc = listen_open(path, peer->sock_type, &door->listener, e);

        if (rc < 0) {
                door_close(door);
                return rc;
        }
        door->acceptable = event_new(members->base, door->listener.fd, EV_READ | EV_PERSIST,
                                     on_acceptable, door);
        if (!door->acceptable || event_add(door->acceptable, NULL) < 0) {
                door_close(door);
                return err_msg(e, ENOMEM, "cannot accept clients");
        }
        log_note(&members->host->log, "listening at %s, %u workers", path,
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
        listen_close(&door->listener);
        free(door);
}
