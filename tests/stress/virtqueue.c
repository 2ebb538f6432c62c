/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a driver and a device that run at the same time over one ring lose no request, no byte
 *       and no wake-up (INV-NOTICE), whoever of both sleeps when, also when the device's state
 *       is put away and attached again in between.
 * Method: a thread each, which sleep in poll() on the other's eventfd and are told only when
 *         the ring says so; whoever sleeps for SECONDS_MAX was forgotten. Manners of devices in
 *         a table, with and without event indices. Run it under ThreadSanitizer too. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/vqguest.h"

#define RAM_BYTES 0x10000u
#define RING_GPA 0x1000u
/* Of a request, by its head: an indirect table, what the device reads, what it writes. */
#define TABLE_GPA(head) (0x4000u + 64u * (head))
#define OUT_GPA(head) (TABLE_GPA(head) + 32u)
#define IN_GPA(head) (RAM_HIGH_GPA + 8u * (head))
#define HOLD_MAX 4u
#define SECONDS_MAX 60

#define TEST(cond) must((cond), #cond, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "virtqueue.c:%d: failed: %s\n", line, what);
        exit(1);
}

static const struct run {
        const char *name;
        bool event_idx;
        uint16_t size;
        bool kicks;                     /* the device turns kicks off while it works */
        bool attaches;                  /* again and again */
        bool spins;                     /* the driver: never sleeps, so it adds just when the
                                           device is about to */
        uint64_t requests;
} runs[] = {
        { "event indices", true, 16, true, false, false, 200000 },
        { "event indices, large ring", true, 256, true, false, false, 200000 },
        { "event indices, tiny ring", true, 2, true, false, false, 50000 },
        { "event indices, plain device", true, 16, false, false, false, 50000 },
        { "event indices, attached again", true, 16, true, true, false, 50000 },
        { "event indices, driver spins", true, 2, true, false, true, 200000 },
        { "event indices, driver spins, plain device", true, 2, false, false, true, 200000 },
        { "flags", false, 16, true, false, false, 50000 },
        { "flags, tiny ring", false, 2, true, false, false, 20000 },
        { "flags, plain device", false, 16, false, false, false, 50000 },
        { "flags, attached again", false, 16, true, true, false, 50000 },
        { "flags, driver spins", false, 2, true, false, true, 200000 },
};

struct world {
        const struct run *run;
        struct ram ram;
        int kick_fd, irq_fd;
        _Atomic bool quit;
        /* the driver's */
        struct vqguest g;
        uint64_t random;
        uint64_t added, done, kicks;
        uint64_t sent[VQ_SIZE_MAX];     /* by head */
        /* the device's */
        struct virtqueue q;
        uint64_t device_random;
        uint64_t served, interrupts;
};

static uint64_t answer(uint64_t request)
{
        return (request + 1) * 0x9e3779b97f4a7c15;
}

static void ring(int fd)
{
        uint64_t one = 1;

        TEST(write(fd, &one, sizeof(one)) == sizeof(one));
}

static void sleep_until(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };
        uint64_t count;
        int n;

        do
                n = poll(&p, 1, SECONDS_MAX * 1000);
        while (n < 0 && errno == EINTR);
        TEST(n == 1);                   /* INV-NOTICE */
        TEST(read(fd, &count, sizeof(count)) == sizeof(count));
}

/* ---- the driver ------------------------------------------------------------ */

static void add(struct world *w)
{
        uint16_t head = w->g.free[w->g.nfree - 1];
        const struct vqguest_buf bufs[] = { { OUT_GPA(head), 8, false },
                                            { IN_GPA(head), 8, true } };

        w->sent[head] = w->added++;
        memcpy(ram_at(&w->ram, OUT_GPA(head), 8), &w->sent[head], 8);

        uint16_t added = w->g.nfree < 2 || store_random(&w->random) % 2 ?
                                 vqguest_add_indirect(&w->g, bufs, 2, TABLE_GPA(head)) :
                                 vqguest_add(&w->g, bufs, 2);

        TEST(added == head);
}

static unsigned reap(struct world *w)
{
        uint16_t head;
        uint32_t written;
        uint64_t got;
        unsigned n = 0;

        for (; vqguest_used(&w->g, &head, &written); n++) {
                memcpy(&got, ram_at(&w->ram, IN_GPA(head), 8), 8);
                TEST(written == 8 && got == answer(w->sent[head]));
        }
        w->done += n;
        return n;
}

