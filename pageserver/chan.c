/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/chan.h"

#include <errno.h>
#include <unistd.h>

#include "common/check.h"

static_assert(PSMSG_UFFDS_MAX <= FDPASS_FDS_MAX, "all userfaultfds fit one message");
static_assert(PSMSG_IMAGES_MAX + 2 <= FDPASS_FDS_MAX, "a chain, cache and filled map do too");

int chan_send(int sock, const struct psmsg *m, const int *fds)
{
        uint8_t buf[PSMSG_BYTES_MAX];
        size_t bytes = psmsg_encode(m, buf);
        int rc = fdpass_send(sock, buf, bytes, fds, psmsg_fds(m));

        return rc == -ECONNRESET ? -EPIPE : rc;
}

int chan_recv(int sock, struct psmsg *ret, int fds[FDPASS_FDS_MAX])
{
        uint8_t buf[PSMSG_BYTES_MAX];
        size_t nfds;
        ssize_t n = fdpass_recv(sock, buf, sizeof(buf), fds, FDPASS_FDS_MAX, &nfds);

        if (n == 0 || n == -ECONNRESET)
                return -EPIPE;
        if (n == -EMSGSIZE)
                return -EBADMSG;
        if (n < 0)
                return (int)n;

        int rc = psmsg_decode(buf, (size_t)n, ret);

        if (rc == 0 && nfds != psmsg_fds(ret))
                rc = -EBADMSG;
        if (rc < 0) {
                for (size_t i = 0; i < nfds; i++)
                        close(fds[i]);
        }
        return rc;
}
