/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what hardly ever comes about: a file that appears while another one is made
 *       to be it, a refcount table that is full to the last entry, counts that a file
 *       of ours cannot have, damage where a tag is added.
 * Method: a writer's own structures, or the file, are changed between its steps. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/store-tank.h"
#include "tests/unit/suite.h"

#define REFS_PER_BLOCK 1024u            /* of 4 KiB clusters; 512 blocks fill a table's */

static const struct qs_ram_range ram = { 0, 65536 };

static void start(struct tank *t)
{
        tank_begin(t, 12, QS_COMPRESS_NONE, &ram, 1);
        tank_evolve(t, 20);
}

/* Two find no file: the second one to publish does not throw the first one away. */
static void first_of_two(void)
{
        for (int force = 0; force < 2; force++) {
                struct qs_writer *w = NULL;
                struct tank t;

                start(&t);
                CU_ASSERT_EQUAL_FATAL(tank_write(&t, 0, force, &w, NULL), 0);
                CU_ASSERT_EQUAL(tank_add(&t, 1, force, NULL), 0);
                CU_ASSERT_EQUAL(qs_writer_publish(w, NULL), -EEXIST);
                qs_writer_free(w);
                tank_agrees(&t);
                CU_ASSERT_EQUAL(tank_add(&t, 0, force, NULL), 0);
                tank_agrees(&t);
                tank_end(&t);
        }
}

/* Blocks of refcounts count themselves: some thousands need some more. The sizes
 * are around ten full clusters of the table. */
static void full_table(void)
{
        for (uint64_t blocks = 5103; blocks < 5109; blocks++) {
                uint64_t end = blocks * REFS_PER_BLOCK - 100;
                struct qs_writer *w = NULL;
                struct tank t;

                start(&t);
                CU_ASSERT_EQUAL_FATAL(tank_write(&t, 0, false, &w, NULL), 0);
                CU_ASSERT_EQUAL_FATAL(space_reserve(&w->space, end - w->space.end, NULL), 0);
                space_extend(&w->space, end);           /* free space, as it were */
                CU_ASSERT_EQUAL(qs_writer_publish(w, NULL), 0);
                qs_writer_free(w);
                tank_end(&t);
        }
}

static void header_counted_twice(void)
{
        struct qs_writer *w = NULL;
        struct tank t;

        start(&t);
        CU_ASSERT_EQUAL_FATAL(tank_write(&t, 0, false, &w, NULL), 0);
        w->space.refs[0] = 2;
        CU_ASSERT_EQUAL(qs_writer_publish(w, NULL), 0);
        qs_writer_free(w);
        CU_ASSERT_EQUAL(tank_add(&t, 1, false, NULL), -EBADMSG);
        tank_end(&t);
}

/* A file of tag 0 alone, in whose first page a bit is flipped. */
static void start_damaged(struct tank *t)
{
        struct qs_image *m;
        struct extent x;
        uint8_t byte;

        start(t);
        memset(t->ram.bytes, 7, 4096);
        CU_ASSERT_EQUAL_FATAL(tank_add(t, 0, false, NULL), 0);
        m = tank_open(t, 0);
        CU_ASSERT_EQUAL_FATAL(image_extent(m, 0, 4096, &x, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(x.kind, L2_RAW);

        AUTO_FD fd = open(t->path, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(io_pread_full(fd, &byte, 1, x.offset + 9), 0);
        byte ^= 4;
        CU_ASSERT_EQUAL(io_pwrite_full(fd, &byte, 1, x.offset + 9), 0);
        qs_image_close(m);
}

static long wrong_clusters(const struct tank *t, unsigned i)
{
        struct qs_image *m = tank_open(t, i);
        long n = kit_compare(m, t->tag[i].bytes);

        qs_image_close(m);
        return n;
}

/* The first addition reads what is there. A page that is damaged is stored anew, and
 * not in the way of who replaces the tag that has it. */
static void damaged_neighbour(void)
{
        struct tank t;

        start_damaged(&t);
        CU_ASSERT_EQUAL_FATAL(tank_add(&t, 1, false, NULL), 0);
        CU_ASSERT_EQUAL(wrong_clusters(&t, 0), -EBADMSG);
        CU_ASSERT_EQUAL(wrong_clusters(&t, 1), 0);
        CU_ASSERT_EQUAL_FATAL(tank_add(&t, 0, true, NULL), 0);
        tank_agrees(&t);
        tank_end(&t);

        start_damaged(&t);
        CU_ASSERT_EQUAL_FATAL(tank_add(&t, 0, true, NULL), 0);
        tank_agrees(&t);
        tank_end(&t);
}

static const CU_TestInfo cases[] = {
        { "the first of two new files stays", first_of_two },
        { "a refcount table has room for all blocks", full_table },
        { "a wrong count of the header is refused", header_counted_twice },
        { "a damaged page of an older tag", damaged_neighbour },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-pool-odd", cases);
}