static void spin_until_used(const struct world *w)
{
        uint64_t deadline_ns = clock_now_ns() + SECONDS_MAX * 1000000000ull;

        for (unsigned i = 1;; i++) {
                if (__atomic_load_n(&w->g.ring.used->idx, __ATOMIC_ACQUIRE) != w->g.used_idx)
                        return;
                if (i % 4096 == 0) {
                        TEST(clock_now_ns() < deadline_ns);     /* INV-NOTICE */
                        sched_yield();
                }
        }
}

static void drive(struct world *w)
{
        if (w->run->spins)
                vqguest_interrupts_off(&w->g);
        while (w->done < w->run->requests) {
                unsigned n = 1 + (unsigned)(store_random(&w->random) % w->run->size);

                for (; n && w->g.nfree && w->added < w->run->requests; n--)
                        add(w);
                if (vqguest_wants_kick(&w->g)) {
                        w->kicks++;
                        ring(w->kick_fd);
                }
                if (reap(w) || w->added == w->done)
                        continue;
                if (w->run->spins) {
                        spin_until_used(w);
                        continue;
                }
                if (vqguest_interrupts_on(&w->g))
                        continue;
                sleep_until(w->irq_fd);
                vqguest_interrupts_off(&w->g);
        }
}

/* ---- the device ------------------------------------------------------------ */

static void interrupt(struct world *w)
{
        if (!vq_wants_interrupt(&w->q))
                return;
        w->interrupts++;
        ring(w->irq_fd);
}

static void finish(struct world *w, const struct vq_chain *c)
{
        uint64_t request;

        TEST(vq_read(c, 0, &request, 8) == 8 && c->out_bytes == 8 && c->in_bytes == 8);
        request = answer(request);
        TEST(vq_write(c, 0, &request, 8) == 8);
        vq_push(&w->q, c->head, 8);
        w->served++;
        if (store_random(&w->device_random) % 4 == 0)
                interrupt(w);
}

/* Takes a few, puts the last back now and then, does the others the other way round. */
static unsigned do_some(struct world *w)
{
        struct vq_chain held[HOLD_MAX];
        struct err e = { 0 };
        unsigned n = 0;
        int rc = 1;

        while (n < HOLD_MAX && (rc = vq_pop(&w->q, &held[n], &e)) == 1) {
                n++;
                if (store_random(&w->device_random) % 8 == 0) {
                        n--;
                        vq_unpop(&w->q);
                }
        }
        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        TEST(rc >= 0);
        for (unsigned i = n; i > 0; i--)
                finish(w, &held[i - 1]);
        return n;
}

/* What a save and a revert leave of the device. */
static void attach_again(struct world *w)
{
        w->q = (struct virtqueue){ .s = w->q.s, .event_idx = w->q.event_idx,
                                   .indirect = w->q.indirect };
        TEST(vq_attach(&w->q, &w->ram, VQ_SIZE_MAX, NULL) == 0);
}

static void serve(struct world *w)
{
        do {
                if (w->run->kicks)
                        vq_kicks_off(&w->q);
                while (do_some(w) > 0) {
                        if (w->run->attaches && store_random(&w->device_random) % 64 == 0)
                                attach_again(w);
                }
                interrupt(w);
        } while (w->run->kicks && vq_kicks_on(&w->q));
}

static void *device_main(void *arg)
{
        struct world *w = arg;

        while (!w->quit) {
                sleep_until(w->kick_fd);
                serve(w);
        }
        return NULL;
}

/* ---- both ------------------------------------------------------------------ */

static void run_one(const struct run *run)
{
        struct world w = { .run = run, .random = 1, .device_random = 2,
                           .kick_fd = eventfd(0, EFD_CLOEXEC),
                           .irq_fd = eventfd(0, EFD_CLOEXEC) };
        pthread_t device;

        TEST(w.kick_fd >= 0 && w.irq_fd >= 0);
        vqguest_ram_init(&w.ram, RAM_BYTES);
        if (run->event_idx)
                vqguest_init_event_idx(&w.g, &w.ram, RING_GPA, run->size, &w.q);
        else
                vqguest_init(&w.g, &w.ram, RING_GPA, run->size, &w.q);
        TEST(pthread_create(&device, NULL, device_main, &w) == 0);
        drive(&w);
        w.quit = true;
        ring(w.kick_fd);
        pthread_join(device, NULL);

        TEST(w.served == run->requests && w.g.nfree == run->size);
        printf("%s: %llu requests, %llu kicks, %llu interrupts\n", run->name,
               (unsigned long long)w.served, (unsigned long long)w.kicks,
               (unsigned long long)w.interrupts);
        close(w.kick_fd);
        close(w.irq_fd);
        vqguest_ram_fini(&w.ram);
}

int main(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
                run_one(&runs[i]);
        return 0;
}
