/* SPDX-License-Identifier: Apache-2.0 */
/* What the removed map rests on (INV-REMOVED): when UFFD_EVENT_REMOVE is said, what
 * waits for its being read and what does not, and who gets it. */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/fdpass.h"
#include "pageserver/uffd.h"
#include "tests/assumptions/uffd-kit.h"

#define HUGE (2u << 20)
/* long enough to zap that another thread comes before its end */
#define LONG_BYTES (64u << 20)
#define TRIES 50

struct memory {
        int uffd;
        char *map;
        size_t bytes;
        uint64_t ioctls;                /* what the kernel has for it */
};

static uint8_t source[HUGE] __attribute__((aligned(4096)));

/* false: no memory of that kind */
static bool memory_open(struct memory *m, size_t bytes, int flags)
{
        struct err e;

        m->bytes = bytes;
        m->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
                      -1, 0);
        if (m->map == MAP_FAILED)
                return false;
        HOLDS(uffd_open(UFFD_FEATURE_EVENT_REMOVE, &m->uffd, &e) == 0);

        struct uffdio_register r = {
                .range = { .start = (uintptr_t)m->map, .len = bytes },
                .mode = UFFDIO_REGISTER_MODE_MISSING,
        };

        HOLDS(ioctl(m->uffd, UFFDIO_REGISTER, &r) == 0);
        m->ioctls = r.ioctls;
        return true;
}

static void memory_close(struct memory *m)
{
        munmap(m->map, m->bytes);
        fd_close(&m->uffd);
}

/* 0 or errno */
static int copy_in(const struct memory *m, size_t offset, size_t bytes, uint8_t value)
{
        struct uffdio_copy c = {
                .dst = (uintptr_t)m->map + offset, .src = (uintptr_t)source, .len = bytes,
        };

        memset(source, value, MIN(bytes, sizeof(source)));
        if (ioctl(m->uffd, UFFDIO_COPY, &c) == 0)
                return 0;
        HOLDS(c.copy == -errno);        /* nothing was copied: not cut short */
        return errno;
}

static int zero_in(const struct memory *m, size_t offset, size_t bytes)
{
        struct uffdio_zeropage z = {
                .range = { .start = (uintptr_t)m->map + offset, .len = bytes },
        };

        return ioctl(m->uffd, UFFDIO_ZEROPAGE, &z) < 0 ? errno : 0;
}

static bool is_missing(const struct memory *m, size_t offset)
{
        unsigned char in_core;

        HOLDS(mincore(m->map + offset, KIT_PAGE, &in_core) == 0);
        return !(in_core & 1);
}

static void moment(void)
{
        struct timespec ts = { .tv_nsec = 20000000 };

        nanosleep(&ts, NULL);
}

/* a thread that gives memory back */
struct giver {
        char *at;
        size_t bytes;
        int advice;
        pthread_t thread;
        _Atomic bool done;
};

static void *give(void *arg)
{
        struct giver *g = arg;

        HOLDS(madvise(g->at, g->bytes, g->advice) == 0);
        atomic_store(&g->done, true);
        return NULL;
}

static void giver_start(struct giver *g, const struct memory *m, size_t offset, size_t bytes)
{
        g->at = m->map + offset;
        g->bytes = bytes;
        if (!g->advice)
                g->advice = MADV_DONTNEED;
        atomic_store(&g->done, false);
        HOLDS(pthread_create(&g->thread, NULL, give, g) == 0);
}

static void giver_join(struct giver *g)
{
        HOLDS(pthread_join(g->thread, NULL) == 0);
}

static void await_message(const struct memory *m)
{
        struct pollfd p = { .fd = m->uffd, .events = POLLIN };

        HOLDS(poll(&p, 1, -1) == 1);
}

static void read_remove(const struct memory *m, size_t offset, size_t bytes)
{
        struct uffd_msg msg;

        await_message(m);
        HOLDS(read(m->uffd, &msg, sizeof(msg)) == sizeof(msg));
        HOLDS(msg.event == UFFD_EVENT_REMOVE);
        HOLDS(msg.arg.remove.start == (uintptr_t)m->map + offset);
        HOLDS(msg.arg.remove.end == (uintptr_t)m->map + offset + bytes);
}

