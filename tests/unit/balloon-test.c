/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what the guest puts into its balloon or reports goes back to the host, whatever order
 *       and nonsense it comes in, and nothing else; the target is the host's alone to change;
 *       its state survives a save, and one that was made up is refused.
 * Method: the class with hand-made rings (virtio-rig.h) over RAM on both sides of 4 GiB; pages
 *         that were written read as zeros once they were given back. */
#include "vmm/virtio/balloon.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/virtio-rig.h"

#define PAGE 4096u
#define PFN(gpa) ((uint32_t)((gpa) / PAGE))
#define HIGH_BYTES (64ull << 20)
/* pages of the test's, from here on; all are written before */
#define AREA_GPA (RIG_FREE_GPA + 0x100000)
#define AREA_PAGES 2048u
#define LIST_GPA RIG_FREE_GPA

enum { INFLATE, DEFLATE, REPORTING };

struct bench {
        struct virtio_rig rig;
        struct giveback *giveback;
};

static void begin(struct bench *b)
{
        struct virtio_device *dev;
        struct err e;

        memset(b, 0, sizeof(*b));
        CU_ASSERT_EQUAL_FATAL(ram_init(&b->rig.ram, RAM_LOW_END_GPA + HIGH_BYTES, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&b->rig.ram, false, RAM_SMALL, &e), 0);
        CU_ASSERT_EQUAL_FATAL(giveback_new(&b->rig.ram, &b->giveback, &e), 0);

        const struct virtio_balloon_options o = { .name = "balloon0", .giveback = b->giveback };

        CU_ASSERT_EQUAL_FATAL(virtio_balloon_new(&o, &dev, &e), 0);
        virtio_rig_start(&b->rig, dev);
        memset(ram_at(&b->rig.ram, AREA_GPA, AREA_PAGES * PAGE), 0x5a, AREA_PAGES * PAGE);
        memset(ram_at(&b->rig.ram, RAM_HIGH_GPA, PAGE), 0x5a, PAGE);
}

static void end(struct bench *b)
{
        CU_ASSERT_STRING_EQUAL(b->rig.broken, "");
        virtio_rig_end(&b->rig);
        giveback_free(b->giveback);
}

static bool page_is(struct bench *b, uint64_t gpa, uint8_t byte)
{
        const uint8_t *p = ram_at(&b->rig.ram, gpa, PAGE);

        for (unsigned i = 0; i < PAGE; i++) {
                if (p[i] != byte)
                        return false;
        }
        return true;
}

/* of the area's pages */
static unsigned count_kept(struct bench *b)
{
        unsigned kept = 0;

        for (unsigned i = 0; i < AREA_PAGES; i++) {
                bool is_kept = page_is(b, AREA_GPA + i * PAGE, 0x5a);

                CU_ASSERT(is_kept || page_is(b, AREA_GPA + i * PAGE, 0));
                kept += is_kept;
        }
        return kept;
}

static void ask_with_list(struct bench *b, unsigned queue, const uint32_t *pfn, size_t bytes)
{
        const struct vqguest_buf buf = { LIST_GPA, (uint32_t)bytes, false };

        virtio_rig_put(&b->rig, LIST_GPA, pfn, bytes);
        CU_ASSERT_EQUAL(virtio_rig_ask(&b->rig, queue, &buf, 1), 0);
}

/* ---- requests --------------------------------------------------------------------- */

#define AREA_PFN PFN(AREA_GPA)

