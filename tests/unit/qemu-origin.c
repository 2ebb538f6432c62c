/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an image becomes what a revert needs: blocks, pages as the user corrects them, and
 *       its working set in units; what is no QEMU machine is refused. What was recorded
 *       is stored.
 * Method: images of qemu-image.c, with working sets that cross blocks and holes. */
#include "pageserver/adapters/qemu/origin.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/adapters/qemu/recording.h"
#include "tests/stress/qemu-image.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define IMAGE "qemu-origin.qcow2"
#define P 4096ull
#define RAM (4ull << 20)

static void make(struct qemu_image *m)
{
        struct qemu_image_options o = { .ram_bytes = RAM, .cluster_bits = 14, .seed = 1 };

        qemu_image_make(m, IMAGE, &o);
}

static const struct revert_options options = { .image = IMAGE, .postcopy = true };

static void blocks_and_pages(void)
{
        struct revert_options huge = options;
        struct qemu_image m;
        struct origin o;

        make(&m);
        CU_ASSERT_EQUAL_FATAL(origin_open(&o, &options, NULL), 0);
        CU_ASSERT_EQUAL(o.load.nblocks, 5);
        CU_ASSERT_STRING_EQUAL(o.ramblock[0].name, "pc.ram");
        CU_ASSERT(o.ramblock[0].bytes == RAM && o.ramblock[0].page_bytes == P);
        CU_ASSERT_EQUAL(o.nfirst, 0);
        CU_ASSERT_EQUAL(o.ram_bytes, RAM + (1u << 20) + 132 * 1024 + 28 * 1024 + P);
        origin_fini(&o);
        CU_ASSERT_EQUAL(named_add(&huge.page_size, "pc.ram=2M", "--page-size", NULL), 0);
        CU_ASSERT_EQUAL_FATAL(origin_open(&o, &huge, NULL), 0);
        CU_ASSERT_EQUAL(o.ramblock[0].page_bytes, 2u << 20);
        CU_ASSERT_EQUAL(o.pages.of[0].unit_bytes, 2u << 20);
        origin_fini(&o);
        CU_ASSERT_EQUAL(named_add(&huge.page_size, "pc.rom=2M", "--page-size", NULL), 0);
        CU_ASSERT(origin_open(&o, &huge, NULL) < 0);
        origin_fini(&o);
        qemu_image_fini(&m);
        unlink(IMAGE);
}

static void put(const struct qs_ram_range *set, size_t n)
{
        CU_ASSERT_EQUAL_FATAL(qs_working_set_put(IMAGE, NULL, NULL, set, n, NULL), 0);
}

static void working_sets(void)
{
        struct qemu_image m;
        struct origin o;

        make(&m);

        uint64_t vga = m.state.blocks.at[1].extents[0].gpa;
        struct qs_ram_range set[] = {
                { 20 * P, P },                          /* unit 5 */
                { RAM - P, vga - RAM + 6 * P },         /* its last, a hole, two of the next */
                { 0, 9 * P },                           /* units 0 to 2 */
                { RAM + P, P },                         /* in the hole */
        };

        put(set, ARRAY_SIZE(set));
        CU_ASSERT_EQUAL_FATAL(origin_open(&o, &options, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(o.nfirst, 4);
        CU_ASSERT(o.first[0].first == 5 && o.first[0].end == 6);
        CU_ASSERT(o.first[1].first == 255 && o.first[1].end == 256);
        CU_ASSERT(o.first[2].first == 256 && o.first[2].end == 258);
        CU_ASSERT(o.first[3].first == 0 && o.first[3].end == 3);
        origin_fini(&o);
        qemu_image_fini(&m);
        unlink(IMAGE);
}

static void it_is_no_machine(void)
{
        struct qs_writer_options w = {
                .cluster_bits = 14, .disk_bytes = RAM, .threads = 1, .force = true,
        };
        struct qs_writer *writer;
        struct err e = { 0 };
        struct origin o;

        CU_ASSERT_EQUAL_FATAL(qs_writer_new(IMAGE, &w, &writer, NULL), 0);
        CU_ASSERT_EQUAL(qs_writer_publish(writer, NULL), 0);
        qs_writer_free(writer);
        CU_ASSERT_EQUAL(origin_open(&o, &options, &e), -ENOENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "no QEMU machine"));
        origin_fini(&o);
        unlink(IMAGE);
        CU_ASSERT_EQUAL(origin_open(&o, &options, &e), -ENOENT);
        origin_fini(&o);
}

static void on_over(void *ctx)
{
        *(_Atomic int *)ctx += 1;
}

/* pages of two blocks, in the order in which they were touched */
static void it_is_recorded(void)
{
        _Atomic int over = 0;
        struct recording_options r = { .path = IMAGE, .seconds = 60, .over = on_over,
                                       .ctx = &over };
        struct recording *recording;
        struct qemu_image m;
        struct origin o;

        make(&m);
        CU_ASSERT_EQUAL_FATAL(origin_open(&o, &options, NULL), 0);
        r.image = o.image;
        r.blocks = &o.state.blocks;
        CU_ASSERT_EQUAL_FATAL(recording_new(&r, &recording, NULL), 0);
        recording_begin(recording);
        recording_touch(recording, 1, 0, P);
        recording_touch(recording, 0, 40 * P, 2 * P);
        recording_touch(recording, 0, 41 * P, P);
        CU_ASSERT_EQUAL(recording_end(recording, NULL), 0);
        CU_ASSERT_EQUAL(over, 0);
        recording_free(recording);
        origin_fini(&o);
        CU_ASSERT_EQUAL_FATAL(origin_open(&o, &options, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(o.nfirst, 2);
        CU_ASSERT(o.first[0].first == 256 && o.first[1].first == 10 && o.first[1].end == 11);
        origin_fini(&o);
        qemu_image_fini(&m);
        unlink(IMAGE);
}

/* after its time, while the file has gone; and nothing at all */
static void it_cannot_be_stored(void)
{
        _Atomic int over = 0;
        struct recording_options r = { .path = IMAGE, .seconds = 1, .over = on_over,
                                       .ctx = &over };
        struct recording *recording;
        struct qemu_image m;
        struct origin o;
        struct err e = { 0 };

        make(&m);
        CU_ASSERT_EQUAL_FATAL(origin_open(&o, &options, NULL), 0);
        r.image = o.image;
        r.blocks = &o.state.blocks;
        CU_ASSERT_EQUAL_FATAL(recording_new(&r, &recording, NULL), 0);
        recording_touch(recording, 0, 0, P);
        unlink(IMAGE);
        usleep(1200000);
        CU_ASSERT_EQUAL(over, 0);       /* its time has not begun */
        recording_begin(recording);
        while (!over)
                usleep(10000);
        CU_ASSERT_EQUAL(recording_end(recording, &e), -ENOENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "the working set is not stored"));
        recording_free(recording);
        CU_ASSERT_EQUAL_FATAL(recording_new(&r, &recording, NULL), 0);
        CU_ASSERT_EQUAL(recording_end(recording, &e), -ENODATA);
        recording_free(recording);
        CU_ASSERT_EQUAL_FATAL(recording_new(&r, &recording, NULL), 0);
        recording_free(recording);      /* dropped */
        origin_fini(&o);
        qemu_image_fini(&m);
}

static const CU_TestInfo cases[] = {
        { "blocks and their pages", blocks_and_pages },
        { "working sets become units", working_sets },
        { "an image of something else", it_is_no_machine },
        { "what is recorded is stored", it_is_recorded },
        { "what cannot be stored", it_cannot_be_stored },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-origin", cases);
}
