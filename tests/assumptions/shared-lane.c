/* SPDX-License-Identifier: Apache-2.0 */
/* What the shared lane rests on: how a private mapping of a memfd behaves when the
 * memfd is filled behind it, and who may do what with a read-only descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pageserver/uffd.h"
#include "tests/assumptions/uffd-kit.h"

/* the fill of INV-WHOLE: pwrite does not wake, UFFDIO_WAKE does */
static void pwrite_then_wake(void)
{
        struct kit k;
        struct kit_touch t;

        kit_open(&k);
        kit_touch_start(&t, k.map + KIT_PAGE);
        kit_await_fault(&k, k.map + KIT_PAGE);
        kit_write_page(&k, 1, 0x5a);
        HOLDS(kit_touch_sleeps(&t));
        HOLDS(uffd_wake(k.uffd, (uintptr_t)k.map + KIT_PAGE, KIT_PAGE) == UFFD_DONE);
        HOLDS(kit_touch_join(&t) == 0x5a);

        /* a page that is in the memfd raises no fault at all */
        kit_write_page(&k, 2, 0x77);
        kit_touch_start(&t, k.map + 2 * KIT_PAGE);
        HOLDS(kit_touch_join(&t) == 0x77);
        kit_close(&k);
}

/* a thread that is woken without a page faults anew, with a new message */
static void wake_without_a_page(void)
{
        struct kit k;
        struct kit_touch t;

        kit_open(&k);
        kit_touch_start(&t, k.map);
        kit_await_fault(&k, k.map);
        HOLDS(uffd_wake(k.uffd, (uintptr_t)k.map, KIT_BYTES) == UFFD_DONE);
        kit_await_fault(&k, k.map);
        kit_write_page(&k, 0, 9);
        HOLDS(uffd_wake(k.uffd, (uintptr_t)k.map, KIT_BYTES) == UFFD_DONE);
        HOLDS(kit_touch_join(&t) == 9);
        kit_close(&k);
}

/* zero pages cost the cache nothing and no other clone sees them */
static void zeropage_leaves_the_hole(void)
{
        struct kit k;
        struct kit_touch t;

        kit_open(&k);
        kit_touch_start(&t, k.map);
        kit_await_fault(&k, k.map);
        HOLDS(uffd_zero(k.uffd, (uintptr_t)k.map, 4 * KIT_PAGE) == UFFD_DONE);
        HOLDS(kit_touch_join(&t) == 0);
        HOLDS(kit_memfd_pages(&k) == 0);
        k.map[0] = 3;                           /* a private copy */
        HOLDS(kit_memfd_pages(&k) == 0);
        HOLDS(uffd_zero(k.uffd, (uintptr_t)k.map, 4 * KIT_PAGE) == UFFD_DONE);
        HOLDS(k.map[0] == 3);                   /* giving it again does no harm */
        kit_close(&k);
}

/* rewriting a page with pwrite reaches those who have it mapped, but no private copy */
static void rewriting_in_place(void)
{
        struct kit k;

        kit_open(&k);
        kit_write_page(&k, 0, 1);
        kit_write_page(&k, 1, 1);
        HOLDS(k.map[0] == 1);
        k.map[KIT_PAGE] = 7;
        kit_write_page(&k, 0, 2);
        kit_write_page(&k, 1, 2);
        HOLDS(k.map[0] == 2);
        HOLDS(k.map[KIT_PAGE] == 7 && k.map[KIT_PAGE + 1] == 1);
        kit_close(&k);
}

/* INV-HOLE: a touch through an unregistered mapping fills the hole for everybody */
static void unregistered_touch_fills_the_hole(void)
{
        struct kit k;

        kit_open(&k);

        const volatile char *other = mmap(NULL, KIT_BYTES, PROT_READ, MAP_PRIVATE, k.memfd, 0);

        HOLDS(other != MAP_FAILED && other[5 * KIT_PAGE] == 0);
        HOLDS(kit_memfd_pages(&k) == 1);
        HOLDS(k.map[5 * KIT_PAGE] == 0);        /* no fault: silently wrong */
        munmap((void *)other, KIT_BYTES);
        kit_close(&k);
}

/* INV-HELD: why nobody may be the last to close */
static void last_close_gives_zeros(void)
{
        struct kit k;

        kit_open(&k);

        int held = dup(k.uffd);
        struct kit_touch t;

        close(k.uffd);
        k.uffd = held;
        kit_touch_start(&t, k.map);
        kit_await_fault(&k, k.map);             /* a duplicate keeps it alive */
        close(held);
        k.uffd = -1;
        HOLDS(kit_touch_join(&t) == 0);         /* zeros, without an error */
        kit_close(&k);
}

/* INV-READONLY */
static void readonly_descriptor(void)
{
        struct kit k;
        char name[64];

        kit_open(&k);
        HOLDS(fchmod(k.memfd, 0600) == 0);
        HOLDS(fcntl(k.memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
        snprintf(name, sizeof(name), "/proc/self/fd/%d", k.memfd);

        int ro = open(name, O_RDONLY | O_CLOEXEC);

        HOLDS(ro >= 0);
        HOLDS(pwrite(ro, "x", 1, 0) < 0 && errno == EBADF);
        HOLDS(mmap(NULL, KIT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED);
        HOLDS(fcntl(ro, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
        HOLDS(fallocate(ro, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, KIT_PAGE) < 0);
        HOLDS(ftruncate(k.memfd, 0) < 0 && ftruncate(k.memfd, 2 * KIT_BYTES) < 0);

        void *shared = mmap(NULL, KIT_BYTES, PROT_READ, MAP_SHARED, ro, 0);

        HOLDS(shared != MAP_FAILED);
        HOLDS(mprotect(shared, KIT_BYTES, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
        munmap(shared, KIT_BYTES);

        char *mine = mmap(NULL, KIT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0);

        HOLDS(mine != MAP_FAILED);
        munmap(mine, KIT_BYTES);
        close(ro);
        kit_close(&k);
}

int main(void)
{
        kit_need_uffd();
        pwrite_then_wake();
        wake_without_a_page();
        zeropage_leaves_the_hole();
        rewriting_in_place();
        unregistered_touch_fills_the_hole();
        last_close_gives_zeros();
        readonly_descriptor();
        return 0;
}
