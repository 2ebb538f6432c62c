/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/unixsock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/auto.h"

#define BACKLOG 16

static int make(const char *path, int type, int *ret_fd, struct sockaddr_un *ret_addr,
                struct err *e)
{
        memset(ret_addr, 0, sizeof(*ret_addr));
        ret_addr->sun_family = AF_UNIX;
        if (strlen(path) >= sizeof(ret_addr->sun_path))
                return err_msg(e, ENAMETOOLONG, "socket path '%s' is too long", path);
        strcpy(ret_addr->sun_path, path);
        *ret_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        return *ret_fd < 0 ? err_set(e, errno, "create a unix socket") : 0;
}

int unixsock_listen(const char *path, int type, int *ret_fd, struct err *e)
{
        struct sockaddr_un addr;
        AUTO_FD fd = -1;
        int rc = make(path, type | SOCK_NONBLOCK, &fd, &addr, e);

        if (rc < 0)
                return rc;
        /* the mode of a socket's inode is that of the file which bind() makes */
        if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
            listen(fd, BACKLOG) < 0)
                return err_set(e, errno, "listen on '%s'", path);
        *ret_fd = fd_take(&fd);
        return 0;
}

int unixsock_connect(const char *path, int type, int *ret_fd, struct err *e)
{
        struct sockaddr_un addr;
        AUTO_FD fd = -1;
        int rc = make(path, type, &fd, &addr, e);

        if (rc < 0)
                return rc;
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                return err_set(e, errno, "connect to '%s'", path);
        *ret_fd = fd_take(&fd);
        return 0;
}
