/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a sealed table is bijective; both ways of looking up agree; what is not so is
 *       refused with its reason; what the writer is asked for covers all of it.
 * Method: tables of right and wrong blocks; a table of many blocks in random order against
 *         a search without an index. */
#include "pageserver/adapters/qemu/blocks.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define PAGE 4096ull

static void add(struct qemu_blocks *b, const char *name, uint64_t bytes)
{
        ASSERT(qemu_blocks_add(b, name, strlen(name), bytes, NULL) == 0);
}

static void names(void)
{
        static const struct {
                const char *name;
                size_t bytes;
                bool good;
        } rows[] = {
                { "pc.ram", 6, true }, { "/rom@etc/acpi/tables", 20, true },
                { "0000:00:02.0/vga.vram", 21, true }, { "m\xc3\xbcll", 5, true },
                { "", 0, false }, { "a\nb", 3, false }, { "a\0b", 3, false },
                { "\xff", 1, false }, { "a\x7f", 2, false }, { "pc.ram", 6, false },
        };
        struct qemu_blocks b = { 0 };
        char longest[QEMU_NAME_MAX + 1];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                EXPECT_EQUAL(rows[i].name,
                             qemu_blocks_add(&b, rows[i].name, rows[i].bytes, PAGE, NULL),
                             rows[i].good ? 0 : -EBADMSG);
        memset(longest, 'x', sizeof(longest));
        CU_ASSERT_EQUAL(qemu_blocks_add(&b, longest, sizeof(longest), PAGE, NULL), -EBADMSG);
        CU_ASSERT_EQUAL(qemu_blocks_add(&b, longest, sizeof(longest) - 1, PAGE, NULL), 0);
        CU_ASSERT_EQUAL(b.n, 5);
        CU_ASSERT_EQUAL(qemu_blocks_find(&b, "/rom@etc/acpi/tables"), 1);
        CU_ASSERT_EQUAL(qemu_blocks_find(&b, "pc.ra"), -1);
        qemu_blocks_fini(&b);
        for (unsigned i = 0; i < QEMU_BLOCKS_MAX; i++) {
                char name[8];

                snprintf(name, sizeof(name), "%u", i);
                add(&b, name, PAGE);
        }
        CU_ASSERT_EQUAL(qemu_blocks_add(&b, "one more", 8, PAGE, NULL), -EBADMSG);
        qemu_blocks_fini(&b);
}

#define DISK (64 * PAGE)

