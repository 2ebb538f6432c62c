/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - how much of the background may lie between us and QEMU.
 *
 * Theory of operation
 *
 * What was written and not read yet stands in front of the next page that the guest waits
 * for. So the background writes only while less than a window's bytes lie there, and goes on
 * when half of it is free. Each request halves the window, down to what QEMU takes in
 * WINDOW_DELAY_NS, as measured; each WINDOW_CALM_NS without one doubles it, because a long
 * queue costs fewer switches between two processes. It doubles too when nothing is left after
 * a wait: on a busy host we wake up late, and QEMU must not run dry meanwhile.
 *
 * Threads: one at a time. Pure: the caller brings the time.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_WINDOW_H
#define PAGESERVER_ADAPTERS_QEMU_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_DELAY_NS 100000ull
#define WINDOW_CALM_NS 5000000ull
/* Below that QEMU's own reads (32 KiB) would run dry; above it nothing is gained. */
#define WINDOW_BYTES_MIN (32u << 10)
#define WINDOW_BYTES_MAX (512u << 10)
/* as it may become while requests come */
#define WINDOW_BYTES_BUSY (256u << 10)
/* Between two looks: as long as it should take QEMU, for it may have become faster never
 * longer than LONG; where it takes nothing, twice as long as the last time, up to MAX. */
#define WINDOW_WAIT_MIN_NS 20000ull
#define WINDOW_WAIT_LONG_NS 200000ull
#define WINDOW_WAIT_MAX_NS 50000000ull

struct window {
        uint64_t bytes;                 /* the window */
        uint64_t calm_ns;               /* the last request, or doubling */
        uint64_t speed;                 /* bytes a second that QEMU takes; 0 = not known yet */
        uint64_t looked_ns;             /* the last measuring: when, and what was read by then */
        uint64_t taken_bytes;
        uint64_t queued_bytes;
        uint64_t seen_bytes;            /* read, at the last look */
        uint64_t wait_ns;
        bool waited;                    /* the last look gave no room */
};

void window_init(struct window *w, uint64_t now_ns);
/* The guest waits for a page. */
void window_request(struct window *w, uint64_t now_ns);
/* How much the background may write now, when of so many bytes written in all so many
 * are not read yet. 0: nothing before *ret_until_ns. */
uint64_t window_room(struct window *w, uint64_t written_bytes, uint64_t queued_bytes,
                     uint64_t now_ns, uint64_t *ret_until_ns);

#endif
