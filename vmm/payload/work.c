/* SPDX-License-Identifier: Apache-2.0 */
/* work.c - the passes: verify what is there, write what comes next.
 *
 * payload.h says what every word must be at any instant. Here that is kept by
 * the order of stores alone: those to the array and to progress are volatile,
 * and x86 makes the stores of one CPU visible in program order.
 */
#include "vmm/payload/guest.h"

typedef volatile uint64_t word_t;

/* One CPU in one pass; constant while the pass lasts, but for done_bytes. */
struct share {
        unsigned cpu;
        uint32_t pass;
        bool writing;
        uint64_t window_bytes;
        uint32_t old_pass;              /* what [0, old_window_bytes) holds   */
        uint64_t old_window_bytes;
        uint64_t done_bytes;            /* since the start, for the throttle  */
};

static struct {
        uint32_t claimed;
        uint64_t first_tick;
        uint64_t printed_tick;          /* vCPU 0 only */
} shared;

static _Noreturn void stop(unsigned cpu)
{
        if (cpu == 0)
                report();
        cpu_halt();
}

/* Between any two pages, and while waiting. */
static void look_around(unsigned cpu)
{
        uint64_t tick = load64(&state.tick);

        gaps_step(cpu);
        if (load32(&state.phase) != PAYLOAD_RUN)
                stop(cpu);
        if (cpu != 0 || tick == shared.printed_tick)
                return;
        shared.printed_tick = tick;
        put_text("tick ");
        put_dec(tick);
        if (state.gaps)
                gaps_put();
        put_line_end();
}

/* Until there may be something to do. A CPU that halts cannot tell that from
 * standing still, so where gaps are measured it stays awake. */
static void rest(uint64_t seen_tick)
{
        if (state.gaps)
                cpu_pause();
        else
                cpu_wait_tick(seen_tick);
}

static void wait_a_little(unsigned cpu)
{
        look_around(cpu);
        if (state.rate)
                rest(load64(&state.tick));
        else
                cpu_pause();
}

/* Has the CPU done more than its part of the rate? */
static bool ahead(const struct share *sh, uint64_t tick)
{
        uint64_t ticks = tick - shared.first_tick + 1;

        if (state.gaps)
                return gaps_ahead(sh->cpu);
        return sh->done_bytes > ticks * state.rate / TICKS_PER_SECOND / state.cpus;
}

static void throttle(const struct share *sh)
{
        uint64_t tick;

        while (state.rate) {
                tick = load64(&state.tick);
                if (!ahead(sh, tick))
                        return;
                look_around(sh->cpu);
                rest(tick);
        }
}

static word_t *page_at(uint64_t offset)
{
        unsigned i = 0;

        while (offset >= state.ranges[i].len_bytes)
                offset -= state.ranges[i++].len_bytes;
        return (word_t *)(uintptr_t)(state.ranges[i].gpa + offset);
}

/* The first CPU that finds something stops all. */
static _Noreturn void corrupt(unsigned cpu, word_t *page,
                              const struct payload_page *want)
{
        unsigned i = 0;

        while (i < PAYLOAD_PAGE_WORDS - 1 && page[i] == payload_word(want, i))
                i++;
        if (__atomic_exchange_n(&shared.claimed, 1, __ATOMIC_ACQ_REL))
                cpu_halt();
        state.corrupt_gpa = (uintptr_t)(page + i);
        state.corrupt_want = payload_word(want, i);
        state.corrupt_got = page[i];
        store32(&state.phase, PAYLOAD_CORRUPT);
        stop(cpu);
}

static void page_verify(unsigned cpu, word_t *page,
                        const struct payload_page *want)
{
        unsigned word, i;

        for (word = 0; word < PAYLOAD_PAGE_WORDS; word += PAYLOAD_LINE_WORDS) {
                uint64_t difference = 0;

#pragma GCC unroll 8
                for (i = 0; i < PAYLOAD_LINE_WORDS; i++)
                        difference |= page[word + i] ^
                                      payload_word(want, word + i);
                if (difference)
                        corrupt(cpu, page, want);
        }
}