static const struct {
        const char *name;
        uint32_t page_size;             /* of the target */
        struct qemu_block block[2];
        const char *why;                /* NULL = right */
} tables[] = {
        { "one", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                           .extents = { { 0, 0, PAGE } } } }, NULL },
        { "to the end", 4096, { { .bytes = DISK, .page_size = 4096, .n_extents = 1,
                                  .extents = { { 0, 0, DISK } } } }, NULL },
        { "cut, in another order", 4096,
          { { .bytes = 2 * PAGE, .page_size = 4096, .n_extents = 2,
              .extents = { { 0, 8 * PAGE, PAGE }, { PAGE, 0, PAGE } } },
            { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
              .extents = { { 0, PAGE, PAGE } } } }, NULL },
        { "huge", 4096, { { .bytes = 8 * PAGE, .page_size = 16384, .n_extents = 1,
                            .extents = { { 0, PAGE, 8 * PAGE } } } }, NULL },
        { "pages of the target", 16384, { { .bytes = 8 * PAGE, .page_size = 4096, .n_extents = 1,
                                            .extents = { { 0, 4 * PAGE, 8 * PAGE } } } }, NULL },
        { "empty ones", 4096, { { .bytes = 0, .page_size = 4096 } }, "all RAM blocks are empty" },
        { "small pages", 2048, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                                   .extents = { { 0, 0, PAGE } } } }, "pages of 2048" },
        { "odd pages", 5000, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                                 .extents = { { 0, 0, PAGE } } } }, "pages of 5000" },
        { "odd host pages", 4096, { { .bytes = PAGE, .page_size = 5000, .n_extents = 1,
                                      .extents = { { 0, 0, PAGE } } } }, "of 5000 bytes" },
        { "no host pages", 4096, { { .bytes = PAGE, .n_extents = 1,
                                     .extents = { { 0, 0, PAGE } } } }, "of 0 bytes" },
        { "half a page", 4096, { { .bytes = 2048, .page_size = 4096, .n_extents = 1,
                                   .extents = { { 0, 0, 2048 } } } }, "not whole pages" },
        { "half a huge page", 4096, { { .bytes = 6 * PAGE, .page_size = 16384, .n_extents = 1,
                                        .extents = { { 0, 0, 6 * PAGE } } } }, "not whole pages" },
        { "too little", 4096, { { .bytes = 2 * PAGE, .page_size = 4096, .n_extents = 1,
                                  .extents = { { 0, 0, PAGE } } } }, "have 4096 of its 8192" },
        { "nothing", 4096, { { .bytes = PAGE, .page_size = 4096 } }, "have 0 of its 4096" },
        { "too much", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                                .extents = { { 0, 0, 2 * PAGE } } } }, "do not follow" },
        { "wraps", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 2,
                             .extents = { { 0, 0, 2 * PAGE }, { 2 * PAGE, 0, -PAGE } } } },
          "do not follow" },
        { "a gap", 4096, { { .bytes = 2 * PAGE, .page_size = 4096, .n_extents = 2,
                             .extents = { { 0, 0, PAGE }, { 2 * PAGE, PAGE, PAGE } } } },
          "do not follow" },
        { "an empty extent", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 2,
                                       .extents = { { 0, 0, 0 }, { 0, 0, PAGE } } } },
          "do not follow" },
        { "not at a page", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                                     .extents = { { 0, 2048, PAGE } } } }, "not of whole pages" },
        { "behind the end", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                                      .extents = { { 0, DISK, PAGE } } } }, "behind" },
        { "around zero", 4096, { { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                                   .extents = { { 0, -PAGE, PAGE } } } }, "behind" },
        { "cut in a huge page", 4096,
          { { .bytes = 8 * PAGE, .page_size = 32768, .n_extents = 2,
              .extents = { { 0, 0, 4 * PAGE }, { 4 * PAGE, 8 * PAGE, 4 * PAGE } } } },
          "middle of a page" },
        { "overlap", 4096, { { .bytes = 2 * PAGE, .page_size = 4096, .n_extents = 1,
                               .extents = { { 0, 0, 2 * PAGE } } },
                             { .bytes = PAGE, .page_size = 4096, .n_extents = 1,
                               .extents = { { 0, PAGE, PAGE } } } }, "'0' and '1' overlap" },
        { "the same place", 4096, { { .bytes = 2 * PAGE, .page_size = 4096, .n_extents = 2,
                                      .extents = { { 0, 0, PAGE }, { PAGE, 0, PAGE } } } },
          "'0' and '0' overlap" },
};

static void fill(struct qemu_blocks *b, const struct qemu_block block[2])
{
        *b = (struct qemu_blocks){ .disk_bytes = DISK };
        for (unsigned i = 0; i < 2; i++) {
                char name[2] = { (char)('0' + i), 0 };

                if (i > 0 && block[i].bytes == 0)
                        break;
                add(b, name, 0);
                b->at[i] = block[i];
                strcpy(b->at[i].name, name);
        }
}

static void rules(void)
{
        struct qemu_blocks none = { .disk_bytes = DISK };

        for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
                struct qemu_blocks b;
                struct err e = { 0 };

                fill(&b, tables[i].block);
                EXPECT_EQUAL(tables[i].name, qemu_blocks_seal(&b, tables[i].page_size, &e),
                             tables[i].why ? -EBADMSG : 0);
                EXPECT_TEXT(tables[i].name,
                            tables[i].why && strstr(e.text, tables[i].why) ? "" : e.text, "");
                qemu_blocks_fini(&b);
        }
        CU_ASSERT_EQUAL(qemu_blocks_seal(&none, 4096, NULL), -EBADMSG);
        fill(&none, tables[0].block);
        none.disk_bytes = QS_DISK_BYTES_MAX + PAGE;
        CU_ASSERT_EQUAL(qemu_blocks_seal(&none, 4096, NULL), -EBADMSG);
        qemu_blocks_fini(&none);
}

/* 20 blocks of 4 extents, one page to 8 each, in random order with gaps */
static void scatter(struct qemu_blocks *b)
{
        struct qemu_extent *x[80];
        uint64_t random = 7, gpa = 5 * PAGE;

        *b = (struct qemu_blocks){ 0 };
        for (unsigned i = 0; i < 20; i++) {
                char name[8];

                snprintf(name, sizeof(name), "%u", i);
                add(b, name, 0);
                for (unsigned k = 0; k < 4; k++) {
                        struct qemu_block *block = &b->at[i];

                        block->extents[k] = (struct qemu_extent){
                                .at = block->bytes, .bytes = (1 + store_random(&random) % 8) * PAGE,
                        };
                        block->bytes += block->extents[k].bytes;
                        block->n_extents = k + 1;
                        x[i * 4 + k] = &block->extents[k];
                }
        }
        for (unsigned n = 80; n > 0; n--) {
                unsigned pick = (unsigned)(store_random(&random) % n);

                x[pick]->gpa = gpa;
                gpa += x[pick]->bytes + store_random(&random) % 3 * PAGE;
                x[pick] = x[n - 1];
        }
        b->disk_bytes = gpa;
        ASSERT(qemu_blocks_seal(b, PAGE, NULL) == 0);
}

