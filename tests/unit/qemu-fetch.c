/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: every page that is not zero is handed out once and rightly, zeros only when asked
 *       for; requests go before the background; it is done when it says so, not before.
 * Method: an image of known content, one thread that takes batches and compares. */
#include "pageserver/adapters/qemu/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/rate.h"
#include "tests/stress/qemu-image.h"
#include "tests/unit/suite.h"

#define IMAGE "qemu-fetch.qcow2"
#define P 4096u
#define RAM (4ull << 20)

struct bench {
        struct qemu_image image;
        struct qs_image *file;
        struct hostpages pages;
        struct fetch *fetch;
        struct fetch_batch batch;
        uint64_t data_pages, zero_pages;
        bool wrong;
};

static void setup(struct bench *b, bool zeros, uint32_t page_bytes)
{
        struct qemu_image_options o = {
                .ram_bytes = RAM, .cluster_bits = 14, .seed = 11, .ram_page_bytes = page_bytes,
        };
        struct fetch_options f = { .rate = RATE_UNLIMITED, .zeros = zeros, .threads = 2 };
        int rc;

        memset(b, 0, sizeof(*b));
        qemu_image_make(&b->image, IMAGE, &o);
        rc = qs_image_open_path(IMAGE, NULL, &b->file, NULL);
        ASSERT(rc == 0);
        rc = hostpages_init(&b->pages, &b->image.state.blocks, P, 1u << 14, NULL);
        ASSERT(rc == 0);
        f.image = b->file;
        f.pages = &b->pages;
        rc = fetch_new(&f, &b->fetch, NULL);
        ASSERT(rc == 0);
}

static void teardown(struct bench *b)
{
        CU_ASSERT(!b->wrong);
        fetch_free(b->fetch);
        hostpages_fini(&b->pages);
        qs_image_close(b->file);
        qemu_image_fini(&b->image);
        unlink(IMAGE);
}

/* Counts and compares what was handed out. */
static void look(struct bench *b)
{
        for (unsigned i = 0; i < b->batch.n; i++) {
                const struct fetch_piece *x = &b->batch.piece[i];

                for (uint64_t at = 0; at < x->bytes; at += P) {
                        const uint8_t *want = qemu_image_at(&b->image, x->block, x->offset + at);
                        bool zero = qemu_image_is_zero(&b->image, x->block, x->offset + at, P);

                        b->wrong |= x->data ? memcmp(x->data + at, want, P) != 0 : !zero;
                }
                *(x->data ? &b->data_pages : &b->zero_pages) += x->bytes / P;
        }
}

static enum fetch_next take(struct bench *b, uint64_t bytes, uint64_t until_ns)
{
        struct err e;
        enum fetch_next next = fetch_take(b->fetch, bytes, until_ns, &b->batch, &e);

        if (next == FETCH_BATCH)
                look(b);
        return next;
}

static enum fetch_next take_all(struct bench *b)
{
        enum fetch_next next;

        while ((next = take(b, 100000, FETCH_NEVER)) == FETCH_BATCH)
                ;
        return next;
}

/* pages of the target */
static uint64_t count(const struct bench *b, bool zero)
{
        uint64_t n = 0;

        for (unsigned i = 0; i < b->image.state.blocks.n; i++) {
                for (uint64_t at = 0; at < b->image.state.blocks.at[i].bytes; at += P)
                        n += qemu_image_is_zero(&b->image, i, at, P) == zero;
        }
        return n;
}

static uint64_t find(const struct bench *b, bool zero, uint64_t from)
{
        while (qemu_image_is_zero(&b->image, 0, from, P) != zero)
                from += P;
        return from;
}

static void the_background(void)
{
        static struct bench b;

        setup(&b, false, 0);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT_EQUAL(b.data_pages, count(&b, false));
        CU_ASSERT_EQUAL(b.zero_pages, 0);
        teardown(&b);
        setup(&b, true, 0);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT_EQUAL(b.data_pages, count(&b, false));
        CU_ASSERT_EQUAL(b.zero_pages, count(&b, true));
        teardown(&b);
}

/* before anything is let go, the rest of its unit only where there is room */
static void a_request(void)
{
        static struct bench b;
        struct fetch_stats s;

        setup(&b, false, 0);

        uint64_t offset = find(&b, false, 100 * P), zero = find(&b, true, 300 * P);

        fetch_want(b.fetch, 0, offset);
        fetch_want(b.fetch, 0, offset);
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_BATCH);
        CU_ASSERT(b.batch.requests == 1 && b.batch.n == 1 && b.data_pages == 1);
        CU_ASSERT(b.batch.piece[0].block == 0 && b.batch.piece[0].offset == offset);
        fetch_want(b.fetch, 0, zero);
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_BATCH);
        CU_ASSERT(b.batch.requests == 1 && b.zero_pages == 1 && b.data_pages == 1);
        CU_ASSERT_EQUAL(take(&b, 0, clock_now_ns() + NS_PER_MS), FETCH_WAITED);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT_EQUAL(b.data_pages, count(&b, false));
        CU_ASSERT_EQUAL(b.zero_pages, 1);
        fetch_stats(b.fetch, &s);
        CU_ASSERT(s.requests == 2 && s.repeated == 1 && s.zero_answers == 1);
        teardown(&b);
}

