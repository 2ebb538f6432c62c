/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no client of a VM's control socket takes its place, its time or its memory for long:
 *       neither many, silent or slow ones nor one whose request has no end; one that waits
 *       for its save is none of these.
 * Method: control-kit.h; what takes seconds is tried at once. */
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/control-kit.h"
#include "vmm/control-priv.h"

static bool is_served(struct vm *vm)
{
        struct client c;
        bool served;

        ask(&c, "GET", "/nope", "");
        served = hears(vm, &c, "there is no such path") && sees_the_end(vm, &c, 10);
        hang_up(&c);
        return served;
}

/* A request has one connection, and its answer says so. */
static void one_request_each(void)
{
        struct client c;
        struct vm vm;

        vm_begin(&vm);
        ask(&c, "GET", "/nope", "");
        CU_ASSERT_TRUE(hears(&vm, &c, "Connection: close"));
        CU_ASSERT_TRUE(sees_the_end(&vm, &c, 10));
        hang_up(&c);
        ask(&c, "PUT", "/snapshot/create", PARTS);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        save_ends(&vm, "there");
        CU_ASSERT_TRUE(hears(&vm, &c, "there"));
        CU_ASSERT_TRUE(sees_the_end(&vm, &c, 10));
        hang_up(&c);
        vm_end(&vm);
}

/* INV-STUFFED: a line that says how long a chunk is, and has no end. It is not the look of
 * each second that finds it. */
static void a_line_without_end(void)
{
        static const char head[] = "PUT /vm HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        AUTO_FREE char *line = malloc(4096);
        uint64_t start_ns = clock_now_ns();
        size_t sent = 0;
        struct client c;
        struct vm vm;

        memset(line, 'a', 4096);
        vm_begin(&vm);
        come(&c);
        CU_ASSERT_EQUAL(io_write_full(c.sock, head, strlen(head)), 0);
        while (!c.closed && sent < 4u << 20 && clock_now_ns() - start_ns < 10 * NS_PER_SEC) {
                ssize_t n = send(c.sock, line, 4096, MSG_DONTWAIT | MSG_NOSIGNAL);

                sent += n > 0 ? (size_t)n : 0;
                event_base_loop(vm.base, EVLOOP_NONBLOCK);
                take(&c);
        }
        CU_ASSERT_TRUE(c.closed);
        CU_ASSERT_TRUE(clock_now_ns() - start_ns < NS_PER_SEC * 9 / 10);
        CU_ASSERT_TRUE(is_served(&vm));
        hang_up(&c);
        vm_end(&vm);
}

/* All places are taken: the next one waits for one to be free. */
static void a_crowd(void)
{
        struct client crowd[CONTROL_CONNS_MAX], next;
        struct vm vm;

        vm_begin(&vm);
        for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++) {
                come(&crowd[i]);
                turn(&vm, 2);
        }
        ask(&next, "GET", "/nope", "");
        turn(&vm, 100);
        take(&next);
        CU_ASSERT_EQUAL(next.bytes, 0);
        hang_up(&crowd[7]);
        CU_ASSERT_TRUE(hears(&vm, &next, "there is no such path"));
        hang_up(&next);
        for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++) {
                if (i != 7)
                        hang_up(&crowd[i]);
        }
        CU_ASSERT_TRUE(is_served(&vm));
        vm_end(&vm);
}

static void on_tick(evutil_socket_t fd, short what, void *ctx)
{
        struct client *slow = ctx;

        (void)fd;
        (void)what;
        take(slow);
        if (!slow->closed)
                (void)send(slow->sock, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void wait_seconds(struct vm *vm, unsigned seconds)
{
        const struct timeval t = { .tv_sec = seconds };

        event_base_loopexit(vm->base, &t);
        event_base_dispatch(vm->base);
}

/* Nobody is waited for longer than the limits say, but who waits for us. */
static void silent_and_slow_ones(void)
{
        const struct timeval tick = { .tv_usec = 500000 };
        struct client silent, slow, saves[2];
        struct event *event;
        struct vm vm;

        vm_begin(&vm);
        ask(&saves[0], "PUT", "/snapshot/create", PARTS);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        ask(&saves[1], "PUT", "/actions", CANCEL);
        CU_ASSERT_TRUE_FATAL(turns_until_cancelled(&vm));
        vm.save->cancelled = 0;
        come(&silent);
        come(&slow);
        CU_ASSERT_EQUAL(io_write_full(slow.sock, "GET /vm HTTP/1.1\r\nX: ", 21), 0);
        event = event_new(vm.base, -1, EV_PERSIST, on_tick, &slow);
        event_add(event, &tick);

        wait_seconds(&vm, CONTROL_SILENCE_SECONDS + 1);
        take(&silent);
        CU_ASSERT_TRUE(silent.closed);
        CU_ASSERT_FALSE(slow.closed);
        wait_seconds(&vm, CONTROL_CONN_SECONDS - CONTROL_SILENCE_SECONDS + 2);
        CU_ASSERT_TRUE(slow.closed);
        CU_ASSERT_EQUAL(vm.save->cancelled, 0);
        event_free(event);

        save_ends(&vm, "there");
        for (int i = 0; i < 2; i++)
                saves[i].bytes = 0;
        CU_ASSERT_TRUE(hears(&vm, &saves[0], "there"));
        CU_ASSERT_TRUE(hears(&vm, &saves[1], "was complete before"));
        hang_up(&silent);
        hang_up(&slow);
        hang_up(&saves[0]);
        hang_up(&saves[1]);
        vm_end(&vm);
}

static const CU_TestInfo cases[] = {
        { "one request for each connection", one_request_each },
        { "a line without end", a_line_without_end },
        { "a crowd", a_crowd },
        { "silent and slow ones", silent_and_slow_ones },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return control_kit_main("control-limits", cases);
}