/* every place is found from both sides; returns the pages */
static uint64_t walk(const struct qemu_blocks *b)
{
        uint64_t pages = 0;

        for (uint64_t gpa = 0; gpa < b->disk_bytes + 2 * PAGE; gpa += PAGE) {
                unsigned block = 77;
                uint64_t offset = 0, run = 0, back = 0, back_run = 0;

                if (!qemu_blocks_at(b, gpa, &block, &offset, &run))
                        continue;
                pages++;
                CU_ASSERT_TRUE(qemu_blocks_gpa(b, block, offset, &back, &back_run));
                CU_ASSERT_EQUAL(back, gpa);
                CU_ASSERT_EQUAL(back_run, run);
                CU_ASSERT_TRUE(run >= PAGE);
        }
        return pages;
}

static void both_ways_agree(void)
{
        struct qemu_blocks b;
        uint64_t pages = 0, gpa, run;

        scatter(&b);
        for (unsigned i = 0; i < b.n; i++) {
                pages += b.at[i].bytes / PAGE;
                CU_ASSERT_FALSE(qemu_blocks_gpa(&b, i, b.at[i].bytes, &gpa, &run));
                CU_ASSERT_TRUE(qemu_blocks_gpa(&b, i, b.at[i].bytes - 1, &gpa, &run));
                CU_ASSERT_EQUAL(run, 1);
        }
        CU_ASSERT_EQUAL(b.n_places, 80);
        CU_ASSERT_EQUAL(walk(&b), pages);
        qemu_blocks_fini(&b);
}

static void ranges_cover_all(void)
{
        struct qs_ram_range r[QS_RAM_RANGES_MAX];
        struct qemu_blocks b;
        size_t n, in = 0;

        scatter(&b);
        n = qemu_blocks_ranges(&b, r);
        CU_ASSERT_EQUAL(n, QS_RAM_RANGES_MAX);
        for (size_t i = 0; i < n; i++)
                CU_ASSERT_TRUE(i == 0 || r[i].gpa > r[i - 1].gpa + r[i - 1].bytes);
        for (size_t i = 0; i < b.n_places; i++) {
                const struct qemu_place *p = &b.places[i];

                while (in + 1 < n && p->gpa >= r[in].gpa + r[in].bytes)
                        in++;
                CU_ASSERT_TRUE(p->gpa >= r[in].gpa &&
                               p->gpa + p->bytes <= r[in].gpa + r[in].bytes);
        }
        qemu_blocks_fini(&b);
        fill(&b, tables[2].block);
        CU_ASSERT_EQUAL(qemu_blocks_seal(&b, PAGE, NULL), 0);
        CU_ASSERT_EQUAL(qemu_blocks_ranges(&b, r), 2);
        CU_ASSERT_EQUAL(r[0].bytes, 2 * PAGE);
        CU_ASSERT_EQUAL(r[1].gpa, 8 * PAGE);
        qemu_blocks_fini(&b);
}

static void json_round_trip(void)
{
        struct qemu_blocks b, back;

        scatter(&b);

        struct json_object *list = qemu_blocks_encode(&b);

        CU_ASSERT_EQUAL_FATAL(qemu_blocks_decode(list, b.disk_bytes, &back, NULL), 0);
        json_object_put(list);
        CU_ASSERT_EQUAL_FATAL(qemu_blocks_seal(&back, PAGE, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(back.n, b.n);
        CU_ASSERT_EQUAL(memcmp(back.at, b.at, b.n * sizeof(*b.at)), 0);
        CU_ASSERT_EQUAL(memcmp(back.places, b.places, b.n_places * sizeof(*b.places)), 0);
        qemu_blocks_fini(&b);
        qemu_blocks_fini(&back);
}

static const CU_TestInfo cases[] = {
        { "names are texts, and new", names },
        { "the rules of a table", rules },
        { "both ways of looking up agree", both_ways_agree },
        { "what the writer is asked for covers all", ranges_cover_all },
        { "JSON and back", json_round_trip },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-blocks", cases);
}
