/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/qemu-talk.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"

static void *revert(void *ctx)
{
        struct talk *t = ctx;

        t->rc = qemu_revert(&t->options, &t->transport, &t->err);
        transport_close(&t->transport);
        return NULL;
}

static void connect_both(struct talk *t, bool socket)
{
        int to[2], from[2];

        if (socket) {
                ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, to) == 0);
                t->in = t->out = to[0];
                t->transport.in = t->transport.out = to[1];
                return;
        }
        ASSERT(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
        t->in = to[0];
        t->transport.out = to[1];
        t->transport.in = from[0];
        t->out = from[1];
}

void talk_start(struct talk *t, const struct revert_options *o, bool socket)
{
        *t = (struct talk){ .options = *o };
        connect_both(t, socket);

        int rc = pthread_create(&t->thread, NULL, revert, t);

        ASSERT(rc == 0);
}

int talk_end(struct talk *t)
{
        pthread_join(t->thread, NULL);
        return t->rc;
}
