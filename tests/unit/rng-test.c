/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a guest gets random bytes where it asked for them and nowhere else, never more than
 *       the bound, and a ring that breaks the rules ends the device and nothing more.
 * Method: the class with a hand-made ring (virtio-rig.h); what is to be filled is zero
 *         before, and what lies around it must be so afterwards. */
#include "vmm/virtio/rng.h"

#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/virtio-rig.h"

static void begin(struct virtio_rig *rig)
{
        struct virtio_device *dev;
        struct err e;

        memset(rig, 0, sizeof(*rig));
        CU_ASSERT_EQUAL_FATAL(virtio_rng_new("rng0", &dev, &e), 0);
        virtio_rig_start(rig, dev);
}

static bool is_zero(struct virtio_rig *rig, uint64_t gpa, size_t bytes)
{
        const uint8_t *p = ram_at(&rig->ram, gpa, bytes);

        for (size_t i = 0; i < bytes; i++) {
                if (p[i])
                        return false;
        }
        return true;
}

static void fills_what_is_asked(void)
{
        static const struct {
                const char *row;
                uint32_t bytes;
                uint32_t want;
        } rows[] = {
                { "a word", 8, 8 },
                { "what Linux asks for", 64, 64 },
                { "more than getrandom() gives without looking at signals", 5000, 5000 },
                { "the bound", VIRTIO_RNG_REQUEST_BYTES_MAX, VIRTIO_RNG_REQUEST_BYTES_MAX },
                { "above it", VIRTIO_RNG_REQUEST_BYTES_MAX + 4096, VIRTIO_RNG_REQUEST_BYTES_MAX },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct vqguest_buf buf = { RIG_FREE_GPA + 4096, rows[i].bytes, true };
                struct virtio_rig rig;

                begin(&rig);
                EXPECT_EQUAL(rows[i].row, virtio_rig_ask(&rig, 0, &buf, 1), rows[i].want);
                /* eight zeros in a row: once in 2^64 */
                EXPECT_TRUE(rows[i].row, !is_zero(&rig, buf.gpa, 8));
                EXPECT_TRUE(rows[i].row, !is_zero(&rig, buf.gpa + rows[i].want - 8, 8));
                EXPECT_TRUE(rows[i].row, is_zero(&rig, buf.gpa - 4096, 4096));
                EXPECT_TRUE(rows[i].row, is_zero(&rig, buf.gpa + rows[i].want, 8192));
                EXPECT_EQUAL(rows[i].row, rig.signals[0], 1);
                virtio_rig_end(&rig);
        }
}

static void fills_all_pieces(void)
{
        const struct vqguest_buf bufs[] = {
                { RIG_FREE_GPA, 32, false },            /* the device's to read: left alone */
                { RIG_FREE_GPA + 4096, 16, true },
                { RIG_FREE_GPA + 8192, 16, true },
        };
        struct virtio_rig rig;

        begin(&rig);
        CU_ASSERT_EQUAL(virtio_rig_ask(&rig, 0, bufs, ARRAY_SIZE(bufs)), 32);
        CU_ASSERT(is_zero(&rig, bufs[0].gpa, 4096));
        CU_ASSERT(!is_zero(&rig, bufs[1].gpa, 16) && is_zero(&rig, bufs[1].gpa + 16, 4000));
        CU_ASSERT(!is_zero(&rig, bufs[2].gpa, 16) && is_zero(&rig, bufs[2].gpa + 16, 4000));
        virtio_rig_end(&rig);
}

static void answers_all_in_order(void)
{
        struct virtio_rig rig;
        uint16_t heads[8];
        uint16_t head;
        uint32_t written;

        begin(&rig);
        for (unsigned i = 0; i < ARRAY_SIZE(heads); i++) {
                const struct vqguest_buf buf = { RIG_FREE_GPA + i * 4096, 16 + i, true };

                heads[i] = vqguest_add(&rig.guest[0], &buf, 1);
        }
        rig.dev->class->kick(rig.dev, 0);
        for (unsigned i = 0; i < ARRAY_SIZE(heads); i++) {
                CU_ASSERT_FATAL(vqguest_used(&rig.guest[0], &head, &written));
                CU_ASSERT_EQUAL(head, heads[i]);
                CU_ASSERT_EQUAL(written, 16 + i);
        }
        CU_ASSERT_EQUAL(rig.signals[0], 1);
        virtio_rig_end(&rig);
}

static void differs_each_time(void)
{
        const struct vqguest_buf buf = { RIG_FREE_GPA, 32, true };
        struct virtio_rig rig;
        uint8_t first[32];

        begin(&rig);
        CU_ASSERT_EQUAL(virtio_rig_ask(&rig, 0, &buf, 1), 32);
        memcpy(first, ram_at(&rig.ram, buf.gpa, 32), 32);
        CU_ASSERT_EQUAL(virtio_rig_ask(&rig, 0, &buf, 1), 32);
        CU_ASSERT(memcmp(first, ram_at(&rig.ram, buf.gpa, 32), 32) != 0);
        virtio_rig_end(&rig);
}

static void breaks_with_its_ring(void)
{
        const struct vqguest_buf buf = { RAM_BYTES_MIN - 16, 32, true };
        struct virtio_rig rig;

        begin(&rig);
        CU_ASSERT_EQUAL(virtio_rig_ask(&rig, 0, &buf, 1), -1);
        CU_ASSERT(rig.broken[0]);
        virtio_rig_end(&rig);
}

static const CU_TestInfo cases[] = {
        { "fills what is asked, up to the bound", fills_what_is_asked },
        { "fills all pieces that are its to write", fills_all_pieces },
        { "answers all in order, with one interrupt", answers_all_in_order },
        { "gives other bytes each time", differs_each_time },
        { "breaks with its ring", breaks_with_its_ring },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("rng", cases);
}
