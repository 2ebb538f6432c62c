/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram.h"

#include <errno.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "common/check.h"
#include "common/size.h"

/* Both ends of every mapping: what a huge page needs, and what keeps one
 * UFFDIO_COPY inside one userfaultfd. */
#define RAM_ALIGN RAM_HUGE_BYTES

static_assert(RAM_LOW_END_GPA % RAM_ALIGN == 0 && RAM_HIGH_GPA % RAM_ALIGN == 0,
              "slots start aligned");

int ram_check_host(uint64_t bytes, struct err *e)
{
        struct sysinfo host;
        char want[SIZE_TEXT_MAX], has[SIZE_TEXT_MAX];

        if (sysinfo(&host) < 0)
                return err_set(e, errno, "sysinfo");

        uint64_t host_bytes = (uint64_t)(host.totalram + host.totalswap) * host.mem_unit;

        if (bytes > host_bytes)
                return err_msg(e, ENOMEM, "the guest wants %s of memory and this host has %s with "
                               "swap: give it less with --memory or add swap",
                               size_text(bytes, want), size_text(host_bytes, has));
        return 0;
}

int ram_init(struct ram *ram, uint64_t bytes, struct err *e)
{
        char is[SIZE_TEXT_MAX], min[SIZE_TEXT_MAX], max[SIZE_TEXT_MAX];

        if (bytes < RAM_BYTES_MIN || bytes > RAM_BYTES_MAX)
                return err_msg(e, ERANGE, "guest memory of %s is not between %s and %s",
                               size_text(bytes, is), size_text(RAM_BYTES_MIN, min),
                               size_text(RAM_BYTES_MAX, max));
        if (!IS_ALIGNED(bytes, RAM_ALIGN))
                return err_msg(e, EINVAL, "guest memory of %llu bytes is not a multiple of 2 MiB",
                               (unsigned long long)bytes);

        uint64_t low_bytes = MIN(bytes, RAM_LOW_END_GPA);

        *ram = (struct ram){ .bytes = bytes, .nslots = 1 };
        ram->slots[0] = (struct ram_slot){ .gpa = 0, .bytes = low_bytes };
        if (bytes > low_bytes) {
                ram->slots[1] = (struct ram_slot){ .gpa = RAM_HIGH_GPA,
                                                   .bytes = bytes - low_bytes };
                ram->nslots = 2;
        }
        return 0;
}

uint64_t ram_end_gpa(const struct ram *ram)
{
        const struct ram_slot *last = &ram->slots[ram->nslots - 1];

        return last->gpa + last->bytes;
}

