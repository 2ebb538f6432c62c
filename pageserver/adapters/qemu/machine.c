/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/machine.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* where x86 machines go on above the hole for devices */
#define HIGH_GPA (4 * GIB)
/* other blocks: on a boundary of the largest clusters, and of usual huge pages */
#define AUX_ALIGN (2 * MIB)

/* ---- the rules ----------------------------------------------------------- */

/* RAM begins at base. If it has whole bytes or more it is in two pieces: low bytes there,
 * the rest from HIGH_GPA on. So do hw/i386/pc_piix.c, pc_q35.c, microvm.c, hw/arm/virt.c
 * and so on in QEMU. */
static const struct rule {
        const char *machine;            /* the beginning of its name; the first one that fits */
        const char *ram;                /* the block, unless the user gave it a name */
        uint64_t base_gpa;
        uint64_t whole;
        uint64_t low;
} rules[] = {
        { "pc-i440fx-1.", "pc.ram", 0, 0xe0000000, 0xe0000000 },        /* no gigabyte_align */
        { "pc-i440fx", "pc.ram", 0, 0xe0000000, 0xc0000000 },
        { "pc-q35", "pc.ram", 0, 0xb0000000, 0x80000000 },
        { "microvm", "microvm.ram", 0, 0xc0000000, 0xc0000000 },
        { "virt-", "mach-virt.ram", 0x40000000, UINT64_MAX, UINT64_MAX },
        { "virt", "riscv_virt_board.ram", 0x80000000, UINT64_MAX, UINT64_MAX },
        { "pseries", "ppc_spapr.ram", 0, UINT64_MAX, UINT64_MAX },
        { "s390-ccw-virtio", "s390.ram", 0, UINT64_MAX, UINT64_MAX },
};

/* of a machine that we do not know */
static const struct rule plain = { "", "", 0, UINT64_MAX, UINT64_MAX };

static bool begins(const char *text, const char *with)
{
        return strncmp(text, with, strlen(with)) == 0;
}

/* A machine type that does not say its name still names its RAM. */
static const struct rule *find_rule(const char *machine, const struct qemu_blocks *b)
{
        for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
                if (machine[0] ? begins(machine, rules[i].machine)
                               : qemu_blocks_find(b, rules[i].ram) >= 0)
                        return &rules[i];
        }
        return &plain;
}

/* ---- which blocks are RAM ------------------------------------------------ */

/* QEMU names what devices own by path, or with a dot: "0000:00:02.0/vga.vram",
 * "/rom@etc/acpi/tables", "pc.bios", "system.flash0". Ids of users' memory backends
 * have none of that; those of libvirt's plugged memory begin as below. */
static bool is_backend(const char *name)
{
        static const char *const plugged[] = { "memdimm", "memnvdimm", "memvirtiomem",
                                               "memvirtiopmem", "dimm", "nvdimm" };

        if (begins(name, "/objects/"))          /* machine types before 4.1 */
                name += strlen("/objects/");
        for (size_t i = 0; i < ARRAY_SIZE(plugged); i++) {
                if (begins(name, plugged[i]))
                        return false;
        }
        return !strpbrk(name, "/:.@");
}

/* "ram-node2" before "ram-node10" */
static int compare_names(const char *a, const char *b)
{
        while (*a && *b) {
                if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
                        unsigned long long x = strtoull(a, (char **)&a, 10);
                        unsigned long long y = strtoull(b, (char **)&b, 10);

                        if (x != y)
                                return x < y ? -1 : 1;
                } else if (*a != *b) {
                        break;
                } else {
                        a++;
                        b++;
                }
        }
        return (unsigned char)*a - (unsigned char)*b;
}

static bool is_mapped(const struct qemu_hints *hints, const char *name)
{
        return hints->map && named_find(hints->map, name);
}

static unsigned largest(const struct qemu_blocks *b)
{
        unsigned found = 0;

        for (unsigned i = 1; i < b->n; i++) {
                if (b->at[i].bytes > b->at[found].bytes)
                        found = i;
        }
        return found;
}

/* Blocks that are the machine's RAM one behind the other; those that the user placed are
 * not among them. With -numa each node has one. */
static size_t main_blocks(const struct rule *rule, const struct qemu_hints *hints,
                          const struct qemu_blocks *b, unsigned ret[QEMU_BLOCKS_MAX])
{
        int named = qemu_blocks_find(b, rule->ram);
        size_t n = 0;

        if (named >= 0) {
                ret[0] = (unsigned)named;
                return !is_mapped(hints, rule->ram);
        }
        for (unsigned i = 0; i < b->n; i++) {
                size_t k = n;

                if (!is_backend(b->at[i].name) || is_mapped(hints, b->at[i].name))
                        continue;
                for (; k > 0 && compare_names(b->at[ret[k - 1]].name, b->at[i].name) > 0; k--)
                        ret[k] = ret[k - 1];
                ret[k] = i;
                n++;
        }
        if (n == 0 && !(hints->map && hints->map->n)) {         /* nothing we know */
                ret[0] = largest(b);
                n = 1;
        }
        return n;
}

/* ---- placing ------------------------------------------------------------- */

