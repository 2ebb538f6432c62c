/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM comes into the memfd as the source has it, each MiB asked for once, nothing
 *       outside RAM; pages of zeros take no memory; a failure ends it with the source's
 *       sentence.
 * Method: a source that counts, of a guest with a PCI hole. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/suite.h"
#include "vmm/clone-copy.h"

#define MIB (1ull << 20)
#define PAGE 4096u
/* 3 GiB below the hole and 4 MiB above it */
#define RAM_BYTES (RAM_LOW_END_GPA + 4 * MIB)
#define PIECES ((RAM_HIGH_GPA + 4 * MIB) / MIB)

struct fake {
        _Atomic unsigned char asked[PIECES];
        _Atomic unsigned wrong;         /* spans that are no piece of RAM */
        uint64_t bad_gpa;               /* there it fails; 0 = nowhere */
        _Atomic unsigned calls;
        unsigned stop_after;            /* 0 = never */
        bool names_some;                /* what is in wanted[] */
        _Atomic unsigned named;
        _Atomic unsigned late;          /* of the first of them, others came before */
};

/* some pieces have content: all of one, two pages of another, both ends of RAM */
static bool filled(uint64_t gpa)
{
        uint64_t in_piece = gpa % MIB;

        if (gpa / MIB == 7 || gpa / MIB == PIECES - 1)
                return true;
        if (gpa / MIB == 100)
                return in_piece == 3 * PAGE || in_piece == MIB - PAGE;
        return gpa == 0 || gpa == RAM_LOW_END_GPA - PAGE;
}

/* then some of it again, and some in no piece of RAM */
#define WANTED 3
static const uint64_t wanted[] = {
        2000 * MIB + 5 * PAGE, RAM_HIGH_GPA + 3 * MIB, 1000 * MIB,
        2000 * MIB, RAM_LOW_END_GPA + MIB, RAM_HIGH_GPA + 4 * MIB, UINT64_MAX,
};

/* Whoever has another piece waits until those are asked for: some thread has them. */
static void wait_for_wanted(struct fake *f, uint64_t gpa)
{
        unsigned tries = 0;

        for (size_t i = 0; i < WANTED; i++) {
                if (gpa / MIB == wanted[i] / MIB)
                        return;
        }
        for (size_t i = 0; i < WANTED; i++) {
                while (!f->asked[wanted[i] / MIB] && !f->late) {
                        usleep(1000);
                        if (++tries == 5000)
                                f->late++;
                }
        }
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct fake *f = ctx;
        bool any = false;

        f->calls++;
        if (bytes != MIB || gpa % MIB || gpa / MIB >= PIECES ||
            (gpa >= RAM_LOW_END_GPA && gpa < RAM_HIGH_GPA))
                f->wrong++;
        else
                f->asked[gpa / MIB]++;
        if (f->names_some)
                wait_for_wanted(f, gpa);
        if (f->bad_gpa && gpa == f->bad_gpa) {
                err_msg(e, EIO, "the disk is gone");
                return NULL;
        }
        for (size_t at = 0; at < bytes; at += PAGE)
                any = any || filled(gpa + at);
        if (!any && gpa / MIB % 2) {            /* or zeros that are not said to be */
                ret->kind = QS_SPAN_ZERO;
                return NULL;
        }
        for (size_t at = 0; at < bytes; at += PAGE)
                memset((char *)buf + at, filled(gpa + at) ? (int)(1 + gpa / MIB % 200) : 0, PAGE);
        return buf;
}

static bool stop(void *ctx)
{
        struct fake *f = ctx;

        return f->stop_after && f->calls >= f->stop_after;
}

static bool next(void *ctx, uint64_t *ret_gpa)
{
        struct fake *f = ctx;
        unsigned i = f->named++;

        if (i >= ARRAY_SIZE(wanted))
                return false;
        *ret_gpa = wanted[i];
        return true;
}

static int copy(struct fake *f, int *ret_fd, struct err *e)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES, NULL), 0);
        *ret_fd = memfd_create("copy", MFD_CLOEXEC);
        CU_ASSERT_FATAL(*ret_fd >= 0 && ftruncate(*ret_fd, (off_t)ram_end_gpa(&ram)) == 0);
        return clone_copy(&(struct clone_copy_options){
                .ram = &ram,
                .source = { .span = span, .next = f->names_some ? next : NULL, .ctx = f },
                .fd = *ret_fd, .stop = stop, .stop_ctx = f,
        }, e);
}

