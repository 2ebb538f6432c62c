/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/giveback.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/check.h"
#include "common/lock.h"
#include "vmm/memmap.h"

/* Theory of operation
 *
 * A page goes back by MADV_DONTNEED: the kernel forgets the guest's own copy of it, and at the
 * next touch the page shows what RAM is mapped from. After a cold boot and in RAM that was
 * loaded whole that is zeros; of a private mapping of an image cache or of a clone's memfd it
 * is what the cache or the memfd has there; in the copy lane the page is missing, and is served
 * again. A guest must not mind: only one with VIRTIO_BALLOON_F_PAGE_POISON might find what it
 * did not expect (virtio 1.2, 5.5.6.1 and 5.5.6.7), and that is not offered.
 *
 * INV-GIVEBACK: what a page shows that was given back is what the parent has there (vm.h),
 *               zeros without one, as all pages do that are not the guest's own (ownmap.h).
 *               So whoever saves, clones or rolls back later need not know of it. That is why
 *               nothing else is done: zeros, be it by a mapping over the page or by
 *               UFFD_EVENT_REMOVE, would look like the parent's content to all of them.
 * INV-STAYS:    while somebody looks at which pages are the guest's own, or keeps what they
 *               held at some moment, none ceases to be (INV-MOMENT, INV-OWN). What the guest
 *               gives back meanwhile it is told was taken, and stays: a driver that had to
 *               wait would do so with locks of its guest's memory management held, and pages
 *               that we took later might be in use again.
 *
 * Pages of hugetlbfs do not go back: they were set aside for this guest, and one of them that
 * somebody else got would be missed at the next touch, by a signal that ends the VM.
 *
 * Nothing that the memory map does not call RAM goes back, though the guest could only harm
 * itself: the firmware's tables are there, and pages that the monitor writes to.
 */
#define PAGE_BYTES 4096u
/* Of one call, with the lock held: 2 ms of small pages. Who holds waits for no more, of each
 * thread that gives back. */
#define SLICE_BYTES (32ull << 20)

struct giveback {
        /* constant */
        const struct ram *ram;
        struct memmap map;

        /* Counted up before the lock is asked for: who gives back sees it and leaves the lock
         * alone, so that who holds waits for the slices that are under way, no others. */
        _Atomic unsigned holds;
        struct lock lock;               /* of a slice that goes back */

        _Atomic uint64_t given, deferred, refused;
};

int giveback_new(const struct ram *ram, struct giveback **ret, struct err *e)
{
        struct giveback *g = calloc(1, sizeof(*g));

        if (!g)
                return err_msg(e, ENOMEM, "no memory to take the guest's back");
        g->ram = ram;
        memmap_build(ram, &g->map);
        lock_init(&g->lock);
        *ret = g;
        return 0;
}

void giveback_free(struct giveback *g)
{
        if (!g)
                return;
        lock_fini(&g->lock);
        free(g);
}

/* One slice of RAM. */
static uint64_t give_locked(struct giveback *g, uint64_t gpa, uint64_t bytes) REQUIRES(g->lock)
{
        void *hva = ram_at(g->ram, gpa, bytes);

        ASSERT(IS_ALIGNED(gpa | bytes, PAGE_BYTES));
        if (g->holds) {
                g->deferred += bytes;
                return 0;
        }
        /* no RAM: the VM is ending */
        if (!hva || g->ram->hugetlb || madvise(hva, bytes, MADV_DONTNEED) < 0) {
                g->refused += bytes;
                return 0;
        }
        g->given += bytes;
        return bytes;
}

static uint64_t give(struct giveback *g, uint64_t gpa, uint64_t end_gpa)
{
        uint64_t given = 0;

        for (uint64_t next; gpa < end_gpa; gpa = next) {
                next = MIN(ALIGN_DOWN(gpa, SLICE_BYTES) + SLICE_BYTES, end_gpa);
                if (g->holds) {
                        g->deferred += next - gpa;
                        continue;
                }
                lock_acquire(&g->lock);
                given += give_locked(g, gpa, next - gpa);
                lock_release(&g->lock);
        }
        return given;
}

uint64_t giveback_pages(struct giveback *g, uint64_t gpa, uint64_t bytes)
{
        uint64_t end_gpa = MIN(bytes, UINT64_MAX - gpa) + gpa;
        uint64_t given = 0;
        uint64_t ours = 0;

        for (unsigned i = 0; i < g->map.nranges; i++) {
                const struct memmap_range *r = &g->map.ranges[i];
                uint64_t from = ALIGN_UP(MAX(gpa, r->gpa), PAGE_BYTES);
                uint64_t to = ALIGN_DOWN(MIN(end_gpa, r->gpa + r->bytes), PAGE_BYTES);

                if (r->type != MEMMAP_RAM || from >= to)
                        continue;
                given += give(g, from, to);
                ours += to - from;
        }
        if (bytes > ours)
                g->refused += bytes - ours;
        return given;
}

void giveback_hold(struct giveback *g)
{
        if (!g)
                return;
        g->holds++;
        lock_acquire(&g->lock);         /* INV-STAYS: what is under way is done */
        lock_release(&g->lock);
}

void giveback_release(struct giveback *g)
{
        if (!g)
                return;
        ASSERT(g->holds > 0);
        g->holds--;
}

void giveback_stats(struct giveback *g, struct giveback_stats *ret)
{
        *ret = (struct giveback_stats){ g->given, g->deferred, g->refused };
}