/* Address space for a slot, 2 MiB aligned: maps more and gives the ends back. */
static uint8_t *reserve_aligned(uint64_t bytes)
{
        uint8_t *all = mmap(NULL, bytes + RAM_ALIGN, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (all == MAP_FAILED)
                return NULL;

        size_t head_bytes = -(uintptr_t)all & (RAM_ALIGN - 1);
        uint8_t *start = all + head_bytes;

        if (head_bytes)
                munmap(all, head_bytes);
        munmap(start + bytes, RAM_ALIGN - head_bytes);
        return start;
}

int ram_reserve(struct ram *ram, struct err *e)
{
        for (unsigned i = 0; i < ram->nslots; i++) {
                struct ram_slot *slot = &ram->slots[i];
                char size[SIZE_TEXT_MAX];

                ASSERT(!slot->hva);
                slot->hva = reserve_aligned(slot->bytes);
                if (!slot->hva)
                        return err_set(e, errno, "reserve %s of address space",
                                       size_text(slot->bytes, size));
        }
        return 0;
}

static int map_error(const struct ram_slot *slot, int flags, struct err *e)
{
        char size[SIZE_TEXT_MAX];

        if (flags & MAP_HUGETLB)
                return err_set(e, errno, "map %s of guest memory in pages of 2 MiB: 'sysctl "
                               "vm.nr_hugepages' must leave %llu of them free",
                               size_text(slot->bytes, size),
                               (unsigned long long)(slot->bytes / RAM_HUGE_BYTES));
        return err_set(e, errno, "map %s of guest memory", size_text(slot->bytes, size));
}

/* flags: those that tell what is mapped; fd -1: anonymous */
static int map_slot(struct ram_slot *slot, int fd, int flags, int prot, struct err *e)
{
        off_t offset = fd < 0 ? 0 : (off_t)slot->gpa;

        if (!slot->hva)
                slot->hva = reserve_aligned(slot->bytes);
        if (!slot->hva ||
            mmap(slot->hva, slot->bytes, prot, MAP_PRIVATE | MAP_FIXED | flags, fd, offset) ==
                    MAP_FAILED)
                return map_error(slot, flags, e);

        /* a forked child would fill holes of the image cache with zeros (INV-HOLE) */
        if (madvise(slot->hva, slot->bytes, MADV_DONTFORK) < 0 ||
            madvise(slot->hva, slot->bytes, MADV_DONTDUMP) < 0)
                return err_set(e, errno, "madvise guest memory");
        return 0;
}

int ram_map_anonymous(struct ram *ram, bool prot_none, enum ram_pages pages, struct err *e)
{
        int prot = prot_none ? PROT_NONE : PROT_READ | PROT_WRITE;
        int flags = MAP_ANONYMOUS |
                    (pages == RAM_HUGETLB ? MAP_HUGETLB | MAP_HUGE_2MB : MAP_NORESERVE);

        ram->hugetlb = pages == RAM_HUGETLB;
        ram->of_file = false;
        for (unsigned i = 0; i < ram->nslots; i++) {
                struct ram_slot *slot = &ram->slots[i];
                int rc = map_slot(slot, -1, flags, prot, e);

                if (rc < 0) {
                        ram_unmap(ram);
                        return rc;
                }
                /* only an optimisation; a kernel built without THP says EINVAL */
                if (pages == RAM_THP)
                        (void)madvise(slot->hva, slot->bytes, MADV_HUGEPAGE);
        }
        return 0;
}

int ram_map_cache(struct ram *ram, int cache_fd, struct err *e)
{
        ASSERT(cache_fd >= 0);
        ram->of_file = true;
        for (unsigned i = 0; i < ram->nslots; i++) {
                int rc = map_slot(&ram->slots[i], cache_fd, MAP_NORESERVE, PROT_NONE, e);

                if (rc < 0) {
                        ram_unmap(ram);
                        return err_in(e, rc, "shared memory");
                }
        }
        return 0;
}

int ram_unlock(struct ram *ram, struct err *e)
{
        for (unsigned i = 0; i < ram->nslots; i++) {
                ASSERT(ram->slots[i].hva);
                if (mprotect(ram->slots[i].hva, ram->slots[i].bytes, PROT_READ | PROT_WRITE) < 0)
                        return err_set(e, errno, "mprotect guest memory");
        }
        return 0;
}

void ram_unmap(struct ram *ram)
{
        for (unsigned i = 0; i < ram->nslots; i++) {
                if (ram->slots[i].hva)
                        munmap(ram->slots[i].hva, ram->slots[i].bytes);
                ram->slots[i].hva = NULL;
        }
}

int ram_empty(struct ram *ram, struct err *e)
{
        for (unsigned i = 0; i < ram->nslots; i++) {
                struct ram_slot *slot = &ram->slots[i];

                ASSERT(slot->hva);
                if (mmap(slot->hva, slot->bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
                    MAP_FAILED)
                        return err_set(e, errno, "give guest memory back");
        }
        ram->of_file = ram->hugetlb = false;
        return 0;
}

void *ram_at(const struct ram *ram, uint64_t gpa, uint64_t bytes)
{
        for (unsigned i = 0; i < ram->nslots; i++) {
                const struct ram_slot *slot = &ram->slots[i];

                if (slot->hva && gpa >= slot->gpa && bytes <= slot->bytes &&
                    gpa - slot->gpa <= slot->bytes - bytes)
                        return slot->hva + (gpa - slot->gpa);
        }
        return NULL;
}
