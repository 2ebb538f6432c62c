/* SPDX-License-Identifier: Apache-2.0 */
/* gaps.c - how long the CPUs stood still, as they felt it (option `gaps`).
 *
 * Theory of operation
 *
 * A step is a page of work, a turn of a waiting loop, or a byte sent to the
 * console: microseconds at most, if the CPU runs. So the longest time between
 * two steps of one CPU is for how long it did not: its guest was paused, it
 * waited for a page, its thread for a processor, or its monitor was at work.
 * vCPU 0 prints the longest of all CPUs with each tick line and begins anew.
 *
 * Time is the TSC's, which goes on while a guest is paused (not while QEMU
 * without KVM is stopped by its monitor; a stopped process is felt there too).
 * After a revert it may be any other: one wrong gap, or none if it went back.
 *
 * INV-LONGEST: each gap of a CPU is in one line at most, that of the tick after its
 *              end: the CPU only raises its longest gap, and vCPU 0 takes it and
 *              puts zero there in one exchange.
 */
#include "vmm/payload/guest.h"

#define TICK_MS                 (1000 / TICKS_PER_SECOND)
#define CATCH_UP_MS             10

#define MOMENT_TRIES            8

/* A cache line for each CPU, which alone writes it but for gap_tsc. */
static struct {
        uint64_t step_tsc;              /* its last step, 0: none yet         */
        uint64_t gap_tsc;               /* its longest gap since the last line */
        uint64_t done_bytes;
        uint64_t due_tsc;               /* not before then its next page      */
} pulse[PAYLOAD_CPUS_MAX] __attribute__((aligned(PAYLOAD_LINE_BYTES)));

/* vCPU 0 */
static uint64_t tsc_per_tick;
static uint64_t line_tsc, line_bytes;   /* as the last tick line had them     */

static uint64_t tsc_now(void)
{
        uint32_t low, high;

        __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
        return (uint64_t)high << 32 | low;
}

/* When the timer of vCPU 0 stood where: of some tries the one that nothing came
 * between, be it the monitor or another program on this processor. */
struct moment {
        uint64_t tsc;
        uint32_t left;
};

static struct moment moment_now(void)
{
        uint64_t shortest_tsc = UINT64_MAX;
        struct moment best = { 0, 0 };
        unsigned i;

        for (i = 0; i < MOMENT_TRIES; i++) {
                uint64_t before_tsc = tsc_now();
                uint32_t left = timer_left();
                uint64_t took_tsc = tsc_now() - before_tsc;

                if (took_tsc >= shortest_tsc)
                        continue;
                shortest_tsc = took_tsc;
                best.tsc = before_tsc + took_tsc / 2;
                best.left = left;
        }
        return best;
}

/* vCPU 0, once its timer runs: how fast the TSC counts. Two moments of one period
 * tell; ticks would not, as a busy host delivers them late, or two as one. */
void gaps_start(void)
{
        struct moment first, last;
        uint64_t tick;

        if (!state.gaps)
                return;
        first = moment_now();
        tick = load64(&state.tick);
        line_tsc = first.tsc;
        do {
                last = moment_now();
                if (last.left > first.left || load64(&state.tick) != tick)
                        first = last;
                tick = load64(&state.tick);
        } while (first.left - last.left < TIMER_COUNTS / 2);
        tsc_per_tick = (last.tsc - first.tsc) * TIMER_COUNTS /
                       (first.left - last.left);
}

void gaps_step(unsigned cpu)
{
        uint64_t last_tsc = pulse[cpu].step_tsc, now_tsc;

        if (!state.gaps)
                return;
        now_tsc = tsc_now();
        if (last_tsc && now_tsc > last_tsc &&
            now_tsc - last_tsc > load64(&pulse[cpu].gap_tsc))
                store64(&pulse[cpu].gap_tsc, now_tsc - last_tsc);
        pulse[cpu].step_tsc = now_tsc;
}

/* With a rate, the time that a CPU has for a page. */
static uint64_t page_tsc(void)
{
        return PAYLOAD_PAGE_BYTES * state.cpus * TICKS_PER_SECOND * tsc_per_tick /
               state.rate;
}

/* A page is done. Pages are due evenly; what was missed is lost but for the work of
 * 10 ms, else a slow-down would hide in haste behind it. A TSC that jumped is followed. */
void gaps_page(unsigned cpu)
{
        uint64_t now_tsc, late_tsc, due_tsc = pulse[cpu].due_tsc;

        if (!state.gaps)
                return;
        store64(&pulse[cpu].done_bytes, pulse[cpu].done_bytes + PAYLOAD_PAGE_BYTES);
        if (!state.rate)
                return;
        now_tsc = tsc_now();
        late_tsc = now_tsc - tsc_per_tick / (TICK_MS / CATCH_UP_MS);
        if (due_tsc < late_tsc)
                due_tsc = late_tsc;
        if (due_tsc > now_tsc)
                due_tsc = now_tsc;
        pulse[cpu].due_tsc = due_tsc + page_tsc();
}

/* Must the CPU wait until its last page is due? For no longer than a page's time. */
bool gaps_ahead(unsigned cpu)
{
        return pulse[cpu].due_tsc - tsc_now() <= page_tsc();
}

static uint64_t in_us(uint64_t tsc)
{
        return tsc * TICK_MS * 1000 / tsc_per_tick;
}

/* vCPU 0: the tick line's second half. */
void gaps_put(void)
{
        uint64_t now_tsc = tsc_now(), gap_tsc = 0, done_bytes = 0;
        unsigned cpu;

        for (cpu = 0; cpu < state.cpus; cpu++) {
                uint64_t longest_tsc = __atomic_exchange_n(&pulse[cpu].gap_tsc, 0,
                                                           __ATOMIC_RELAXED);

                if (longest_tsc > gap_tsc)
                        gap_tsc = longest_tsc;
                done_bytes += load64(&pulse[cpu].done_bytes);
        }
        put_text(" gap ");
        put_dec(in_us(gap_tsc));
        put_text("us did ");
        put_dec((done_bytes - line_bytes) >> 10);
        put_text("KiB in ");
        put_dec(in_us(now_tsc - line_tsc));
        put_text("us");
        line_tsc = now_tsc;
        line_bytes = done_bytes;
}
