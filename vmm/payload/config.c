/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - from what the monitor says to the constant part of the state.
 *
 * start_info leads to the memory map and the command line. Usable RAM from
 * PAYLOAD_ARRAY_GPA on becomes state.ranges; pages that hold start_info and
 * what it points to are cut out, since they are not zero. RAM above 4 GiB gets
 * its page tables here.
 */
#include "vmm/payload/guest.h"

#define START_INFO_MAGIC        0x336ec578
#define MEMMAP_RAM              1
#define CMDLINE_BYTES_MAX       4096
#define MODULES_MAX             8

#define DEFAULT_START_BYTES     (16ull << 20)
#define MAPPED_GPA              (4ull << 30)    /* by tables.S */
#define GIB                     (1ull << 30)

struct start_info {
        uint32_t magic;
        uint32_t version;
        uint32_t flags;
        uint32_t nr_modules;
        uint64_t modlist_gpa;
        uint64_t cmdline_gpa;
        uint64_t rsdp_gpa;
        uint64_t memmap_gpa;
        uint32_t memmap_entries;
        uint32_t reserved;
};

struct modlist_entry {
        uint64_t gpa;
        uint64_t len_bytes;
        uint64_t cmdline_gpa;
        uint64_t reserved;
};

struct memmap_entry {
        uint64_t gpa;
        uint64_t len_bytes;
        uint32_t type;
        uint32_t reserved;
};

/* Page directories of PAYLOAD_GPA_END beyond the first 4 GiB. */
static uint64_t high_pd[PAYLOAD_GPA_END / GIB - 4][512]
        __attribute__((aligned(4096)));

static uint64_t ram_bytes;

static void *at_gpa(uint64_t gpa)
{
        return (void *)(uintptr_t)gpa;
}

static uint64_t text_len(const char *text)
{
        uint64_t len = 0;

        while (len < CMDLINE_BYTES_MAX && text[len])
                len++;
        return len;
}

static void range_add(uint64_t first_gpa, uint64_t end_gpa)
{
        struct payload_range *r = &state.ranges[state.ranges_count];

        first_gpa = (first_gpa + PAYLOAD_PAGE_BYTES - 1) & -PAYLOAD_PAGE_BYTES;
        end_gpa &= -PAYLOAD_PAGE_BYTES;
        if (first_gpa < PAYLOAD_ARRAY_GPA)
                first_gpa = PAYLOAD_ARRAY_GPA;
        if (end_gpa > PAYLOAD_GPA_END)
                end_gpa = PAYLOAD_GPA_END;
        if (first_gpa >= end_gpa || state.ranges_count == PAYLOAD_RANGES_MAX)
                return;
        r->gpa = first_gpa;
        r->len_bytes = end_gpa - first_gpa;
        state.ranges_count++;
}

/* Takes the pages of [gpa, gpa + len_bytes) out of the ranges. */
static void range_cut(uint64_t gpa, uint64_t len_bytes)
{
        uint64_t first_gpa = gpa & -PAYLOAD_PAGE_BYTES;
        uint64_t end_gpa = (gpa + len_bytes + PAYLOAD_PAGE_BYTES - 1) &
                           -PAYLOAD_PAGE_BYTES;
        unsigned i, count = state.ranges_count;

        if (len_bytes == 0)
                return;
        for (i = 0; i < count; i++) {
                struct payload_range *r = &state.ranges[i];
                uint64_t range_end_gpa = r->gpa + r->len_bytes;

                if (end_gpa <= r->gpa || first_gpa >= range_end_gpa)
                        continue;
                range_add(end_gpa, range_end_gpa);
                r->len_bytes = first_gpa > r->gpa ? first_gpa - r->gpa : 0;
        }
}

/* Page tables for a range above 4 GiB, whole 2 MiB pages around it. */
static void range_map(uint64_t first_gpa, uint64_t end_gpa)
{
        uint64_t *pdpt = at_gpa(LAYOUT_PDPT);
        uint64_t gpa = first_gpa & -(uint64_t)LARGE_PAGE_BYTES;

        for (; gpa < end_gpa; gpa += LARGE_PAGE_BYTES) {
                uint64_t *pd;

                if (gpa < MAPPED_GPA)
                        continue;
                pd = high_pd[gpa / GIB - MAPPED_GPA / GIB];
                pd[gpa / LARGE_PAGE_BYTES % 512] = gpa | PTE_LARGE;
                pdpt[gpa / GIB] = (uintptr_t)pd | PTE_TABLE;
        }
}