static void inflates(void)
{
        static const struct {
                const char *row;
                uint32_t pfn[8];
                unsigned n;
                unsigned given;         /* different pages of the area */
                uint64_t given_bytes, refused_bytes;
        } rows[] = {
                { "one page", { AREA_PFN }, 1, 1, PAGE, 0 },
                { "downwards, as Linux does", { AREA_PFN + 3, AREA_PFN + 2, AREA_PFN + 1 }, 3, 3,
                  3 * PAGE, 0 },
                { "in no order, with gaps", { AREA_PFN + 9, AREA_PFN, AREA_PFN + 4, AREA_PFN + 1 },
                  4, 4, 4 * PAGE, 0 },
                { "every other one", { AREA_PFN + 4, AREA_PFN + 2, AREA_PFN }, 3, 3, 3 * PAGE, 0 },
                { "twice the same", { AREA_PFN + 5, AREA_PFN + 5, AREA_PFN + 6 }, 3, 2, 2 * PAGE,
                  0 },
                { "in the hole", { 0xd0000, AREA_PFN }, 2, 1, PAGE, PAGE },
                { "reserved", { 0x9f, 0xe0, 0xff }, 3, 0, 0, 3 * PAGE },
                { "behind RAM", { PFN(RAM_HIGH_GPA + HIGH_BYTES) }, 1, 0, 0, PAGE },
                { "the largest number", { UINT32_MAX, AREA_PFN }, 2, 1, PAGE, PAGE },
                { "the largest and the smallest", { UINT32_MAX, 0 }, 2, 0, PAGE, PAGE },
                { "on both sides of the last page",
                  { PFN(RAM_HIGH_GPA + HIGH_BYTES) - 1, PFN(RAM_HIGH_GPA + HIGH_BYTES) }, 2, 0,
                  PAGE, PAGE },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct giveback_stats stats;
                struct bench b;

                begin(&b);
                ask_with_list(&b, INFLATE, rows[i].pfn, rows[i].n * sizeof(uint32_t));
                EXPECT_EQUAL(rows[i].row, count_kept(&b), AREA_PAGES - rows[i].given);
                giveback_stats(b.giveback, &stats);
                EXPECT_EQUAL(rows[i].row, stats.given, rows[i].given_bytes);
                EXPECT_EQUAL(rows[i].row, stats.refused, rows[i].refused_bytes);
                EXPECT_EQUAL(rows[i].row, b.rig.signals[INFLATE], 1);
                end(&b);
        }
}

static void takes_lists_of_odd_sizes(void)
{
        static const struct {
                const char *row;
                uint32_t bytes;
                unsigned given;
        } rows[] = {
                { "less than a number", 3, 0 },
                { "a number and a half", 6, 1 },
                { "what Linux sends", 1024, 256 },
                { "the bound", 4096, 1024 },
                { "more", 8192, 1024 },
        };
        uint32_t pfn[2048];

        for (unsigned i = 0; i < ARRAY_SIZE(pfn); i++)
                pfn[i] = AREA_PFN + i;
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bench b;

                begin(&b);
                ask_with_list(&b, INFLATE, pfn, rows[i].bytes);
                EXPECT_EQUAL(rows[i].row, count_kept(&b), AREA_PAGES - rows[i].given);
                end(&b);
        }
}

/* A list for the device to write is none. */
static void reads_nothing_from_what_it_may_write(void)
{
        const struct vqguest_buf buf = { LIST_GPA, 4, true };
        const uint32_t pfn = htole32(AREA_PFN);
        struct bench b;

        begin(&b);
        virtio_rig_put(&b.rig, LIST_GPA, &pfn, sizeof(pfn));
        CU_ASSERT_EQUAL(virtio_rig_ask(&b.rig, INFLATE, &buf, 1), 0);
        CU_ASSERT_EQUAL(count_kept(&b), AREA_PAGES);
        end(&b);
}

static void deflates(void)
{
        const uint32_t pfn[] = { AREA_PFN, AREA_PFN + 1, UINT32_MAX };
        struct bench b;

        begin(&b);
        ask_with_list(&b, INFLATE, pfn, 8);
        ask_with_list(&b, DEFLATE, pfn, sizeof(pfn));
        CU_ASSERT_EQUAL(count_kept(&b), AREA_PAGES - 2);
        memset(ram_at(&b.rig.ram, AREA_GPA, 2 * PAGE), 0x5a, 2 * PAGE);
        ask_with_list(&b, DEFLATE, pfn, sizeof(pfn));
        CU_ASSERT_EQUAL(count_kept(&b), AREA_PAGES);
        end(&b);
}

