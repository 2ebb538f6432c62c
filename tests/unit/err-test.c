/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an error keeps its code and one readable sentence through every layer,
 *       whatever its length, with or without a struct to hold it.
 * Method: the sentence of each function, alone and stacked; texts longer than
 *         the struct between guard bytes; wrong use in a child that must abort. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/err.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static void set_appends_reason(void)
{
        struct err e = { 0 };

        CU_ASSERT_EQUAL(err_set(&e, ENOENT, "open '%s'", "a.qcow2"), -ENOENT);
        CU_ASSERT_EQUAL(e.code, -ENOENT);
        CU_ASSERT_STRING_EQUAL(e.text, "open 'a.qcow2': No such file or directory");
}

static void msg_stands_alone(void)
{
        struct err e = { 0 };

        CU_ASSERT_EQUAL(err_msg(&e, EBADMSG, "header is %d bytes, need %d", 80, 104), -EBADMSG);
        CU_ASSERT_EQUAL(e.code, -EBADMSG);
        CU_ASSERT_STRING_EQUAL(e.text, "header is 80 bytes, need 104");
}

static void in_wraps_outward(void)
{
        struct err e = { 0 };
        int rc = err_msg(&e, EBADMSG, "L1 entry 3 is odd");

        rc = err_in(&e, rc, "snapshot '%s'", "one");
        rc = err_in(&e, rc, "image '%s'", "a.qcow2");
        CU_ASSERT_EQUAL(rc, -EBADMSG);
        CU_ASSERT_EQUAL(e.code, -EBADMSG);
        CU_ASSERT_STRING_EQUAL(e.text, "image 'a.qcow2': snapshot 'one': L1 entry 3 is odd");
}

static void in_passes_new_code(void)
{
        struct err e = { 0 };

        err_msg(&e, ENOENT, "no such tag");
        CU_ASSERT_EQUAL(err_in(&e, -EINVAL, "revert"), -EINVAL);
        CU_ASSERT_EQUAL(e.code, -EINVAL);
}

static void later_error_replaces(void)
{
        struct err e = { 0 };

        err_set(&e, EIO, "a long sentence about the first failure");
        err_msg(&e, ENOSPC, "short");
        CU_ASSERT_EQUAL(e.code, -ENOSPC);
        CU_ASSERT_STRING_EQUAL(e.text, "short");
}

static void null_is_only_a_code(void)
{
        CU_ASSERT_EQUAL(err_set(NULL, EIO, "read %d", 1), -EIO);
        CU_ASSERT_EQUAL(err_msg(NULL, EPERM, "no"), -EPERM);
        CU_ASSERT_EQUAL(err_in(NULL, -EBUSY, "outer"), -EBUSY);
}

static void long_text_is_cut(void)
{
        struct {
                struct err e;
                char guard[16];
        } room;
        char wide[2 * ERR_TEXT_MAX];
        char guard[sizeof(room.guard)];

        memset(guard, 'G', sizeof(guard));
        memset(wide, 'w', sizeof(wide) - 1);
        wide[sizeof(wide) - 1] = '\0';
        memset(&room, 'G', sizeof(room));

        CU_ASSERT_EQUAL(err_msg(&room.e, EIO, "%s", wide), -EIO);
        CU_ASSERT_EQUAL(strlen(room.e.text), ERR_TEXT_MAX - 1);
        CU_ASSERT_EQUAL(err_set(&room.e, EIO, "%s", wide), -EIO);
        CU_ASSERT_EQUAL(strlen(room.e.text), ERR_TEXT_MAX - 1);
        CU_ASSERT_EQUAL(err_in(&room.e, -EIO, "%s", wide), -EIO);
        CU_ASSERT_EQUAL(strlen(room.e.text), ERR_TEXT_MAX - 1);

        /* the reason and the context have one byte of room, then none */
        for (int left = 0; left < 2; left++) {
                CU_ASSERT_EQUAL(err_set(&room.e, EIO, "%.*s", ERR_TEXT_MAX - 1 - left, wide), -EIO);
                CU_ASSERT_EQUAL(strlen(room.e.text), ERR_TEXT_MAX - 1);
        }
        CU_ASSERT_EQUAL(memcmp(room.guard, guard, sizeof(guard)), 0);
}

/* What err_print() writes to stderr, read back through a pipe. */
static size_t printed(const struct err *e, char *buf, size_t room)
{
        int pipe_fds[2];

        fflush(stderr);

        int rc = pipe(pipe_fds);

        CU_ASSERT_EQUAL_FATAL(rc, 0);

        AUTO_FD back = dup(STDERR_FILENO);

        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[1]);
        err_print("vmm", e);
        fflush(stderr);
        dup2(back, STDERR_FILENO);

        ssize_t n = read(pipe_fds[0], buf, room);

        close(pipe_fds[0]);
        return n < 0 ? 0 : (size_t)n;
}

static void print_is_one_line(void)
{
        struct err e = { 0 };
        char line[ERR_TEXT_MAX];

        err_msg(&e, EINVAL, "100%% of 'x' is %s", "wrong");

        size_t n = printed(&e, line, sizeof(line) - 1);

        line[n] = '\0';
        CU_ASSERT_STRING_EQUAL(line, "vmm: 100% of 'x' is wrong\n");
}

static void set_without_errno(void)
{
        struct err e;

        err_set(&e, 0, "nothing failed");
}

static void msg_with_negative_errno(void)
{
        err_msg(NULL, -EIO, "sign");
}

static void wrong_errno_is_our_bug(void)
{
        CU_ASSERT_TRUE(expect_abort(set_without_errno));
        CU_ASSERT_TRUE(expect_abort(msg_with_negative_errno));
}

static const CU_TestInfo cases[] = {
        { "err_set appends the errno's text", set_appends_reason },
        { "err_msg stands alone", msg_stands_alone },
        { "err_in puts context in front, outermost first", in_wraps_outward },
        { "err_in takes the code it is given", in_passes_new_code },
        { "a later error replaces an earlier one", later_error_replaces },
        { "a NULL err is only its code", null_is_only_a_code },
        { "a long text is cut, not overrun", long_text_is_cut },
        { "err_print writes one line", print_is_one_line },
        { "an errno that is not positive is our bug", wrong_errno_is_our_bug },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("err", cases);
}
