/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an image that was yielded is in nobody's way, and is regained only if nobody touched
 *       it meanwhile; then it is as locked as when it was opened.
 * Method: the image of store-locks.c; everything that can be done to a file, one by one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/store-twin.h"
#include "tests/unit/suite.h"

static bool anything_taken(const struct twin *p)
{
        return twin_taken(p, 100) || twin_taken(p, 201) || twin_taken(p, TWIN_TAG_BYTE(1)) ||
               twin_taken(p, TWIN_TAG_BYTE(2));
}

static void untouched(void)
{
        struct twin p;
        uint8_t page[4096];
        bool zero;

        twin_make(&p);

        struct qs_image *image = twin_open_tag(&p, "two", NULL);
        struct qs_reader *reader;

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        qs_image_yield(image);
        CU_ASSERT(!anything_taken(&p));
        CU_ASSERT_EQUAL(qs_image_regain(image, NULL), 0);
        CU_ASSERT(!twin_taken(&p, 100) && twin_taken(&p, 201));
        CU_ASSERT(twin_taken(&p, TWIN_TAG_BYTE(2)) && !twin_taken(&p, TWIN_TAG_BYTE(1)));
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &reader, NULL), 0);
        CU_ASSERT_EQUAL(qs_span_read(reader, 0, sizeof(page), page, &zero, NULL), 0);
        qs_reader_free(reader);
        qs_image_close(image);
        CU_ASSERT(twin_remove(&p));
}

static void one_byte(const struct twin *p)
{
        twin_write(p, "x", 1, 65536);
}

static void longer(const struct twin *p)
{
        struct stat st;

        CU_ASSERT(stat(p->path, &st) == 0 && truncate(p->path, st.st_size + 1) == 0);
}

/* who writes and then sets the time back */
static void old_time(const struct twin *p)
{
        struct stat st;

        CU_ASSERT_EQUAL(stat(p->path, &st), 0);
        one_byte(p);

        const struct timespec times[] = { st.st_atim, st.st_mtim };

        CU_ASSERT_EQUAL(utimensat(AT_FDCWD, p->path, times, 0), 0);
}

static void other_header(const struct twin *p)
{
        twin_write(p, p->sector[0], LAYOUT_SECTOR_BYTES, 0);
}

static void named_otherwise(const struct twin *p)
{
        char other[KIT_PATH_MAX + 2];

        snprintf(other, sizeof(other), "%s.x", p->path);
        CU_ASSERT(rename(p->path, other) == 0 && rename(other, p->path) == 0);
}

static void gone(const struct twin *p)
{
        CU_ASSERT_EQUAL(unlink(p->path), 0);
}

static void replaced(const struct twin *p)
{
        struct twin other;

        twin_make(&other);
        CU_ASSERT_EQUAL(rename(other.path, p->path), 0);
        CU_ASSERT(twin_remove(&other));
}

static void compacted(const struct twin *p)
{
        CU_ASSERT_EQUAL(qs_compact(p->path, NULL, NULL, &(struct qs_writer_stats){ 0 }, NULL), 0);
}

static const struct {
        const char *what;
        void (*act)(const struct twin *p);
} touches[] = {
        { "a byte written", one_byte },
        { "made longer", longer },
        { "written, its time set back", old_time },
        { "another header", other_header },
        { "named otherwise, and back", named_otherwise },
        { "deleted", gone },
        { "replaced", replaced },
        { "compacted", compacted },
};

/* ctime moves by the tick of a clock */
static void wait_a_tick(void)
{
        usleep(20000);
}

static void touched(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(touches); i++) {
                struct twin p;
                struct err e = { 0 };

                twin_make(&p);

                struct qs_image *image = twin_open_tag(&p, "two", NULL);

                CU_ASSERT_PTR_NOT_NULL_FATAL(image);
                wait_a_tick();
                qs_image_yield(image);
                touches[i].act(&p);

                int rc = qs_image_regain(image, &e);

                if (rc != -ESTALE)
                        fprintf(stderr, "%s: %d %s\n", touches[i].what, rc, e.text);
                CU_ASSERT_EQUAL(rc, -ESTALE);
                qs_image_close(image);
                (void)twin_remove(&p);
        }
}

/* by one who asks for no lock */
static void touched_before(void)
{
        struct twin p;

        twin_make(&p);

        struct qs_image *image = twin_open_tag(&p, "two", NULL);

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        wait_a_tick();
        one_byte(&p);
        qs_image_yield(image);
        CU_ASSERT_EQUAL(qs_image_regain(image, NULL), -ESTALE);
        qs_image_close(image);
        CU_ASSERT(twin_remove(&p));
}

static void writer_there(void)
{
        struct twin p;

        twin_make(&p);

        struct qs_image *image = twin_open_tag(&p, "two", NULL);
        AUTO_FD writer = twin_open_rw(&p);
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = TWIN_TAG_BYTE(2),
                           .l_len = 1 };

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT_EQUAL(fcntl(writer, F_OFD_SETLK, &l), -1);
        qs_image_yield(image);
        CU_ASSERT_EQUAL(fcntl(writer, F_OFD_SETLK, &l), 0);
        CU_ASSERT_EQUAL(qs_image_regain(image, NULL), -EAGAIN);
        qs_image_close(image);
        CU_ASSERT(twin_remove(&p));
}

static const CU_TestInfo cases[] = {
        { "nobody touched it", untouched },
        { "whatever is done to it is seen", touched },
        { "even before it is yielded", touched_before },
        { "somebody writes when it is wanted", writer_there },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-yield", cases);
}
