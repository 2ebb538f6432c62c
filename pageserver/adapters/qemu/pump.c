/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "pageserver/adapters/qemu/transport.h"

#define PIECE_BYTES (256u << 10)

struct pump {
        struct input *in;
        int out;
        pthread_t thread;
        int rc;
        struct err e;
        uint8_t piece[2][PIECE_BYTES];  /* one is held back while the next is read */
};

/* INV-SOUND: each piece is written when the next one was read, or the end was. */
static int run(struct pump *p)
{
        size_t held = 0;

        for (unsigned turn = 0; ; turn = !turn) {
                size_t n;
                int rc = input_read(p->in, p->piece[turn], PIECE_BYTES, &n, &p->e);

                if (rc < 0)
                        return rc;
                rc = io_write_full(p->out, p->piece[!turn], held);
                if (rc == -EPIPE || (rc == 0 && n == 0))
                        return 0;
                if (rc < 0)
                        return err_set(&p->e, -rc, "write to a pipe");
                held = n;
        }
}

static void *main_of_thread(void *arg)
{
        struct pump *p = arg;

        p->rc = run(p);
        fd_close(&p->out);
        return NULL;
}

int pump_start(struct input *in, struct pump **ret, int *ret_fd, struct err *e)
{
        struct pump *p = malloc(sizeof(*p));
        int ends[2];
        int rc;

        if (!p)
                return err_set(e, ENOMEM, "read a stream");
        if (pipe2(ends, O_CLOEXEC) < 0) {
                rc = err_set(e, errno, "make a pipe");
                free(p);
                return rc;
        }
        transport_enlarge(&(struct transport){ .in = ends[0], .out = ends[0] });
        p->in = in;
        p->out = ends[1];
        rc = pthread_create(&p->thread, NULL, main_of_thread, p);
        if (rc != 0) {
                close(ends[0]);
                close(ends[1]);
                free(p);
                return err_set(e, rc, "start a thread");
        }
        *ret_fd = ends[0];
        *ret = p;
        return 0;
}

int pump_end(struct pump *p, struct err *e)
{
        int rc;

        pthread_join(p->thread, NULL);
        rc = p->rc;
        if (rc < 0 && e)
                *e = p->e;
        free(p);
        return rc;
}
