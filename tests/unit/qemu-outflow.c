/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: writes are whole, whatever the reader does, and end when it goes or when they are
 *       stopped (INV-END); the descriptor is given back as it was.
 * Method: pipes and sockets with a thread at the other end. */
#include "pageserver/adapters/qemu/outflow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/suite.h"

#define PARTS 3000u
#define PART_BYTES 777u

struct reader {
        int fd;
        uint64_t bytes;                 /* read before it ends; UINT64_MAX = all */
        uint64_t got, sum;
};

static void *reader_main(void *ctx)
{
        struct reader *r = ctx;
        uint8_t buf[5000];
        ssize_t n;

        while (r->got < r->bytes && (n = read(r->fd, buf, sizeof(buf))) > 0) {
                for (ssize_t i = 0; i < n; i++)
                        r->sum = r->sum * 31 + buf[i];
                r->got += (uint64_t)n;
        }
        close(r->fd);
        return NULL;
}

static void make(bool socket, int fds[2])
{
        int rc = socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) :
                          pipe2(fds, O_CLOEXEC);

        CU_ASSERT_EQUAL_FATAL(rc, 0);
        if (!socket) {
                int swap = fds[0];

                fds[0] = fds[1];
                fds[1] = swap;
        }
}

static void all_of_it(void)
{
        uint8_t *data = malloc(PARTS * PART_BYTES);
        struct iovec *iov = calloc(PARTS, sizeof(*iov));

        CU_ASSERT_FATAL(data && iov);
        for (int socket = 0; socket < 2; socket++) {
                struct reader r = { .bytes = UINT64_MAX };
                uint64_t sum = 0;
                struct outflow o;
                pthread_t thread;
                int fds[2];

                make(socket, fds);
                r.fd = fds[1];
                for (size_t i = 0; i < PARTS * PART_BYTES; i++) {
                        data[i] = (uint8_t)(i * i >> 3);
                        sum = sum * 31 + data[i];
                }
                for (size_t i = 0; i < PARTS; i++)
                        iov[i] = (struct iovec){ data + i * PART_BYTES, PART_BYTES };
                CU_ASSERT_EQUAL(outflow_init(&o, fds[0], NULL), 0);
                CU_ASSERT_EQUAL(pthread_create(&thread, NULL, reader_main, &r), 0);
                CU_ASSERT_EQUAL(outflow_writev(&o, iov, PARTS, NULL), 0);
                CU_ASSERT_EQUAL(o.written_bytes, PARTS * PART_BYTES);
                outflow_fini(&o);
                CU_ASSERT_EQUAL(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
                close(fds[0]);
                pthread_join(thread, NULL);
                CU_ASSERT(r.got == PARTS * PART_BYTES && r.sum == sum);
        }
        free(data);
        free(iov);
}

static void it_knows_what_waits(void)
{
        for (int socket = 0; socket < 2; socket++) {
                uint8_t data[10000] = { 0 };
                struct outflow o;
                int fds[2];

                make(socket, fds);
                CU_ASSERT_EQUAL(outflow_init(&o, fds[0], NULL), 0);
                CU_ASSERT_EQUAL(outflow_queued(&o), 0);
                CU_ASSERT_EQUAL(outflow_write(&o, data, sizeof(data), NULL), 0);
                CU_ASSERT(outflow_queued(&o) >= sizeof(data));
                CU_ASSERT_EQUAL(read(fds[1], data, sizeof(data)), sizeof(data));
                CU_ASSERT_EQUAL(outflow_queued(&o), 0);
                outflow_fini(&o);
                close(fds[0]);
                close(fds[1]);
        }
}

/* a reader that goes after a while, in the midst of a write that waits for it */
static void the_reader_goes(void)
{
        size_t bytes = 8u << 20;
        uint8_t *data = calloc(1, bytes);

        for (int socket = 0; socket < 2; socket++) {
                struct reader r = { .bytes = 300000 };
                struct err e = { 0 };
                struct outflow o;
                pthread_t thread;
                int fds[2];

                make(socket, fds);
                r.fd = fds[1];
                CU_ASSERT_EQUAL(outflow_init(&o, fds[0], NULL), 0);
                CU_ASSERT_EQUAL(pthread_create(&thread, NULL, reader_main, &r), 0);
                CU_ASSERT_EQUAL(outflow_write(&o, data, bytes, &e), -EPIPE);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "QEMU has closed the stream"));
                pthread_join(thread, NULL);
                outflow_fini(&o);
                close(fds[0]);
        }
        free(data);
}

static void *stop_main(void *ctx)
{
        usleep(20000);
        outflow_stop(ctx);
        return NULL;
}

static void it_is_stopped(void)
{
        size_t bytes = 8u << 20;
        uint8_t *data = calloc(1, bytes);
        struct err e = { 0 };
        struct outflow o;
        pthread_t thread;
        int fds[2];

        make(false, fds);
        CU_ASSERT_EQUAL(outflow_init(&o, fds[0], NULL), 0);
        CU_ASSERT_EQUAL(pthread_create(&thread, NULL, stop_main, &o), 0);
        CU_ASSERT_EQUAL(outflow_write(&o, data, bytes, &e), -ECANCELED);
        pthread_join(thread, NULL);
        outflow_fini(&o);
        close(fds[0]);
        close(fds[1]);
        free(data);
}

static const CU_TestInfo cases[] = {
        { "all of it is written", all_of_it },
        { "it knows what waits", it_knows_what_waits },
        { "the reader goes", the_reader_goes },
        { "it is stopped", it_is_stopped },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        signal(SIGPIPE, SIG_IGN);
        return suite_main("qemu-outflow", cases);
}