static bool nothing_to_read(const struct memory *m)
{
        struct uffd_msg msg;

        return read(m->uffd, &msg, sizeof(msg)) < 0 && errno == EAGAIN;
}

/* ---- while it is unread ---------------------------------------------------- */

/* the giver sleeps, nothing is taken yet, and nobody installs a page anywhere in
 * memory of that descriptor; another descriptor's is not concerned */
static void installs_wait_for_the_reader(void)
{
        struct memory m, other;
        struct giver g = { 0 };

        HOLDS(memory_open(&m, KIT_BYTES, 0) && memory_open(&other, KIT_BYTES, 0));
        HOLDS(copy_in(&m, 0, KIT_PAGE, 0x11) == 0);
        giver_start(&g, &m, 0, 2 * KIT_PAGE);
        await_message(&m);
        moment();
        HOLDS(!atomic_load(&g.done) && m.map[0] == 0x11);
        HOLDS(copy_in(&m, 8 * KIT_PAGE, KIT_PAGE, 0x22) == EAGAIN);
        HOLDS(zero_in(&m, 8 * KIT_PAGE, KIT_PAGE) == EAGAIN);
        HOLDS(uffd_wake(m.uffd, (uintptr_t)m.map, KIT_BYTES) == UFFD_DONE);
        HOLDS(copy_in(&other, 0, KIT_PAGE, 0x22) == 0);
        read_remove(&m, 0, 2 * KIT_PAGE);
        giver_join(&g);
        HOLDS(is_missing(&m, 0));
        HOLDS(copy_in(&m, 8 * KIT_PAGE, KIT_PAGE, 0x22) == 0);
        memory_close(&other);
        memory_close(&m);
}

/* one read gives the faults first, however old the event is */
static void faults_are_read_first(void)
{
        struct memory m;
        struct giver g = { 0 };
        struct kit_touch t;
        struct uffd_msg msg[2];

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        giver_start(&g, &m, 0, KIT_PAGE);
        await_message(&m);
        kit_touch_start(&t, m.map + 5 * KIT_PAGE);
        HOLDS(kit_touch_sleeps(&t));
        HOLDS(read(m.uffd, msg, sizeof(msg)) == sizeof(msg));
        HOLDS(msg[0].event == UFFD_EVENT_PAGEFAULT && msg[1].event == UFFD_EVENT_REMOVE);
        giver_join(&g);
        HOLDS(copy_in(&m, 5 * KIT_PAGE, KIT_PAGE, 0x77) == 0);
        HOLDS(kit_touch_join(&t) == 0x77);
        memory_close(&m);
}

/* memory in the care of two descriptors: two events, the second after the first was read */
static void one_event_for_each_descriptor(void)
{
        struct memory m, half = { .uffd = -1 };
        struct giver g = { 0 };
        struct err e;
        size_t middle = KIT_BYTES / 2;

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        half = (struct memory){ .map = m.map + middle, .bytes = middle };
        HOLDS(uffd_open(UFFD_FEATURE_EVENT_REMOVE, &half.uffd, &e) == 0);

        struct uffdio_range upper = { .start = (uintptr_t)half.map, .len = middle };

        HOLDS(ioctl(m.uffd, UFFDIO_UNREGISTER, &upper) == 0);
        HOLDS(uffd_register_missing(half.uffd, upper.start, upper.len, &e) == 0);
        giver_start(&g, &m, middle - KIT_PAGE, 2 * KIT_PAGE);
        await_message(&m);
        moment();
        HOLDS(nothing_to_read(&half));
        read_remove(&m, middle - KIT_PAGE, KIT_PAGE);
        read_remove(&half, 0, KIT_PAGE);
        giver_join(&g);
        fd_close(&half.uffd);
        memory_close(&m);
}

/* ---- after it was read ----------------------------------------------------- */

/* The giver goes on by itself: what comes in between the reading and the taking is
 * taken, too. True: it came in between. */
