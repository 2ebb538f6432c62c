/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: requests that are done together are seen together: a driver never finds some of them.
 * Method: the device in a thread of its own, a driver that looks all the time. */
#include <pthread.h>
#include <sched.h>

#include "common/check.h"
#include "tests/unit/suite.h"
#include "tests/unit/vqguest.h"

#define BATCHES 3000u
#define BATCH 3u

struct both {
        struct ram ram;
        struct vqguest g;
        struct virtqueue q;
};

static void *push_batches(void *arg)
{
        struct both *b = arg;
        struct vq_done done[BATCH];
        struct vq_chain c;

        for (unsigned i = 0; i < BATCH * BATCHES;) {
                if (vq_pop(&b->q, &c, NULL) != 1) {
                        sched_yield();
                        continue;
                }
                done[i % BATCH] = (struct vq_done){ c.head, i % BATCH };
                if (++i % BATCH == 0)
                        vq_push_all(&b->q, done, BATCH);
        }
        return NULL;
}

/* What the driver sees of a batch when it sees anything. */
static unsigned wait_and_count(struct both *b)
{
        const uint16_t before = b->g.used_idx;
        uint16_t seen;

        while ((seen = __atomic_load_n(&b->g.ring.used->idx, __ATOMIC_ACQUIRE)) == before)
                sched_yield();
        return (uint16_t)(seen - before);
}

static void all_or_none(void)
{
        static const struct vqguest_buf buf = { 0x8000, 16, true };
        static struct both b;
        pthread_t device;
        unsigned parts = 0, wrong = 0;

        vqguest_ram_init(&b.ram, 0x10000);
        vqguest_init_event_idx(&b.g, &b.ram, 0x1000, 8, &b.q);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&device, NULL, push_batches, &b), 0);
        for (unsigned i = 0; i < BATCHES; i++) {
                uint16_t head;
                uint32_t written;

                for (unsigned k = 0; k < BATCH; k++)
                        vqguest_add(&b.g, &buf, 1);
                parts += wait_and_count(&b) != BATCH;
                for (unsigned k = 0; k < BATCH;) {
                        if (vqguest_used(&b.g, &head, &written))
                                wrong += written != k++;
                }
        }
        pthread_join(device, NULL);
        CU_ASSERT_EQUAL(parts, 0);
        CU_ASSERT_EQUAL(wrong, 0);
        vqguest_ram_fini(&b.ram);
}

static const CU_TestInfo cases[] = {
        { "all of a batch or none", all_or_none },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtqueue-batch", cases);
}