/* INV-WORD: progress names a line before its first word changes. */
static void page_write(word_t *page, const struct payload_page *fresh,
                       uint64_t *ret_progress, uint64_t progress)
{
        unsigned word, i;

        for (word = 0; word < PAYLOAD_PAGE_WORDS; word += PAYLOAD_LINE_WORDS) {
                store64(ret_progress, progress++);
#pragma GCC unroll 8
                for (i = 0; i < PAYLOAD_LINE_WORDS; i++)
                        page[word + i] = payload_word(fresh, word + i);
        }
}

static void page_step(const struct share *sh, uint64_t offset)
{
        word_t *page = page_at(offset);
        uint64_t *progress = &state.cpu[sh->cpu].progress;
        uint64_t here = payload_progress(sh->pass, offset / PAYLOAD_LINE_BYTES);
        uint32_t old_pass = offset < sh->old_window_bytes ? sh->old_pass : 0;
        struct payload_page old, fresh;

        old = payload_page_make((uintptr_t)page, old_pass, state.pattern);
        page_verify(sh->cpu, page, &old);
        if (!sh->writing) {
                store64(progress, here);
                return;
        }
        fresh = payload_page_make((uintptr_t)page, sh->pass, state.pattern);
        page_write(page, &fresh, progress, here);
}

static void share_begin(struct share *sh, uint32_t pass)
{
        uint32_t full_pass = payload_full_pass(&state);

        sh->pass = pass;
        sh->window_bytes = payload_window(&state, pass);
        sh->old_pass = payload_content(&state, pass - 1, 0);
        sh->old_window_bytes = payload_window(&state, pass - 1);
        sh->writing = state.mode == PAYLOAD_RW || pass <= full_pass;
}

static void share_run(struct share *sh)
{
        uint64_t step_bytes = state.cpus * PAYLOAD_STRIPE_BYTES;
        uint64_t stripe = sh->cpu * PAYLOAD_STRIPE_BYTES;

        for (; stripe < sh->window_bytes; stripe += step_bytes) {
                uint64_t end = stripe + PAYLOAD_STRIPE_BYTES;
                uint64_t offset;

                if (end > sh->window_bytes)
                        end = sh->window_bytes;
                for (offset = stripe; offset < end;
                     offset += PAYLOAD_PAGE_BYTES) {
                        page_step(sh, offset);
                        sh->done_bytes += PAYLOAD_PAGE_BYTES;
                        gaps_page(sh->cpu);
                        look_around(sh->cpu);
                        throttle(sh);
                }
        }
        store64(&state.cpu[sh->cpu].progress,
                payload_progress(sh->pass, PAYLOAD_LINE_DONE));
}

/* vCPU 0: opens the pass, and closes it when every CPU is through. */
static void pass_open(uint32_t pass)
{
        store64(&state.window_bytes, payload_window(&state, pass));
        store64(&state.pass, pass);
}

static void pass_close(uint32_t pass)
{
        uint64_t done = payload_progress(pass, PAYLOAD_LINE_DONE);
        unsigned cpu;

        for (cpu = 1; cpu < state.cpus; cpu++)
                while (load64(&state.cpu[cpu].progress) != done)
                        wait_a_little(0);
        store64(&state.verified, pass);
        put_text("verified PASS ");
        put_dec(pass);
        put_line_end();
        if (pass != state.passes)
                return;
        put_text("done PASS ");
        put_dec(pass);
        put_line_end();
        store32(&state.phase, PAYLOAD_DONE);
        power_off();
}

void work(unsigned cpu)
{
        struct share share = { .cpu = cpu };
        uint32_t pass;

        if (cpu == 0) {
                shared.first_tick = load64(&state.tick);
                shared.printed_tick = shared.first_tick;
        }
        for (pass = 1;; pass++) {
                if (cpu == 0)
                        pass_open(pass);
                while (load64(&state.pass) < pass)
                        wait_a_little(cpu);
                share_begin(&share, pass);
                share_run(&share);
                if (cpu == 0)
                        pass_close(pass);
        }
}
