/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: several requests are with the disk at once; a drain lets them end, starts no other and
 *   leaves guest memory alone; what is left is served once, by this device or by one that was
 *   made from the saved state; a page of the guest's that is missing holds up one request; no
 *   kick and no interrupt is lost.
 * Method: a disk that hangs until it is let go on (blk-kit.h); a userfaultfd; a driver that
 *   kicks only when it is asked to, in bursts of random length. Under TSan too. */
#include <CUnit/CUnit.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/uffd.h"
#include "tests/unit/blk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define BURST 64u
#define THREADS 4u                      /* of the device */
#define ROUNDS 4000u

static const struct blk_kit_options plain = { .features = KIT_ALL_FEATURES };

/* Sector n of the disk says n. */
static void number_sectors(struct blk_kit *k)
{
        for (uint32_t i = 0; i < KIT_DISK_SECTORS; i++) {
                uint8_t sector[DISK_SECTOR_BYTES] = { 0 };
                ssize_t n;

                put_le32(sector, i);
                n = pwrite(k->disk_fd, sector, sizeof(sector), (off_t)i * DISK_SECTOR_BYTES);
                CU_ASSERT_EQUAL_FATAL(n, sizeof(sector));
        }
}

static void submit_reads(struct blk_kit *k, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                blk_kit_submit(k, i, VIRTIO_BLK_T_IN, 2 * i + 1, 0, 512);
}

static unsigned right_reads(struct blk_kit *k, unsigned n)
{
        unsigned right = 0;

        for (unsigned i = 0; i < n; i++)
                right += k->done[i] && *blk_kit_status(k, i) == VIRTIO_BLK_S_OK &&
                         k->written[i] == 513 && get_le32(blk_kit_data(k, i)) == 2 * i + 1;
        return right;
}

static void many_at_once(void)
{
        struct blk_kit k;

        blk_kit_init(&k, &plain);
        number_sectors(&k);
        blk_kit_hang();
        submit_reads(&k, BURST);
        blk_kit_kick(&k);
        CU_ASSERT_EQUAL(blk_kit_wait_inside(THREADS), THREADS);
        CU_ASSERT_FALSE(vqguest_wants_kick(&k.guest));  /* all look again by themselves */
        blk_kit_release_all();
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST));
        CU_ASSERT_EQUAL(right_reads(&k, BURST), BURST);
        blk_kit_fini(&k);
}

/* The thread that looked last finds nothing and says so, after the others are inside. */
static bool comes_to_want_kicks(struct blk_kit *k)
{
        uint64_t until_ns = clock_now_ns() + 10 * NS_PER_SEC;

        while (!vqguest_wants_kick(&k->guest)) {
                if (clock_now_ns() > until_ns)
                        return false;
                usleep(100);
        }
        return true;
}

/* A request that hangs holds up one thread, and nothing else. */
static void overtaken(void)
{
        struct blk_kit k;

        blk_kit_init(&k, &plain);
        blk_kit_hang();
        blk_kit_submit(&k, 100, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
        blk_kit_kick(&k);
        CU_ASSERT_EQUAL(blk_kit_wait_inside(1), 1);
        CU_ASSERT_TRUE(comes_to_want_kicks(&k));
        for (unsigned i = 0; i < BURST; i++) {
                blk_kit_submit(&k, i, VIRTIO_BLK_T_GET_ID, 0, 0, 20);
                blk_kit_kick(&k);
        }
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST));
        CU_ASSERT_FALSE(k.done[100]);
        blk_kit_release_all();
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST + 1));
        CU_ASSERT_TRUE(k.done[100]);
        blk_kit_fini(&k);
}