/* INV-COVERED: what was not sent is zero, and asked for after all */
static void a_late_request(void)
{
        static struct bench b;

        setup(&b, false, 0);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        fetch_want(b.fetch, 0, find(&b, false, 0));     /* was sent */
        CU_ASSERT_EQUAL(take(&b, 100000, FETCH_NEVER), FETCH_DONE);
        fetch_want(b.fetch, 0, find(&b, true, 0));
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_BATCH);
        CU_ASSERT(b.batch.requests == 1 && b.zero_pages == 1);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        teardown(&b);
}

/* every page at once */
static void a_flood(void)
{
        static struct bench b;

        setup(&b, false, 0);
        for (uint64_t at = 0; at < RAM; at += P)
                fetch_want(b.fetch, 0, at);
        while (b.data_pages + b.zero_pages < RAM / P)
                CU_ASSERT_EQUAL_FATAL(take(&b, 0, FETCH_NEVER), FETCH_BATCH);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT_EQUAL(b.data_pages, count(&b, false));
        teardown(&b);
}

/* a part, and nothing is done before the rest is let go */
static void a_limit(void)
{
        static struct bench b;

        setup(&b, false, 0);
        fetch_go(b.fetch, RAM / 2);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT(b.data_pages > count(&b, false) / 4 && b.data_pages < count(&b, false));
        fetch_pause(b.fetch);
        CU_ASSERT_EQUAL(take(&b, 100000, clock_now_ns() + NS_PER_MS), FETCH_WAITED);
        fetch_go(b.fetch, 2 * RAM);     /* more than all: the last unit is left */
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT(!bits_test(&b.pages.taken, b.pages.units - 1));
        fetch_pause(b.fetch);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        CU_ASSERT_EQUAL(b.data_pages, count(&b, false));
        teardown(&b);
}

/* zeros are answered while it is not to be done yet */
static void it_is_held(void)
{
        static struct bench b;

        setup(&b, false, 0);
        fetch_hold(b.fetch, true);
        fetch_go(b.fetch, FETCH_NEVER);
        while (b.data_pages < count(&b, false))
                CU_ASSERT_EQUAL_FATAL(take(&b, 100000, FETCH_NEVER), FETCH_BATCH);
        CU_ASSERT_EQUAL(take(&b, 100000, clock_now_ns() + NS_PER_MS), FETCH_WAITED);
        fetch_want(b.fetch, 0, find(&b, true, 0));
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_BATCH);
        CU_ASSERT_EQUAL(b.zero_pages, 1);
        fetch_hold(b.fetch, false);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        teardown(&b);
}

static void huge_pages(void)
{
        static struct bench b;

        setup(&b, false, 2u << 20);
        fetch_want(b.fetch, 0, 2u << 20);
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_BATCH);
        for (unsigned i = 0; i + 1 < b.batch.n; i++)
                CU_ASSERT_EQUAL(b.batch.piece[i].offset + b.batch.piece[i].bytes,
                                b.batch.piece[i + 1].offset);
        CU_ASSERT_EQUAL((b.data_pages + b.zero_pages) * P, 2u << 20);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_DONE);
        teardown(&b);
}

static void the_end(void)
{
        static struct bench b;

        setup(&b, false, 0);
        fetch_close(b.fetch);
        fetch_want(b.fetch, 0, 0);
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_CLOSED);
        teardown(&b);
}

static void a_bad_image(void)
{
        static struct bench b;

        setup(&b, false, 0);
        qemu_image_damage(IMAGE);
        fetch_go(b.fetch, FETCH_NEVER);
        CU_ASSERT_EQUAL(take_all(&b), FETCH_FAILED);
        CU_ASSERT_EQUAL(take(&b, 0, FETCH_NEVER), FETCH_FAILED);
        teardown(&b);
}

static const CU_TestInfo cases[] = {
        { "the background hands out all once", the_background },
        { "a request goes first", a_request },
        { "a late request for zeros", a_late_request },
        { "every page is asked for", a_flood },
        { "a part, then the rest", a_limit },
        { "it is not done while it is held", it_is_held },
        { "huge pages are whole", huge_pages },
        { "the end drops requests", the_end },
        { "a bad image", a_bad_image },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-fetch", cases);
}