static void takes_what_is_reported(void)
{
        const struct vqguest_buf bufs[] = {
                { AREA_GPA + 512 * PAGE, 512 * PAGE, true },
                { AREA_GPA, PAGE, true },
                { RAM_HIGH_GPA, PAGE, true },
                { AREA_GPA + 4 * PAGE + 100, 2 * PAGE, true },          /* one page lies in it */
                { AREA_GPA + 8 * PAGE, PAGE - 1, true },
        };
        const struct vqguest_buf out = { AREA_GPA, PAGE, false };
        struct bench b;

        begin(&b);
        CU_ASSERT_EQUAL(virtio_rig_ask(&b.rig, REPORTING, bufs, ARRAY_SIZE(bufs)), 0);
        CU_ASSERT_EQUAL(count_kept(&b), AREA_PAGES - 512 - 1 - 1);
        CU_ASSERT(page_is(&b, AREA_GPA + 5 * PAGE, 0));
        CU_ASSERT(page_is(&b, RAM_HIGH_GPA, 0));
        /* what the device may not write is not reported */
        memset(ram_at(&b.rig.ram, AREA_GPA, PAGE), 0x5a, PAGE);
        CU_ASSERT_EQUAL(virtio_rig_ask(&b.rig, REPORTING, &out, 1), 0);
        CU_ASSERT(page_is(&b, AREA_GPA, 0x5a));
        end(&b);
}

static void answers_but_keeps_while_held(void)
{
        const struct vqguest_buf reported = { AREA_GPA, 512 * PAGE, true };
        const uint32_t pfn[] = { AREA_PFN + 600, AREA_PFN + 601 };
        struct giveback_stats stats;
        struct bench b;

        begin(&b);
        giveback_hold(b.giveback);
        CU_ASSERT_EQUAL(virtio_rig_ask(&b.rig, REPORTING, &reported, 1), 0);
        ask_with_list(&b, INFLATE, pfn, sizeof(pfn));
        CU_ASSERT_EQUAL(count_kept(&b), AREA_PAGES);
        giveback_stats(b.giveback, &stats);
        CU_ASSERT_EQUAL(stats.deferred, 514 * PAGE);
        giveback_release(b.giveback);
        ask_with_list(&b, INFLATE, pfn, sizeof(pfn));
        CU_ASSERT_EQUAL(count_kept(&b), AREA_PAGES - 2);
        end(&b);
}

static void breaks_with_its_ring(void)
{
        const struct vqguest_buf buf = { 0xd0000000, PAGE, true };
        struct bench b;

        begin(&b);
        CU_ASSERT_EQUAL(virtio_rig_ask(&b.rig, REPORTING, &buf, 1), -1);
        CU_ASSERT(b.rig.broken[0]);
        b.rig.broken[0] = '\0';
        end(&b);
}

/* ---- the configuration -------------------------------------------------------------- */

static uint32_t config(struct bench *b, unsigned offset)
{
        uint32_t value;

        memcpy(&value, b->rig.dev->config + offset, sizeof(value));
        return le32toh(value);
}

static void driver_writes(struct bench *b, unsigned offset, uint32_t value)
{
        struct virtio_device *dev = b->rig.dev;

        value = htole32(value);
        lock_acquire(&dev->lock);
        memcpy(dev->config + offset, &value, sizeof(value));
        dev->class->config_written(dev, offset, sizeof(value));
        lock_release(&dev->lock);
}

static uint64_t told(struct bench *b, const char *key)
{
        AUTO_JSON *o = virtio_balloon_describe(b->rig.dev);
        uint64_t value = UINT64_MAX;
        struct err e;

        CU_ASSERT_EQUAL(json_take_u64(o, key, UINT64_MAX, &value, &e), 0);
        return value;
}