/* A read into a page that nobody has brought yet, as after a revert. */
static void missing_page(void)
{
        struct blk_kit k;
        struct err e;
        AUTO_FD uffd = -1;

        if (uffd_open(0, &uffd, &e) < 0) {
                printf(" (%s: skipped) ", e.text);
                return;
        }
        blk_kit_init(&k, &plain);
        number_sectors(&k);

        uint64_t hva = (uint64_t)(uintptr_t)blk_kit_data(&k, 0);
        struct uffdio_range page = { hva, KIT_SLOT_BYTES };
        struct uffdio_zeropage fill = { .range = page };

        CU_ASSERT_EQUAL_FATAL(uffd_register_missing(uffd, hva, KIT_SLOT_BYTES, &e), 0);
        CU_ASSERT_EQUAL_FATAL(madvise((void *)(uintptr_t)hva, KIT_SLOT_BYTES, MADV_DONTNEED), 0);
        submit_reads(&k, BURST);
        blk_kit_kick(&k);
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST - 1));
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        CU_ASSERT_EQUAL(k.ndone, BURST - 1);
        CU_ASSERT_FALSE(k.done[0]);
        CU_ASSERT_EQUAL(ioctl(uffd, UFFDIO_ZEROPAGE, &fill), 0);
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST));
        CU_ASSERT_EQUAL(right_reads(&k, BURST), BURST);
        CU_ASSERT_EQUAL(ioctl(uffd, UFFDIO_UNREGISTER, &page), 0);
        blk_kit_fini(&k);
}

/* ---- drain ------------------------------------------------------------------ */

struct drainer {
        struct blk_kit *kit;
        pthread_t thread;
        _Atomic bool over;
};

static void *drain(void *ctx)
{
        struct drainer *d = ctx;

        d->kit->dev->class->drain(d->kit->dev);
        d->over = true;
        return NULL;
}

/* 64 requests of which THREADS are with the disk, and a drain that waits for these; then it
 * has returned. */
static void drain_in_the_middle(struct blk_kit *k)
{
        struct drainer d = { .kit = k };

        number_sectors(k);
        blk_kit_hang();
        submit_reads(k, BURST);
        blk_kit_kick(k);
        CU_ASSERT_EQUAL_FATAL(blk_kit_wait_inside(THREADS), THREADS);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&d.thread, NULL, drain, &d), 0);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        CU_ASSERT_FALSE(d.over);
        blk_kit_release(THREADS - 1);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        CU_ASSERT_FALSE(d.over);
        blk_kit_release_all();
        pthread_join(d.thread, NULL);
}

/* INV-QUIET */
static void drained_is_quiet(void)
{
        struct blk_kit k;

        blk_kit_init(&k, &plain);
        drain_in_the_middle(&k);

        const struct virtqueue *q = &k.dev->queue[0];
        size_t bytes = k.ram.slots[0].bytes;
        void *seen = malloc(bytes);
        unsigned signals = blk_kit_signals();

        memcpy(seen, k.ram.slots[0].hva, bytes);
        /* what was taken was given back */
        CU_ASSERT_EQUAL(q->s.next_avail, q->s.next_used);
        CU_ASSERT_EQUAL(blk_kit_wait_inside(0), 0);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        CU_ASSERT_EQUAL(memcmp(seen, k.ram.slots[0].hva, bytes), 0);
        CU_ASSERT_EQUAL(blk_kit_signals(), signals);
        CU_ASSERT_TRUE(q->s.next_avail >= THREADS && q->s.next_avail < BURST);

        k.dev->class->resume(k.dev);
        blk_kit_kick(&k);
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST));
        CU_ASSERT_EQUAL(right_reads(&k, BURST), BURST);
        free(seen);
        blk_kit_fini(&k);
}

