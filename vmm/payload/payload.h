/* SPDX-License-Identifier: Apache-2.0 */
/* payload.h - the built-in guest: what it needs, what it keeps in RAM.
 *
 * The payload is a freestanding 64-bit program, an ELF64 of one image at
 * 1 MiB with a PVH note. It fills RAM with a pattern that is a function of
 * (guest-physical address, pass), so that a RAM image can be proven to show
 * one instant. This header is shared by the guest and by host tools.
 *
 * Entry state: PVH only (32-bit protected mode, paging off, EBX = address of
 * hvm_start_info; memory map of version 1). The ELF entry is the same address.
 * RAM from PAYLOAD_ARRAY_GPA up must be zero. Needs a LAPIC at 0xfee00000 on a
 * 1 GHz bus and a 16550 at port 0x3f8; 0x8000-0x8fff is its AP trampoline.
 *
 * Options, on the command line, space separated, unknown ones ignored; SIZE
 * and RATE take K, M, G:
 *   range=SIZE   end of the window (default: all of the array)
 *   start=SIZE   window of pass 1 (16M); each pass doubles it up to the end
 *   mode=rw|ro   ro: once a pass has reached the end, only verify
 *   pattern=mixed|compressible|random
 *   rate=RATE    bytes per second of all CPUs together (0: full speed)
 *   passes=N     after N passes power off (0: go on for ever)
 *   cpus=N       1 to 8
 *   gaps         measure how long a CPU stood still; wait awake, never halted
 *
 * Output: `payload: ...` once, `tick N` ten times a second, `verified PASS N`
 * after each pass, `done PASS N` at the end; `CORRUPT gpa= want= got=` or
 * `FAULT vector= ...` once, and then the guest stops for ever. With gaps it is
 * `tick N gap Gus did KKiB in Tus`: since the last such line, T microseconds
 * ago, K KiB were verified (and written), and G is the longest time between two
 * steps of one CPU.
 */
#ifndef VMM_PAYLOAD_PAYLOAD_H
#define VMM_PAYLOAD_PAYLOAD_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define PAYLOAD_STATE_GPA       0x100000u       /* struct payload_state       */
#define PAYLOAD_ARRAY_GPA       0x200000u       /* RAM from here is the array */
#define PAYLOAD_GPA_END         (64ull << 30)   /* RAM beyond is left alone   */

#define PAYLOAD_MAGIC           "SNAPPAYL"
#define PAYLOAD_VERSION         1u

#define PAYLOAD_CPUS_MAX        8u
#define PAYLOAD_RANGES_MAX      32u
#define PAYLOAD_PAGE_BYTES      4096ull
#define PAYLOAD_PAGE_WORDS      (PAYLOAD_PAGE_BYTES / 8)
#define PAYLOAD_LINE_BYTES      64ull
#define PAYLOAD_LINE_WORDS      (PAYLOAD_LINE_BYTES / 8)
#define PAYLOAD_LINE_DONE       UINT32_MAX
#define PAYLOAD_STRIPE_BYTES    (2ull << 20)    /* dealt to the CPUs in turn  */

/* BOOT     the table of ranges is being made; the array is zero
 *          -> RUN      vCPU 0, when every CPU is up
 * RUN      passes run
 *          -> DONE     vCPU 0, after the last pass
 *          -> CORRUPT  the CPU that found the difference, once
 *          -> FAULT    a CPU that took an exception
 * The last three are final; nothing in the array changes any more.          */
enum payload_phase {
        PAYLOAD_BOOT, PAYLOAD_RUN, PAYLOAD_DONE, PAYLOAD_CORRUPT, PAYLOAD_FAULT
};

enum payload_mode { PAYLOAD_RW, PAYLOAD_RO };

/* The last two are also the kinds of payload_page_make(); kind 0 is constant. */
enum payload_pattern {
        PAYLOAD_MIXED, PAYLOAD_COMPRESSIBLE, PAYLOAD_RANDOM
};

struct payload_range {
        uint64_t gpa;
        uint64_t len_bytes;
};

/* One cache line per CPU. See "what a word holds" below. */
struct payload_cpu {
        uint64_t progress;      /* pass << 32 | line being written            */
        uint64_t up;            /* 1 once the CPU runs                        */
        uint64_t unused[6];
};

/* Theory of operation: what a word holds
 *
 * The array is the concatenation of ranges[]; an array offset is a position in
 * it. Stripe n (PAYLOAD_STRIPE_BYTES of array offset) belongs to CPU n % cpus.
 * Only the owner writes it, upwards, and before each line (64 bytes of array
 * offset) stores progress = pass << 32 | line number; PAYLOAD_LINE_DONE when
 * its share of the pass is finished. The next pass begins when `pass` moves,
 * which vCPU 0 does once every CPU is DONE.
 *
 * INV-WORD: in a line before its owner's progress, every word holds pass q; in
 *           a line after it, pass q - 1; in that very line, some first words
 *           hold q and all the others q - 1.
 * INV-ZERO: "holds pass p" means zero where payload_window(p) does not reach
 *           (no earlier one did either), else payload_word() of p; with mode
 *           ro every p after the first full pass is that pass.
 */