static bool copy_is_undone(void)
{
        struct memory m;
        struct giver g = { 0 };
        size_t last = LONG_BYTES - KIT_PAGE;
        int rc;

        HOLDS(memory_open(&m, LONG_BYTES, 0));
        for (size_t at = 0; at < LONG_BYTES - HUGE; at += HUGE)
                HOLDS(copy_in(&m, at, HUGE, 0x55) == 0);
        giver_start(&g, &m, 0, LONG_BYTES);
        read_remove(&m, 0, LONG_BYTES);
        while ((rc = copy_in(&m, last, KIT_PAGE, 0x66)) == EAGAIN)
                ;
        HOLDS(rc == 0);

        bool early = !atomic_load(&g.done);

        giver_join(&g);

        bool undone = is_missing(&m, last);

        HOLDS(undone || m.map[last] == 0x66);
        memory_close(&m);
        return early && undone;
}

static void copies_before_the_zap_are_undone(void)
{
        for (int i = 0; i < TRIES; i++) {
                if (copy_is_undone())
                        return;
        }
        printf("not seen in %d tries: a copy between the reading and the zap\n", TRIES);
}

/* and nothing holds up a copy that comes later: the server must know by itself */
static void late_copies_are_not_refused(void)
{
        struct memory m;
        struct giver g = { 0 };

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        giver_start(&g, &m, 0, KIT_PAGE);
        read_remove(&m, 0, KIT_PAGE);
        giver_join(&g);
        HOLDS(copy_in(&m, 0, KIT_PAGE, 0x44) == 0);
        HOLDS(m.map[0] == 0x44);
        memory_close(&m);
}

/* MADV_FREE is reported alike, although what was there may stay for a while */
static void freeing_is_removing(void)
{
        struct memory m;
        struct giver g = { .advice = MADV_FREE };

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        HOLDS(copy_in(&m, 0, KIT_PAGE, 0x31) == 0);
        giver_start(&g, &m, 0, KIT_PAGE);
        read_remove(&m, 0, KIT_PAGE);
        giver_join(&g);
        HOLDS(is_missing(&m, 0) || m.map[0] == 0x31 || m.map[0] == 0);
        memory_close(&m);
}

/* ---- who reads it ---------------------------------------------------------- */

struct reader {
        const struct memory *memory;
        const _Atomic bool *stop;
        pthread_t thread;
        unsigned removes;
};

static void *read_all(void *arg)
{
        struct reader *r = arg;
        struct pollfd p = { .fd = r->memory->uffd, .events = POLLIN };
        struct uffd_msg msg[4];

        while (!atomic_load(r->stop)) {
                ssize_t n = poll(&p, 1, 1) == 1 ? read(p.fd, msg, sizeof(msg)) : 0;

                for (ssize_t i = 0; n > 0 && i < n / (ssize_t)sizeof(msg[0]); i++)
                        r->removes += msg[i].event == UFFD_EVENT_REMOVE;
        }
        return NULL;
}

static void each_message_to_one_reader(void)
{
        enum { READERS = 3, EVENTS = 300 };
        struct memory m;
        struct reader r[READERS];
        _Atomic bool stop = false;
        unsigned sum = 0;

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        for (unsigned i = 0; i < READERS; i++) {
                r[i] = (struct reader){ .memory = &m, .stop = &stop };
                HOLDS(pthread_create(&r[i].thread, NULL, read_all, &r[i]) == 0);
        }
        for (unsigned i = 0; i < EVENTS; i++)
                HOLDS(madvise(m.map, KIT_PAGE, MADV_DONTNEED) == 0);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < READERS; i++) {
                HOLDS(pthread_join(r[i].thread, NULL) == 0);
                sum += r[i].removes;
        }
        HOLDS(sum == EVENTS);
        memory_close(&m);
}

/* A message is off the queue before it is copied: where it cannot be copied it is lost,
 * and the giver goes on as if it had been read (INV-UNREAD). */
