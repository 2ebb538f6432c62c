/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: with requests no more lies before QEMU than it takes in WINDOW_DELAY_NS, without
 *       them a long queue; a QEMU that does not read is looked at ever more seldom.
 * Method: a model of a pipe that is emptied at a given speed, in steps of time. */
#include "pageserver/adapters/qemu/window.h"

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

struct pipe {
        struct window w;
        uint64_t speed;                 /* bytes a second */
        uint64_t now_ns, written, taken;
        uint64_t late_ns;               /* it wakes up */
        uint64_t most;                  /* that lay there */
        unsigned looks;
};

/* The background writes what it may for so long; a request comes every so often, 0 = never. */
static void run(struct pipe *p, uint64_t ns, uint64_t request_ns)
{
        uint64_t end_ns = p->now_ns + ns, next_ns = p->now_ns;

        p->most = p->looks = 0;
        while (p->now_ns < end_ns) {
                uint64_t until_ns = p->now_ns + 10000;
                uint64_t room = window_room(&p->w, p->written, p->written - p->taken, p->now_ns,
                                            &until_ns);

                p->looks++;
                p->written += room;
                p->most = MAX(p->most, p->written - p->taken);
                if (request_ns && p->now_ns >= next_ns) {
                        window_request(&p->w, p->now_ns);
                        next_ns += request_ns;
                }

                uint64_t passed_ns = room ? 10000 : MAX(until_ns - p->now_ns, 1) + p->late_ns;

                if (request_ns)
                        passed_ns = MIN(passed_ns, request_ns + p->late_ns);
                p->now_ns += passed_ns;
                p->taken = MIN(p->written, p->taken + p->speed * (passed_ns / 1000) / 1000000);
        }
}

static void requests_have_little_before_them(void)
{
        static const struct {
                const char *name;
                uint64_t speed, most;
        } rows[] = {
                { "1 GB/s", 1000000000, 160000 }, { "600 MB/s", 600000000, 100000 },
                { "50 MB/s", 50000000, WINDOW_BYTES_MIN },
                { "10 GB/s", 10000000000, WINDOW_BYTES_MAX / 4 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct pipe p = { .speed = rows[i].speed };

                window_init(&p.w, 0);
                run(&p, 100 * NS_PER_MS, 500000);       /* it learns the speed */
                run(&p, 100 * NS_PER_MS, 500000);
                EXPECT_TRUE(rows[i].name, p.most <= rows[i].most);
                EXPECT_TRUE(rows[i].name, p.taken * 10 >= p.speed / 5 * 7 ||
                                          p.speed > 1000000000);
        }
}

/* Late by more than QEMU takes to empty a small window. */
static void on_a_busy_host(void)
{
        struct pipe p = { .speed = 500000000, .late_ns = 200000 };

        window_init(&p.w, 0);
        run(&p, 100 * NS_PER_MS, 500000);

        uint64_t before = p.taken;

        run(&p, 100 * NS_PER_MS, 500000);
        CU_ASSERT(p.taken - before > p.speed / 10 * 7 / 10);
        CU_ASSERT(p.most <= WINDOW_BYTES_BUSY);
}

static void calm_makes_it_long(void)
{
        struct pipe p = { .speed = 1000000000 };

        window_init(&p.w, 0);
        run(&p, 200 * NS_PER_MS, 0);
        CU_ASSERT_EQUAL(p.most, WINDOW_BYTES_MAX);
        CU_ASSERT(p.looks < 4000);      /* 200 MB in pieces of a quarter MiB, and waits */
        window_request(&p.w, p.now_ns);
        CU_ASSERT(p.w.bytes <= WINDOW_BYTES_MAX / 2);
        window_request(&p.w, p.now_ns);
        CU_ASSERT(p.w.bytes <= WINDOW_BYTES_MAX / 4);
}

static void who_does_not_read_is_left_alone(void)
{
        struct pipe p = { .speed = 0 };

        window_init(&p.w, 0);
        run(&p, 10 * NS_PER_SEC, 0);
        CU_ASSERT(p.looks < 300);
        CU_ASSERT(p.written <= WINDOW_BYTES_MAX);
        p.speed = 1000000000;
        run(&p, 200 * NS_PER_MS, 0);
        CU_ASSERT(p.taken > 50000000);
}

static const CU_TestInfo cases[] = {
        { "requests have little before them", requests_have_little_before_them },
        { "on a busy host QEMU does not run dry", on_a_busy_host },
        { "calm makes it long", calm_makes_it_long },
        { "who does not read is left alone", who_does_not_read_is_left_alone },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-window", cases);
}