/* What was not served goes on in a device that has the saved queue. */
static void saved_in_the_middle(void)
{
        struct blk_kit k;
        uint64_t state[8];
        struct virtio_device *twin, *first;
        struct virtqueue q;

        blk_kit_init(&k, &plain);
        drain_in_the_middle(&k);
        q = k.dev->queue[0];
        k.dev->class->capture(k.dev, state);
        twin = blk_kit_twin(&k, KIT_DISK_SECTORS);
        twin->queue[0] = (struct virtqueue){ .s = q.s, .indirect = true };
        CU_ASSERT_EQUAL(vq_attach(&twin->queue[0], &k.ram, KIT_QUEUE, NULL), 0);
        CU_ASSERT_EQUAL(twin->class->apply(twin, state, NULL), 0);
        CU_ASSERT_EQUAL(twin->class->start(twin, NULL), 0);
        twin->class->kick(twin, 0);
        CU_ASSERT_TRUE(blk_kit_wait(&k, BURST));

        unsigned before = q.s.next_used, zeros = 0;

        /* the twin's disk is empty: so many of each */
        for (unsigned i = 0; i < BURST; i++)
                zeros += get_le32(blk_kit_data(&k, i)) == 0;
        CU_ASSERT_EQUAL(zeros, BURST - before);
        CU_ASSERT_EQUAL(twin->queue[0].s.next_used, BURST);

        first = k.dev;
        first->class->stop(first);
        first->class->free(first);
        k.dev = twin;
        blk_kit_fini(&k);
}

static void started_again(void)
{
        struct blk_kit k;

        blk_kit_init(&k, &plain);
        number_sectors(&k);
        for (unsigned i = 0; i < 20; i++) {
                k.dev->class->drain(k.dev);
                k.dev->class->stop(k.dev);
                blk_kit_forget(&k);
                vqguest_init(&k.guest, &k.ram, 0, KIT_QUEUE, &k.dev->queue[0]);
                CU_ASSERT_EQUAL(k.dev->class->start(k.dev, NULL), 0);
                submit_reads(&k, 5);
                blk_kit_kick(&k);
                CU_ASSERT_TRUE(blk_kit_wait(&k, 5));
                CU_ASSERT_EQUAL(right_reads(&k, 5), 5);
        }
        blk_kit_fini(&k);
}

/* ---- kicks and interrupts ---------------------------------------------------- */

/* INV-CALLED: the driver kicks only when it is asked to, and sleeps until it is interrupted. */
static bool bursts(const struct blk_kit_options *o)
{
        unsigned seed = 1;
        struct blk_kit k;
        bool ok = true;

        blk_kit_init(&k, o);
        number_sectors(&k);
        for (unsigned i = 0; i < ROUNDS && ok; i++) {
                unsigned n = 1 + (unsigned)rand_r(&seed) % 12;

                blk_kit_forget(&k);
                for (unsigned s = 0; s < n; s++) {
                        blk_kit_submit(&k, s, VIRTIO_BLK_T_IN, 2 * s + 1, 0, 512);
                        if (vqguest_wants_kick(&k.guest))
                                blk_kit_kick(&k);
                }
                if (i % 16 == 0) {
                        k.dev->class->drain(k.dev);
                        k.dev->class->resume(k.dev);
                        blk_kit_kick(&k);
                }
                ok = blk_kit_wait(&k, n) && right_reads(&k, n) == n;
        }
        blk_kit_fini(&k);
        return ok;
}

static void no_kick_is_lost(void)
{
        CU_ASSERT_TRUE(bursts(&plain));
}

static void no_kick_is_lost_with_event_indices(void)
{
        CU_ASSERT_TRUE(bursts(&(struct blk_kit_options){ .features = KIT_ALL_FEATURES,
                                                         .event_idx = true }));
}

static const CU_TestInfo cases[] = {
        { "several requests are with the disk at once", many_at_once },
        { "who hangs is overtaken", overtaken },
        { "a missing page holds up one request", missing_page },
        { "a drained device is quiet, and goes on", drained_is_quiet },
        { "a saved device goes on where it was", saved_in_the_middle },
        { "reset and started again", started_again },
        { "no kick and no interrupt is lost", no_kick_is_lost },
        { "the same with event indices", no_kick_is_lost_with_event_indices },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-blk-flight", cases);
}
