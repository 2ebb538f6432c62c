/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a source leaves to its parent comes from there, page by page, everything else
 *       as the source has it; zeros are told, and no hole of a memfd is filled by reading.
 * Method: a source with one row of what it says, over a memfd with holes, over no parent. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/ramwhole.h"

#define PAGE 4096u
#define PAGES 8u
#define SPAN (PAGES * PAGE)
#define OWN 'o'
#define FLAT 'f'

/* Which pages are the parent's: a letter each. p: parent's, o: own. */
static const struct row {
        const char *what;
        enum qs_span_kind kind;
        const char *pages;              /* of DATA */
        bool in_buf;                    /* own bytes are put into buf, not shown in place */
        const char *over_flat;          /* o, f, 0 for each page; "0": zeros are told */
        const char *over_nothing;
} rows[] = {
        { "zeros", QS_SPAN_ZERO, "", false, "0", "0" },
        { "all the parent's", QS_SPAN_PARENT, "", false, "ff00f000", "0" },
        { "all own, in place", QS_SPAN_DATA, "oooooooo", false, "oooooooo", "oooooooo" },
        { "all own, copied", QS_SPAN_DATA, "oooooooo", true, "oooooooo", "oooooooo" },
        { "mixed, in place", QS_SPAN_DATA, "poppoopp", false, "fo00oo00", "0o00oo00" },
        { "mixed, copied", QS_SPAN_DATA, "poppoopp", true, "fo00oo00", "0o00oo00" },
        { "the parent's at both ends", QS_SPAN_DATA, "ppooooop", true, "ffooooo0", "00ooooo0" },
        { "marked one by one", QS_SPAN_DATA, "pppppppp", true, "ff00f000", "00000000" },
};

static uint8_t in_place[SPAN];

static const void *says(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        const struct row *r = ctx;
        uint8_t *to = r->in_buf ? buf : in_place;

        (void)e;
        CU_ASSERT(gpa == SPAN && bytes == SPAN);
        ret->kind = r->kind;
        if (r->kind != QS_SPAN_DATA)
                return NULL;
        memset(in_place, 'x', SPAN);
        for (size_t i = 0; i < PAGES; i++) {
                if (r->pages[i] == 'p')
                        qs_span_mark_parent(ret, i);
                else
                        memset(to + i * PAGE, OWN, PAGE);
        }
        return to;
}

static void expect_row(const struct row *r, int flat_fd, const char *want)
{
        const struct qs_ram_source inner = { .span = says, .ctx = (void *)(uintptr_t)r };
        uint8_t *buf = malloc(SPAN);
        struct qs_span s = { .kind = QS_SPAN_DATA };
        struct ramwhole *w = NULL;

        CU_ASSERT_FATAL(buf && ramwhole_new(&inner, flat_fd, &w, NULL) == 0);
        memset(buf, 'y', SPAN);

        struct qs_ram_source source = ramwhole_source(w);
        const uint8_t *data = source.span(source.ctx, SPAN, SPAN, buf, &s, NULL);

        EXPECT_TRUE(r->what, data != NULL || s.kind == QS_SPAN_ZERO);
        EXPECT_EQUAL(r->what, s.kind, strcmp(want, "0") ? QS_SPAN_DATA : QS_SPAN_ZERO);
        EXPECT_EQUAL(r->what, s.parent[0], 0);
        for (size_t i = 0; s.kind == QS_SPAN_DATA && i < SPAN; i++) {
                char is = want[i / PAGE] == '0' ? 0 : want[i / PAGE];

                if (data[i] != is) {
                        EXPECT_EQUAL(r->what, i, -1);
                        break;
                }
        }
        ramwhole_free(w);
        free(buf);
}

/* from SPAN on: ff00f000 */
static int make_flat(void)
{
        int fd = memfd_create("flat", MFD_CLOEXEC);
        char page[PAGE];

        memset(page, FLAT, sizeof(page));
        CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, 2 * SPAN) == 0);
        for (unsigned i = 0; i < PAGES; i++) {
                if (i == 0 || i == 1 || i == 4)
                        CU_ASSERT_EQUAL(pwrite(fd, page, PAGE, SPAN + i * PAGE), PAGE);
        }
        return fd;
}

static void over_flat(void)
{
        AUTO_FD fd = make_flat();
        struct stat st;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                expect_row(&rows[i], fd, rows[i].over_flat);
        CU_ASSERT(fstat(fd, &st) == 0 && st.st_blocks * 512 == 3 * PAGE);
}

static void over_nothing(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                expect_row(&rows[i], -1, rows[i].over_nothing);
}

static void over_a_hole(void)
{
        AUTO_FD fd = memfd_create("hole", MFD_CLOEXEC);

        CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, 2 * SPAN) == 0);
        expect_row(&rows[1], fd, "0");
        expect_row(&rows[4], fd, "0o00oo00");
}

static const void *fails(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                         struct err *e)
{
        (void)ctx;
        (void)gpa;
        (void)bytes;
        (void)buf;
        (void)ret;
        err_msg(e, EIO, "the source is gone");
        return NULL;
}

static void failures(void)
{
        AUTO_FD fd = make_flat();
        static uint8_t buf[SPAN];
        const struct qs_ram_source bad = { .span = fails };
        struct qs_span s = { .kind = QS_SPAN_DATA };
        struct err e = { 0 };
        struct ramwhole *w;

        CU_ASSERT_EQUAL_FATAL(ramwhole_new(&bad, fd, &w, &e), 0);

        struct qs_ram_source source = ramwhole_source(w);

        CU_ASSERT_PTR_NULL(source.span(source.ctx, SPAN, SPAN, buf, &s, &e));
        CU_ASSERT_STRING_EQUAL(e.text, "the source is gone");
        CU_ASSERT_PTR_NULL(source.next);
        ramwhole_free(w);

        /* a memfd that ends too early is damage, not zeros */
        const struct qs_ram_source parents = { .span = says, .ctx = (void *)(uintptr_t)&rows[7] };

        CU_ASSERT_EQUAL(ftruncate(fd, SPAN + PAGE), 0);
        CU_ASSERT_EQUAL_FATAL(ramwhole_new(&parents, fd, &w, &e), 0);
        source = ramwhole_source(w);
        CU_ASSERT_PTR_NULL(source.span(source.ctx, SPAN, SPAN, buf, &s, &e));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "cloned with"));
        ramwhole_free(w);
        ramwhole_free(NULL);
}

static const CU_TestInfo cases[] = {
        { "over flat memory", over_flat },
        { "over nothing: zeros", over_nothing },
        { "over a hole", over_a_hole },
        { "failures", failures },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("ramwhole", cases);
}
