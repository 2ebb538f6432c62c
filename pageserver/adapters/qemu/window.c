/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/window.h"

#include "common/check.h"
#include "common/clock.h"

/* of a QEMU that was not measured yet */
#define SPEED_DEFAULT 1000000000ull
/* what is measured over less is noise */
#define MEASURE_NS 50000ull

void window_init(struct window *w, uint64_t now_ns)
{
        *w = (struct window){ .bytes = WINDOW_BYTES_MIN, .calm_ns = now_ns,
                              .looked_ns = now_ns, .wait_ns = WINDOW_WAIT_MIN_NS };
}

static uint64_t speed(const struct window *w)
{
        return w->speed ? w->speed : SPEED_DEFAULT;
}

static uint64_t small(const struct window *w)
{
        uint64_t bytes = speed(w) / (NS_PER_SEC / WINDOW_DELAY_NS);

        return MIN(MAX(bytes, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX / 4);
}

void window_request(struct window *w, uint64_t now_ns)
{
        w->bytes = MAX(small(w), w->bytes / 2);
        w->calm_ns = now_ns;
}

/* While something lies there all the time, what is gone was taken as fast as it could be;
 * else at least as fast as it was. */
static void measure(struct window *w, uint64_t taken_bytes, uint64_t queued_bytes,
                    uint64_t now_ns)
{
        uint64_t passed_ns = now_ns - w->looked_ns;

        if (passed_ns < MEASURE_NS)
                return;

        uint64_t now = (taken_bytes - w->taken_bytes) * 1000 / (passed_ns / 1000) * 1000;

        if (queued_bytes == 0 || w->queued_bytes == 0)
                w->speed = MAX(w->speed, now);
        else if (now > 0)
                w->speed = w->speed ? (3 * w->speed + now) / 4 : now;
        w->looked_ns = now_ns;
        w->taken_bytes = taken_bytes;
        w->queued_bytes = queued_bytes;
}

static void grow(struct window *w, uint64_t queued_bytes, uint64_t now_ns)
{
        if (w->waited && queued_bytes == 0 && w->bytes < WINDOW_BYTES_BUSY)
                w->bytes = MIN(2 * w->bytes, WINDOW_BYTES_BUSY);
        while (w->bytes < WINDOW_BYTES_MAX && now_ns - w->calm_ns >= WINDOW_CALM_NS) {
                w->bytes = MIN(2 * w->bytes, WINDOW_BYTES_MAX);
                w->calm_ns += WINDOW_CALM_NS;
        }
}

uint64_t window_room(struct window *w, uint64_t written_bytes, uint64_t queued_bytes,
                     uint64_t now_ns, uint64_t *ret_until_ns)
{
        /* of a socket the kernel counts its own memory, which is more */
        uint64_t taken_bytes = MAX(written_bytes - MIN(queued_bytes, written_bytes),
                                   w->seen_bytes);
        bool stuck = taken_bytes == w->seen_bytes;

        w->seen_bytes = taken_bytes;
        measure(w, taken_bytes, queued_bytes, now_ns);
        grow(w, queued_bytes, now_ns);
        w->waited = queued_bytes > w->bytes / 2;
        if (!w->waited) {
                w->wait_ns = WINDOW_WAIT_MIN_NS;
                return w->bytes - queued_bytes;
        }

        uint64_t needed_ns = (queued_bytes - w->bytes / 2) * 1000 / MAX(speed(w) / 1000000, 1);

        w->wait_ns = stuck ? MIN(2 * w->wait_ns, WINDOW_WAIT_MAX_NS) : WINDOW_WAIT_MIN_NS;
        *ret_until_ns = now_ns + MAX(MIN(needed_ns, WINDOW_WAIT_LONG_NS), w->wait_ns);
        return 0;
}