static void keeps_its_target(void)
{
        const uint32_t pfn = AREA_PFN;
        struct bench b;
        struct err e;

        begin(&b);
        CU_ASSERT_EQUAL(config(&b, 0), 0);
        CU_ASSERT_EQUAL(virtio_balloon_set_target(b.rig.dev, 5 << 20, &e), 0);
        CU_ASSERT_EQUAL(config(&b, 0), 5 << 8);
        driver_writes(&b, 0, 4711);
        CU_ASSERT_EQUAL(config(&b, 0), 5 << 8);
        driver_writes(&b, 2, UINT32_MAX);
        CU_ASSERT_EQUAL(config(&b, 0), 5 << 8);
        driver_writes(&b, 4, 3 << 8);
        CU_ASSERT_EQUAL(config(&b, 4), 3 << 8);
        CU_ASSERT_EQUAL(told(&b, "target_mib"), 5);
        CU_ASSERT_EQUAL(told(&b, "actual_mib"), 3);
        ask_with_list(&b, INFLATE, &pfn, sizeof(pfn));
        CU_ASSERT_EQUAL(told(&b, "given_back_bytes"), PAGE);
        CU_ASSERT_EQUAL(virtio_balloon_set_target(b.rig.dev, b.rig.ram.bytes, &e), 0);
        CU_ASSERT_EQUAL(virtio_balloon_set_target(b.rig.dev, b.rig.ram.bytes + 1, &e), -EINVAL);
        CU_ASSERT_EQUAL(config(&b, 0), b.rig.ram.bytes / PAGE);
        b.rig.dev->class->stop(b.rig.dev);
        CU_ASSERT_EQUAL(config(&b, 4), 0);
        end(&b);
}

static void takes_its_state_along(void)
{
        const struct virtio_class *class;
        AUTO_JSON *doc = json_object_new_object();
        uint32_t state;
        struct bench b;
        struct err e;

        begin(&b);
        class = b.rig.dev->class;
        CU_ASSERT_EQUAL_FATAL(class->state_bytes, sizeof(state));
        CU_ASSERT_EQUAL(virtio_balloon_set_target(b.rig.dev, 5 << 20, &e), 0);
        class->capture(b.rig.dev, &state);
        CU_ASSERT_EQUAL(class->encode(&state, doc, &e), 0);
        end(&b);

        begin(&b);
        state = 0;
        CU_ASSERT_EQUAL(class->decode(doc, &state, &e), 0);
        CU_ASSERT_EQUAL(class->apply(b.rig.dev, &state, &e), 0);
        CU_ASSERT_EQUAL(config(&b, 0), 5 << 8);
        driver_writes(&b, 0, 4711);
        CU_ASSERT_EQUAL(config(&b, 0), 5 << 8);
        end(&b);
}

static void refuses_made_up_states(void)
{
        static const struct {
                const char *row;
                const char *text;
                int rc;
        } rows[] = {
                { "good", "{\"target_pages\":268435456}", 0 },
                { "nothing", "{}", -EBADMSG },
                { "text", "{\"target_pages\":\"1\"}", -EBADMSG },
                { "negative", "{\"target_pages\":-1}", -EBADMSG },
                { "beyond any RAM", "{\"target_pages\":268435457}", -EBADMSG },
        };
        struct bench b;

        begin(&b);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *doc = NULL;
                uint32_t state = 0x11223344;
                struct err e;

                CU_ASSERT_EQUAL_FATAL(json_parse(rows[i].text, strlen(rows[i].text), &doc, &e), 0);
                EXPECT_EQUAL(rows[i].row, b.rig.dev->class->decode(doc, &state, &e), rows[i].rc);
                EXPECT_TRUE(rows[i].row, rows[i].rc == 0 || state == 0x11223344);
        }
        end(&b);
}

/* A guest that initialises free pages must not find ours in their place. */
static void offers_no_more_than_it_keeps(void)
{
        struct bench b;

        begin(&b);
        CU_ASSERT_EQUAL(b.rig.dev->host_features, 1u << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
                                                  1u << VIRTIO_BALLOON_F_REPORTING);
        end(&b);
}

static const CU_TestInfo cases[] = {
        { "gives back what the guest inflates with", inflates },
        { "takes lists of odd sizes", takes_lists_of_odd_sizes },
        { "reads nothing from what it may write", reads_nothing_from_what_it_may_write },
        { "deflates by touching nothing", deflates },
        { "gives back what is reported", takes_what_is_reported },
        { "answers, but keeps all, while held", answers_but_keeps_while_held },
        { "breaks with its ring", breaks_with_its_ring },
        { "keeps its target against the driver", keeps_its_target },
        { "takes its state along", takes_its_state_along },
        { "refuses states that were made up", refuses_made_up_states },
        { "offers no more than it keeps", offers_no_more_than_it_keeps },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("balloon", cases);
}