static void lost_where_it_cannot_be_copied(void)
{
        struct memory m;
        struct giver g = { 0 };
        void *nowhere = mmap(NULL, KIT_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        HOLDS(nowhere != MAP_FAILED && memory_open(&m, KIT_BYTES, 0));
        giver_start(&g, &m, 0, KIT_PAGE);
        await_message(&m);
        HOLDS(read(m.uffd, nowhere, sizeof(struct uffd_msg)) < 0 && errno == EFAULT);
        giver_join(&g);
        HOLDS(nothing_to_read(&m));
        munmap(nowhere, KIT_PAGE);
        memory_close(&m);
}

/* who gives back does not hang when nobody is left to read */
static void last_close_lets_the_giver_go(void)
{
        struct memory m;
        struct giver g = { 0 };

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        HOLDS(copy_in(&m, 0, KIT_PAGE, 1) == 0);
        giver_start(&g, &m, 0, KIT_PAGE);
        await_message(&m);
        fd_close(&m.uffd);
        giver_join(&g);
        HOLDS(m.map[0] == 0);
        memory_close(&m);
}

/* The child dies with an event that nobody reads: it does not hang, the event goes
 * with it, and its end says no others. */
static void child(int sock, bool waiting)
{
        struct memory m;

        HOLDS(memory_open(&m, KIT_BYTES, 0));
        HOLDS(copy_in(&m, 0, KIT_BYTES, 1) == 0);
        HOLDS(fdpass_send(sock, "x", 1, &m.uffd, 1) == 0);
        if (waiting)
                madvise(m.map, KIT_PAGE, MADV_DONTNEED);
        _exit(0);
}

static void exit_does_not_hang(bool waiting)
{
        struct memory m = { .uffd = -1 };
        int pair[2], status;
        char byte;
        size_t n;

        HOLDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);

        pid_t pid = fork();

        HOLDS(pid >= 0);
        if (pid == 0)
                child(pair[1], waiting);
        HOLDS(fdpass_recv(pair[0], &byte, 1, &m.uffd, 1, &n) == 1 && n == 1);
        if (waiting) {
                await_message(&m);
                HOLDS(kill(pid, SIGKILL) == 0);
        }
        HOLDS(waitpid(pid, &status, 0) == pid);
        HOLDS(waiting ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0);
        HOLDS(uffd_memory_gone(m.uffd));
        HOLDS(nothing_to_read(&m));
        fd_close(&m.uffd);
        fd_close(&pair[0]);
        fd_close(&pair[1]);
}

/* ---- huge pages ------------------------------------------------------------ */

static void huge_pages(void)
{
        struct memory m;
        struct giver g = { 0 };

        if (!memory_open(&m, 2 * HUGE, MAP_HUGETLB)) {
                printf("not looked at: huge pages (vm.nr_overcommit_hugepages=2 gives some)\n");
                return;
        }
        /* zero pages are neither offered nor given; a page is given whole or not at all */
        HOLDS(!(m.ioctls & 1ull << _UFFDIO_ZEROPAGE) && m.ioctls & 1ull << _UFFDIO_COPY);
        HOLDS(zero_in(&m, 0, HUGE) == EINVAL);
        HOLDS(copy_in(&m, 0, KIT_PAGE, 1) == EINVAL);
        HOLDS(copy_in(&m, 0, HUGE, 0x12) == 0 && m.map[HUGE - 1] == 0x12);
        giver_start(&g, &m, 0, HUGE);
        read_remove(&m, 0, HUGE);
        giver_join(&g);
        HOLDS(is_missing(&m, 0));

        /* part of a page at the end of a range is not given back, and not reported */
        HOLDS(copy_in(&m, 0, HUGE, 0x13) == 0);
        giver_start(&g, &m, 0, KIT_PAGE);
        giver_join(&g);
        HOLDS(nothing_to_read(&m) && m.map[0] == 0x13);
        memory_close(&m);
}

int main(void)
{
        kit_need_uffd();
        installs_wait_for_the_reader();
        faults_are_read_first();
        one_event_for_each_descriptor();
        copies_before_the_zap_are_undone();
        late_copies_are_not_refused();
        freeing_is_removing();
        each_message_to_one_reader();
        lost_where_it_cannot_be_copied();
        last_close_lets_the_giver_go();
        exit_does_not_hang(true);
        exit_does_not_hang(false);
        huge_pages();
        return 0;
}
