/* SPDX-License-Identifier: Apache-2.0 */
/* What the copy lane rests on: UFFDIO_COPY into a private mapping of an old cache,
 * its errnos where pages are there already, and ESRCH once a process is gone. */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fdpass.h"
#include "pageserver/uffd.h"
#include "tests/assumptions/uffd-kit.h"

static uint8_t source[KIT_BYTES] __attribute__((aligned(4096)));

/* Returns errno, *ret_copied what the kernel said. */
static int raw_copy(const struct kit *k, unsigned page, unsigned pages, long long *ret_copied)
{
        struct uffdio_copy c = {
                .dst = (uintptr_t)k->map + page * KIT_PAGE, .src = (uintptr_t)source,
                .len = pages * KIT_PAGE,
        };
        int rc = ioctl(k->uffd, UFFDIO_COPY, &c) < 0 ? errno : 0;

        *ret_copied = c.copy;
        return rc;
}

/* over a hole and over a page of the cache alike: a private page, the cache unchanged */
static void copy_into_an_old_cache(void)
{
        struct kit k;
        struct kit_touch t;
        long long copied;
        uint8_t behind[KIT_PAGE];

        memset(source, 0x21, sizeof(source));
        kit_open(&k);
        kit_touch_start(&t, k.map);
        kit_await_fault(&k, k.map);
        kit_write_page(&k, 1, 0x11);            /* now: earlier, fault-around had mapped it */
        HOLDS(raw_copy(&k, 0, 2, &copied) == 0 && copied == 2 * KIT_PAGE);
        HOLDS(kit_touch_join(&t) == 0x21);      /* COPY wakes */
        HOLDS(k.map[KIT_PAGE] == 0x21);
        HOLDS(kit_memfd_pages(&k) == 1);
        HOLDS(pread(k.memfd, behind, sizeof(behind), KIT_PAGE) == sizeof(behind));
        HOLDS(behind[0] == 0x11);
        kit_close(&k);
}

/* uffd.c's loop: EEXIST at the first page, EAGAIN with a count at a later one */
static void pages_that_are_there(void)
{
        struct kit k;
        long long copied;

        memset(source, 0x42, sizeof(source));
        kit_open(&k);
        HOLDS(raw_copy(&k, 3, 1, &copied) == 0);
        k.map[3 * KIT_PAGE] = 0x43;             /* the guest's own */
        HOLDS(raw_copy(&k, 3, 2, &copied) == EEXIST && copied == -EEXIST);
        HOLDS(raw_copy(&k, 0, 8, &copied) == EAGAIN && copied == 3 * KIT_PAGE);
        HOLDS(uffd_copy(k.uffd, (uintptr_t)k.map, source, KIT_BYTES, KIT_PAGE) == UFFD_DONE);
        for (unsigned i = 0; i < KIT_PAGES; i++)
                HOLDS(k.map[i * KIT_PAGE] == (i == 3 ? 0x43 : 0x42));
        kit_close(&k);
}

/* what was thrown away is missing again, and comes anew without an event */
static void dontneed_faults_again(void)
{
        struct kit k;
        struct kit_touch t;
        long long copied;

        memset(source, 0x33, sizeof(source));
        kit_open(&k);
        HOLDS(raw_copy(&k, 0, 1, &copied) == 0);
        HOLDS(madvise(k.map, KIT_PAGE, MADV_DONTNEED) == 0);
        kit_touch_start(&t, k.map);
        kit_await_fault(&k, k.map);
        HOLDS(raw_copy(&k, 0, 1, &copied) == 0);
        HOLDS(kit_touch_join(&t) == 0x33);
        kit_close(&k);
}

/* where nothing is registered any more: GONE, as after the end of the process */
static void unmapped_is_gone(void)
{
        struct kit k;

        kit_open(&k);
        HOLDS(munmap(k.map + KIT_PAGE, KIT_PAGE) == 0);
        HOLDS(uffd_copy(k.uffd, (uintptr_t)k.map + KIT_PAGE, source, KIT_PAGE,
                        KIT_PAGE) == UFFD_GONE);
        HOLDS(uffd_zero(k.uffd, (uintptr_t)k.map + KIT_PAGE, KIT_PAGE) == UFFD_GONE);
        HOLDS(!uffd_memory_gone(k.uffd));
        kit_close(&k);
}

/* the child sends its descriptor, then waits in a fault until it is killed */
static void child(int sock)
{
        struct kit k;

        kit_open(&k);
        HOLDS(fdpass_send(sock, &k.map, sizeof(k.map), &k.uffd, 1) == 0);
        (void)*(volatile char *)k.map;
        _exit(1);
}

static void esrch_after_death(void)
{
        struct kit k = { .memfd = -1 };
        int pair[2];
        size_t n;

        HOLDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);

        pid_t pid = fork();

        HOLDS(pid >= 0);
        if (pid == 0)
                child(pair[1]);
        HOLDS(fdpass_recv(pair[0], &k.map, sizeof(k.map), &k.uffd, 1, &n) == sizeof(k.map));
        HOLDS(n == 1);
        kit_await_fault(&k, k.map);
        HOLDS(uffd_is(k.uffd) && !uffd_is(pair[0]));
        HOLDS(!uffd_memory_gone(k.uffd));
        HOLDS(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
        HOLDS(uffd_memory_gone(k.uffd));
        HOLDS(uffd_copy(k.uffd, (uintptr_t)k.map, source, KIT_PAGE, KIT_PAGE) == UFFD_GONE);
        close(k.uffd);
        close(pair[0]);
        close(pair[1]);
}

int main(void)
{
        kit_need_uffd();
        copy_into_an_old_cache();
        pages_that_are_there();
        dontneed_faults_again();
        unmapped_is_gone();
        esrch_after_death();
        return 0;
}