static void expect_page(int fd, uint64_t gpa)
{
        uint8_t page[PAGE], want[PAGE];

        memset(want, filled(gpa) ? (int)(1 + gpa / MIB % 200) : 0, PAGE);
        CU_ASSERT_EQUAL(io_pread_full(fd, page, PAGE, gpa), 0);
        CU_ASSERT_EQUAL(memcmp(page, want, PAGE), 0);
}

static void whole(void)
{
        AUTO_FREE struct fake *f = calloc(1, sizeof(*f));
        AUTO_FD fd = -1;
        struct stat st;

        CU_ASSERT_FATAL(f != NULL);
        CU_ASSERT_EQUAL_FATAL(copy(f, &fd, NULL), 0);
        CU_ASSERT_EQUAL(f->wrong, 0);
        for (uint64_t i = 0; i < PIECES; i++) {
                bool ram = i * MIB < RAM_LOW_END_GPA || i * MIB >= RAM_HIGH_GPA;

                CU_ASSERT_EQUAL(f->asked[i], ram);
        }
        CU_ASSERT_EQUAL_FATAL(fstat(fd, &st), 0);
        CU_ASSERT_EQUAL((uint64_t)st.st_blocks * 512, 2 * MIB + 4 * PAGE);
        for (uint64_t at = 0; at < 2 * MIB; at += PAGE) {
                expect_page(fd, 6 * MIB + at);
                expect_page(fd, 100 * MIB + at);
        }
        expect_page(fd, 0);
        expect_page(fd, RAM_LOW_END_GPA - PAGE);
        expect_page(fd, RAM_LOW_END_GPA);
        expect_page(fd, RAM_HIGH_GPA + 4 * MIB - PAGE);
}

static void wanted_first(void)
{
        AUTO_FREE struct fake *f = calloc(1, sizeof(*f));
        AUTO_FD fd = -1;

        CU_ASSERT_FATAL(f != NULL);
        f->names_some = true;
        CU_ASSERT_EQUAL_FATAL(copy(f, &fd, NULL), 0);
        CU_ASSERT_EQUAL(f->wrong, 0);
        for (uint64_t i = 0; i < PIECES; i++) {
                bool ram = i * MIB < RAM_LOW_END_GPA || i * MIB >= RAM_HIGH_GPA;

                CU_ASSERT_EQUAL(f->asked[i], ram);
        }
        CU_ASSERT_EQUAL(f->late, 0);
}

static void failing(void)
{
        AUTO_FREE struct fake *f = calloc(1, sizeof(*f));
        AUTO_FD fd = -1;
        struct err e = { 0 };

        CU_ASSERT_FATAL(f != NULL);
        f->bad_gpa = 50 * MIB;
        CU_ASSERT_EQUAL(copy(f, &fd, &e), -EIO);
        CU_ASSERT_STRING_EQUAL(e.text, "the disk is gone");
        CU_ASSERT(f->calls < PIECES / 2);
        fd_close(&fd);
        CU_ASSERT_EQUAL(copy(f, &fd, NULL), -EIO);
}

static void stopped(void)
{
        AUTO_FREE struct fake *f = calloc(1, sizeof(*f));
        AUTO_FD fd = -1;
        struct err e = { 0 };

        CU_ASSERT_FATAL(f != NULL);
        f->stop_after = 20;
        CU_ASSERT_EQUAL(copy(f, &fd, &e), -ECANCELED);
        CU_ASSERT(f->calls >= 20 && f->calls < 100);
}

static void no_room_in_the_file(void)
{
        AUTO_FREE struct fake *f = calloc(1, sizeof(*f));
        AUTO_FD fd = memfd_create("short", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct ram ram;
        struct err e = { 0 };

        CU_ASSERT_FATAL(f != NULL && fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES, NULL), 0);
        CU_ASSERT_EQUAL(clone_copy(&(struct clone_copy_options){
                .ram = &ram, .source = { .span = span, .ctx = f }, .fd = fd,
                .stop = stop, .stop_ctx = f,
        }, &e), -EPERM);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "copy guest RAM"));
}

static const CU_TestInfo cases[] = {
        { "all of RAM, once", whole },
        { "what the source names, first", wanted_first },
        { "a source that fails", failing },
        { "stopped", stopped },
        { "a memfd that takes nothing", no_room_in_the_file },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("clone-copy", cases);
}