static void ranges_read(const struct start_info *info)
{
        const struct memmap_entry *map = at_gpa(info->memmap_gpa);
        const struct modlist_entry *module = at_gpa(info->modlist_gpa);
        uint32_t i;

        for (i = 0; i < info->memmap_entries; i++) {
                if (map[i].type != MEMMAP_RAM)
                        continue;
                ram_bytes += map[i].len_bytes;
                range_add(map[i].gpa, map[i].gpa + map[i].len_bytes);
        }
        range_cut((uintptr_t)info, sizeof(*info));
        range_cut(info->memmap_gpa, info->memmap_entries * sizeof(*map));
        range_cut(info->cmdline_gpa,
                  text_len(at_gpa(info->cmdline_gpa)) + 1);
        range_cut(info->modlist_gpa, info->nr_modules * sizeof(*module));
        for (i = 0; i < info->nr_modules && i < MODULES_MAX; i++)
                range_cut(module[i].gpa, module[i].len_bytes);
        for (i = 0; i < state.ranges_count; i++) {
                struct payload_range *r = &state.ranges[i];

                range_map(r->gpa, r->gpa + r->len_bytes);
                state.array_bytes += r->len_bytes;
        }
}

uint64_t config_ram_mib(void)
{
        return (ram_bytes + (1 << 20) - 1) >> 20;
}

/* If *text begins with `name`, moves behind it. */
static bool take_name(const char **text, const char *name)
{
        const char *t = *text;

        while (*name)
                if (*t++ != *name++)
                        return false;
        *text = t;
        return true;
}

static uint64_t take_size(const char **text)
{
        uint64_t value = 0;

        while (**text >= '0' && **text <= '9')
                value = value * 10 + (*(*text)++ - '0');
        switch (**text) {
        case 'G': case 'g':
                return value << 30;
        case 'M': case 'm':
                return value << 20;
        case 'K': case 'k':
                return value << 10;
        default:
                return value;
        }
}

/* Reads one word of the command line. */
static void option_read(const char *t, uint64_t *range_bytes, unsigned *cpus)
{
        if (take_name(&t, "range="))
                *range_bytes = take_size(&t);
        else if (take_name(&t, "start="))
                state.start_bytes = take_size(&t);
        else if (take_name(&t, "rate="))
                state.rate = take_size(&t);
        else if (take_name(&t, "passes="))
                state.passes = take_size(&t);
        else if (take_name(&t, "cpus="))
                *cpus = take_size(&t);
        else if (take_name(&t, "gaps"))
                state.gaps = 1;
        else if (take_name(&t, "mode=ro"))
                state.mode = PAYLOAD_RO;
        else if (take_name(&t, "pattern=compressible"))
                state.pattern = PAYLOAD_COMPRESSIBLE;
        else if (take_name(&t, "pattern=random"))
                state.pattern = PAYLOAD_RANDOM;
}

static uint64_t clip(uint64_t value, uint64_t low, uint64_t high)
{
        return value < low ? low : value > high ? high : value;
}

/* Returns how many CPUs are asked for. */
static unsigned options_read(const char *cmdline)
{
        uint64_t range_bytes = UINT64_MAX;
        unsigned cpus = 1;

        state.start_bytes = DEFAULT_START_BYTES;
        while (*cmdline) {
                option_read(cmdline, &range_bytes, &cpus);
                while (*cmdline && *cmdline != ' ')
                        cmdline++;
                while (*cmdline == ' ')
                        cmdline++;
        }
        range_bytes &= -PAYLOAD_PAGE_BYTES;
        state.limit_bytes = clip(range_bytes, PAYLOAD_PAGE_BYTES,
                                 state.array_bytes);
        state.start_bytes = clip(state.start_bytes &
                                 -PAYLOAD_PAGE_BYTES,
                                 PAYLOAD_PAGE_BYTES, state.limit_bytes);
        return clip(cpus, 1, PAYLOAD_CPUS_MAX);
}

unsigned config_read(uint64_t start_info_gpa)
{
        const struct start_info *info = at_gpa(start_info_gpa);

        if (info->magic == START_INFO_MAGIC && info->version >= 1)
                ranges_read(info);
        if (state.array_bytes == 0) {
                put_text("payload: no RAM above 2 MiB in the memory map");
                put_line_end();
                cpu_halt();
        }
        return options_read(info->cmdline_gpa ? at_gpa(info->cmdline_gpa) : "");
}
