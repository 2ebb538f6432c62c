/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each message reaches whom it is for, however it is cut into reads, and each way to
 *       end is told apart.
 * Method: messages of the codec through a pipe, in pieces of 1 to 700 bytes. */
#include "pageserver/adapters/qemu/returnpath.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define P 4096u

static const struct qemu_ramblock blocks[] = {
        { .name = "pc.ram", .bytes = 64 * P, .page_bytes = P },
        { .name = "huge", .bytes = 4u << 20, .page_bytes = 2u << 20 },
};

/* the thread's until it has ended */
struct heard {
        struct { unsigned block; uint64_t offset, bytes; } request[8];
        unsigned requests;
        uint32_t pong[8];
        unsigned pongs;
        _Atomic bool ended;
};

static void on_request(void *ctx, unsigned block, uint64_t offset, uint64_t bytes)
{
        struct heard *h = ctx;

        ASSERT(h->requests < ARRAY_SIZE(h->request));
        h->request[h->requests].block = block;
        h->request[h->requests].offset = offset;
        h->request[h->requests++].bytes = bytes;
}

static void on_pong(void *ctx, uint32_t token)
{
        struct heard *h = ctx;

        ASSERT(h->pongs < ARRAY_SIZE(h->pong));
        h->pong[h->pongs++] = token;
}

static void on_ended(void *ctx)
{
        ((struct heard *)ctx)->ended = true;
}

static const struct returnpath_ops ops = { on_request, on_pong, on_ended };

static struct returnpath *start(struct heard *h, int *ret_say_fd, int *ret_fd)
{
        struct returnpath *r = NULL;
        int fds[2];

        *h = (struct heard){ 0 };
        CU_ASSERT_EQUAL_FATAL(pipe2(fds, O_CLOEXEC), 0);
        *ret_fd = fds[0];
        *ret_say_fd = fds[1];
        CU_ASSERT_EQUAL_FATAL(returnpath_new(fds[0], blocks, 2, P, &ops, h, &r, NULL), 0);
        return r;
}

static size_t conversation(uint8_t *to)
{
        uint8_t map[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
        uint8_t *at = to;

        at += qemurp_pong(at, 1);
        at += qemurp_request(at, "pc.ram", 5 * P, P);
        at += qemurp_request(at, NULL, 6 * P, 2 * P);
        at += qemurp_bitmap(at, "pc.ram", sizeof(map));
        memcpy(at, map, sizeof(map));
        at += sizeof(map);
        at += qemurp_bitmap_end(at);
        at += qemurp_bitmap(at, "huge", 128);
        memset(at, 0xee, 128);
        at += 128;
        at += qemurp_bitmap_end(at);
        at += qemurp_resume_ack(at);
        at += qemurp_request(at, "huge", 2u << 20, 2u << 20);
        at += qemurp_pong(at, 3);
        at += qemurp_shut(at, 0);
        return (size_t)(at - to);
}

static void check_heard(const struct heard *h, struct returnpath *r)
{
        struct err e;

        CU_ASSERT_EQUAL(returnpath_end(r, &e), RETURNPATH_SHUT_OK);
        CU_ASSERT(h->ended && h->pongs == 2 && h->pong[0] == 1 && h->pong[1] == 3);
        CU_ASSERT_EQUAL_FATAL(h->requests, 3);
        CU_ASSERT(h->request[0].block == 0 && h->request[0].offset == 5 * P);
        CU_ASSERT(h->request[1].offset == 6 * P && h->request[1].bytes == 2 * P);
        CU_ASSERT(h->request[2].block == 1 && h->request[2].bytes == 2u << 20);
        CU_ASSERT(returnpath_acked(r));

        const uint8_t *map = returnpath_bitmap(r, 0);

        CU_ASSERT(map && map[0] == 1 && map[7] == 8);
        map = returnpath_bitmap(r, 1);
        CU_ASSERT(map && map[0] == 0xee && map[127] == 0xee);
}

static void all_messages_in_pieces(void)
{
        static uint8_t text[8 * QEMURP_BYTES_MAX];
        size_t bytes = conversation(text);

        for (size_t piece = 1; piece <= 700; piece = piece * 3 + 1) {
                struct heard h;
                int fd, say_fd;
                struct returnpath *r = start(&h, &say_fd, &fd);

                for (size_t at = 0; at < bytes; at += piece) {
                        io_write_full(say_fd, text + at, MIN(piece, bytes - at));
                        if (piece < 64)
                                usleep(200);
                }
                returnpath_wait_bitmaps(r);
                returnpath_wait_ack(r);
                returnpath_wait_end(r);
                close(say_fd);
                returnpath_free(r);     /* all callbacks are over */
                r = start(&h, &say_fd, &fd);
                io_write_full(say_fd, text, bytes);
                returnpath_wait_end(r);
                while (!h.ended)
                        usleep(1000);
                check_heard(&h, r);
                returnpath_free(r);
                close(say_fd);
                close(fd);
        }
}

static void ends(void)
{
        static const struct {
                const char *name;
                const char *bytes;
                size_t n;
                enum returnpath_end end;
        } rows[] = {
                { "nothing", "", 0, RETURNPATH_GONE },
                { "half a message", "\0\2\0", 3, RETURNPATH_GONE },
                { "well", "\0\1\0\4\0\0\0\0", 8, RETURNPATH_SHUT_OK },
                { "failed", "\0\1\0\4\0\0\0\1", 8, RETURNPATH_SHUT_BAD },
                { "unknown", "\0\377\0\4\0\0\0\1", 8, RETURNPATH_BROKEN },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct heard h;
                struct err e;
                int fd, say_fd;
                struct returnpath *r = start(&h, &say_fd, &fd);

                CU_ASSERT_EQUAL(returnpath_end(r, &e), RETURNPATH_OPEN);
                io_write_full(say_fd, rows[i].bytes, rows[i].n);
                close(say_fd);
                returnpath_wait_bitmaps(r);     /* each wait ends */
                returnpath_wait_ack(r);
                returnpath_wait_end(r);
                EXPECT_EQUAL(rows[i].name, returnpath_end(r, &e), rows[i].end);
                EXPECT_TRUE(rows[i].name, (rows[i].end == RETURNPATH_BROKEN) == (e.code != 0));
                CU_ASSERT_PTR_NULL(returnpath_bitmap(r, 0));
                CU_ASSERT(!returnpath_acked(r));
                returnpath_free(r);
                close(fd);
        }
}

static void it_can_be_ended(void)
{
        struct heard h;
        int fd, say_fd;
        struct returnpath *r = start(&h, &say_fd, &fd);

        returnpath_free(r);
        CU_ASSERT(h.ended);
        close(fd);
        close(say_fd);
        returnpath_free(NULL);
}

static const CU_TestInfo cases[] = {
        { "all messages, in pieces", all_messages_in_pieces },
        { "the ways to end", ends },
        { "it can be ended", it_can_be_ended },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-returnpath", cases);
}
