/* SPDX-License-Identifier: Apache-2.0 */
#include "common/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "common/auto.h"

/* A manager reads its notices at once; one that is stopped must not stop us. */
#define TAKE_SECONDS 1

int notify_connect(const char *address, int *ret_sock, struct err *e)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        struct timeval patience = { .tv_sec = TAKE_SECONDS };

        *ret_sock = -1;
        if (!address || !*address)
                return 0;
        if (strlen(address) >= sizeof(sa.sun_path))
                return err_msg(e, ENAMETOOLONG, "NOTIFY_SOCKET '%s' is too long", address);

        socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));

        memcpy(sa.sun_path, address, strlen(address));
        if (sa.sun_path[0] == '@')              /* an abstract name */
                sa.sun_path[0] = '\0';

        AUTO_FD sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (sock < 0)
                return err_set(e, errno, "cannot make a socket");
        if (setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
            connect(sock, (struct sockaddr *)&sa, bytes) < 0)
                return err_set(e, errno, "no service manager answers at NOTIFY_SOCKET '%s'",
                               address);
        *ret_sock = fd_take(&sock);
        return 0;
}

int notify_ready(struct err *e)
{
        static const char text[] = "READY=1\n";
        AUTO_FD sock = -1;
        int rc = notify_connect(getenv("NOTIFY_SOCKET"), &sock, e);

        if (rc == 0 && sock >= 0 && send(sock, text, sizeof(text) - 1, MSG_NOSIGNAL) < 0)
                rc = err_set(e, errno, "the service manager takes no notice");
        return rc;
}