struct payload_state {
        char magic[8];
        uint32_t version;
        uint32_t state_bytes;           /* sizeof(struct payload_state)       */
        /* set in BOOT, constant after */
        uint32_t cpus;
        uint32_t mode;                  /* enum payload_mode                  */
        uint32_t pattern;               /* enum payload_pattern               */
        uint32_t ranges_count;
        uint64_t array_bytes;           /* of all ranges together             */
        uint64_t limit_bytes;           /* the window never grows past this   */
        uint64_t start_bytes;           /* window of pass 1                   */
        uint64_t rate;                  /* bytes per second, 0: no limit      */
        uint64_t passes;                /* stop after so many, 0: never       */
        uint64_t gaps;                  /* 1: measured and printed            */
        uint64_t unused0[6];
        /* vCPU 0 */
        uint64_t tick;                  /* written by its timer interrupt     */
        uint64_t pass;                  /* the pass that CPUs may work on     */
        uint64_t window_bytes;          /* payload_window(pass)               */
        uint64_t verified;              /* passes finished by all CPUs        */
        /* any CPU, once */
        uint32_t phase;                 /* enum payload_phase, by exchange    */
        uint32_t unused1;
        uint64_t corrupt_gpa;
        uint64_t corrupt_want;
        uint64_t corrupt_got;
        struct payload_range ranges[PAYLOAD_RANGES_MAX];
        struct payload_cpu cpu[PAYLOAD_CPUS_MAX];
};

static_assert(sizeof(struct payload_cpu) == 64, "one cache line per CPU");
static_assert(offsetof(struct payload_state, tick) == 128, "fixed layout");
static_assert(offsetof(struct payload_state, ranges) == 192, "fixed layout");
static_assert(offsetof(struct payload_state, cpu) == 704, "fixed layout");
static_assert(sizeof(struct payload_state) == 1216, "fixed layout");
static_assert(PAYLOAD_GPA_END / PAYLOAD_LINE_BYTES < PAYLOAD_LINE_DONE,
              "a line number has 32 bits");

static inline uint64_t payload_progress(uint32_t pass, uint32_t line)
{
        return (uint64_t)pass << 32 | line;
}

/* Bytes of the array that pass `pass` covers. */
static inline uint64_t payload_window(const struct payload_state *s,
                                      uint32_t pass)
{
        uint64_t window_bytes = s->start_bytes;

        if (pass == 0)
                return 0;
        while (--pass && window_bytes < s->limit_bytes)
                window_bytes *= 2;
        return window_bytes < s->limit_bytes ? window_bytes : s->limit_bytes;
}

/* The first pass that reaches the end. */
static inline uint32_t payload_full_pass(const struct payload_state *s)
{
        uint32_t pass = 1;

        while (payload_window(s, pass) < s->limit_bytes)
                pass++;
        return pass;
}

/* The pass whose words are at array offset `offset` when `pass` has been there;
 * 0 for a place that is still zero. INV-ZERO */
static inline uint32_t payload_content(const struct payload_state *s,
                                       uint32_t pass, uint64_t offset)
{
        if (offset >= payload_window(s, pass))
                return 0;
        if (s->mode == PAYLOAD_RO && pass > payload_full_pass(s))
                return payload_full_pass(s);
        return pass;
}

static inline uint64_t payload_mix(uint64_t x)
{
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        return x ^ x >> 31;
}

/* What the words of one page are made of: word = seed ^ (noise & mask), with
 * one mask for even words and one for odd ones. */
struct payload_page {
        uint64_t seed;
        uint64_t mask[2];
};

/* constant: one word repeated; compressible: every second word differs in one
 * byte; random: 64 bits of noise. With MIXED, blocks of 64 KiB are of one kind
 * or change from page to page, so that image clusters of all kinds occur. */
static inline struct payload_page
payload_page_make(uint64_t gpa, uint32_t pass, uint32_t pattern)
{
        static const uint64_t masks[3][2] = {
                { 0, 0 }, { 0, 0xff }, { UINT64_MAX, UINT64_MAX },
        };
        struct payload_page page = { 0, { 0, 0 } };
        uint64_t block = payload_mix((gpa >> 16) + 1) & 7;
        unsigned kind = pattern;

        if (pass == 0)
                return page;            /* never reached: all words zero */
        if (pattern == PAYLOAD_MIXED)
                kind = block < 6 ? (unsigned)block / 2
                                 : payload_mix(~(gpa >> 12)) % 3;
        page.seed = payload_mix((gpa >> 12) ^ (uint64_t)pass << 40);
        page.mask[0] = masks[kind][0];
        page.mask[1] = masks[kind][1];
        return page;
}

static inline uint64_t payload_word(const struct payload_page *page,
                                    unsigned word)
{
        uint64_t x = page->seed + word * 0x9e3779b97f4a7c15u;

        x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
        return page->seed ^ ((x ^ x >> 29) & page->mask[word & 1]);
}

/* The linked program as data of the monitor (embed.S). */
extern const unsigned char payload_elf_start[];
extern const unsigned char payload_elf_end[];

#endif