static void add_extent(struct qemu_block *block, uint64_t gpa, uint64_t bytes)
{
        uint64_t at = 0;

        if (bytes == 0)
                return;
        ASSERT(block->n_extents < QEMU_EXTENTS_MAX);
        if (block->n_extents > 0) {
                const struct qemu_extent *last = &block->extents[block->n_extents - 1];

                at = last->at + last->bytes;
        }
        block->extents[block->n_extents++] = (struct qemu_extent){ at, gpa, bytes };
}

/* RAM is the blocks one behind the other, and cut after the first low bytes. */
static void place_ram(const struct rule *rule, uint64_t low, struct qemu_blocks *b,
                      const unsigned *main, size_t n)
{
        uint64_t done = 0;

        for (size_t i = 0; i < n; i++) {
                struct qemu_block *block = &b->at[main[i]];
                uint64_t below = MIN(block->bytes, low - MIN(done, low));

                add_extent(block, rule->base_gpa + done, below);
                add_extent(block, HIGH_GPA + (MAX(done, low) - low), block->bytes - below);
                done += block->bytes;
        }
}

static int place_mapped(const struct named_list *map, struct qemu_blocks *b, struct err *e)
{
        for (size_t i = 0; map && i < map->n; i++) {
                const struct named *m = &map->at[i];
                int at = qemu_blocks_find(b, m->name);

                if (at < 0)
                        return err_msg(e, EINVAL, "--map %s: the machine has no RAM block of that "
                                       "name", m->name);
                if (m->value > QS_DISK_BYTES_MAX)
                        return err_msg(e, EINVAL, "--map %s: an image ends at 64 TiB", m->name);
                add_extent(&b->at[at], m->value, b->at[at].bytes);
        }
        return 0;
}

static uint64_t end_gpa(const struct qemu_blocks *b)
{
        uint64_t end = 0;

        for (size_t i = 0; i < b->n; i++) {
                for (size_t k = 0; k < b->at[i].n_extents; k++)
                        end = MAX(end, b->at[i].extents[k].gpa + b->at[i].extents[k].bytes);
        }
        return end;
}

/* What has no place yet; the end is rounded up, so that the image is as long when QEMU
 * has made a ROM a bit larger. */
static void place_rest(struct qemu_blocks *b)
{
        uint64_t gpa = ALIGN_UP(end_gpa(b), GIB);

        for (size_t i = 0; i < b->n; i++) {
                struct qemu_block *block = &b->at[i];

                if (block->n_extents > 0)
                        continue;
                add_extent(block, gpa, block->bytes);
                gpa = ALIGN_UP(gpa + block->bytes, AUX_ALIGN);
        }
        b->disk_bytes = ALIGN_UP(end_gpa(b), AUX_ALIGN);
}

/* No sum below can be too large for its type then. */
static int check_sum(const struct qemu_blocks *b, struct err *e)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < b->n; i++) {
                if (b->at[i].bytes > QS_DISK_BYTES_MAX - sum)
                        return err_msg(e, EINVAL, "the machine has more than 64 TiB of memory");
                sum += b->at[i].bytes;
        }
        return 0;
}

static int place_main(const struct rule *rule, const struct qemu_hints *hints,
                      struct qemu_blocks *b, struct err *e)
{
        unsigned main[QEMU_BLOCKS_MAX];
        size_t n = main_blocks(rule, hints, b, main);
        uint64_t ram = 0;

        for (size_t i = 0; i < n; i++)
                ram += b->at[main[i]].bytes;

        uint64_t low = ram >= rule->whole ? rule->low : ram;

        if (hints->ram_split)
                low = MIN(ram, hints->ram_split);
        if (low < ram && rule->base_gpa + low > HIGH_GPA)
                return err_msg(e, EINVAL, "--ram-split is where RAM below 4 GiB ends: it cannot be "
                               "larger");
        place_ram(rule, low, b, main, n);
        return 0;
}

int qemu_machine_place(const char *machine, const struct qemu_hints *hints,
                       struct qemu_blocks *b, struct err *e)
{
        int rc = check_sum(b, e);

        ASSERT(b->n > 0);
        for (size_t i = 0; i < b->n; i++)
                b->at[i].n_extents = 0;
        if (rc == 0)
                rc = qemu_machine_pages(hints->page_size, b, e);
        if (rc == 0)
                rc = place_mapped(hints->map, b, e);
        if (rc == 0)
                rc = place_main(find_rule(machine, b), hints, b, e);
        if (rc == 0)
                place_rest(b);
        return rc;
}

int qemu_machine_pages(const struct named_list *page_size, struct qemu_blocks *b,
                       struct err *e)
{
        for (size_t i = 0; page_size && i < page_size->n; i++) {
                const struct named *p = &page_size->at[i];
                int at = qemu_blocks_find(b, p->name);

                if (at < 0)
                        return err_msg(e, EINVAL, "--page-size %s: the machine has no RAM block of "
                                       "that name", p->name);
                if (p->value < QEMU_PAGE_MIN || p->value > QEMU_HOST_PAGE_BYTES_MAX ||
                    (p->value & (p->value - 1)) != 0)
                        return err_msg(e, EINVAL, "--page-size %s: pages are a power of two from "
                                       "4K to 1G", p->name);
                b->at[at].page_size = (uint32_t)p->value;
        }
        return 0;
}
