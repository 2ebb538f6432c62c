/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: notes to and from a service manager are what sd_notify(3) says, and what anyone
 *       may send is parsed or refused, never more.
 * Method: the table below, what is formatted is parsed back, random bytes and cuts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/wire/fdnote.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define NAME_255 \
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static_assert(sizeof(NAME_255) - 1 == FDNOTE_NAME_MAX, "the longest name");

static const struct {
        const char *text;
        int rc;
        struct fdnote note;
} texts[] = {
        { "READY=1", 0, { .ready = true } },
        { "READY=1\n", 0, { .ready = true } },
        { "STATUS=up\nREADY=1\nMAINPID=3", 0, { .ready = true } },
        { "READY=0", 0, { .ready = false } },
        { "XREADY=1", 0, { .ready = false } },
        { "FDSTORE=1\nFDNAME=a-b c~", 0, { .store = true, .name = "a-b c~" } },
        { "FDNAME=x\nFDSTORE=1\nFDPOLL=0\n", 0, { .store = true, .name = "x" } },
        { "FDSTOREREMOVE=1\nFDNAME=x\n", 0, { .remove = true, .name = "x" } },
        { "FDSTORE=1\nFDNAME=" NAME_255, 0, { .store = true, .name = NAME_255 } },
        { "START=1\n", 0, { .start = true } },
        { "", 0, { .ready = false } },
        { "\n\n", 0, { .ready = false } },
        { "FDSTORE=1", -EBADMSG, { .ready = false } },
        { "FDSTOREREMOVE=1", -EBADMSG, { .ready = false } },
        { "FDSTORE=1\nFDNAME=", -EBADMSG, { .ready = false } },
        { "FDSTORE=1\nFDNAME=a:b", -EBADMSG, { .ready = false } },
        { "FDSTORE=1\nFDNAME=a\tb", -EBADMSG, { .ready = false } },
        { "FDSTORE=1\nFDNAME=\xc3\xa4", -EBADMSG, { .ready = false } },
        { "FDSTORE=1\nFDNAME=" NAME_255 "a", -EBADMSG, { .ready = false } },
};

static void expect_note(const char *row, const struct fdnote *got, const struct fdnote *want)
{
        EXPECT_EQUAL(row, got->ready, want->ready);
        EXPECT_EQUAL(row, got->store, want->store);
        EXPECT_EQUAL(row, got->remove, want->remove);
        EXPECT_EQUAL(row, got->start, want->start);
        EXPECT_TEXT(row, got->name, want->name);
}

static void table(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct fdnote note = { .name = "untouched" };
                size_t n = strlen(texts[i].text);
                /* exactly as long: a reader beyond the end is seen by ASan */
                char *copy = malloc(n ? n : 1);

                CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
                memcpy(copy, texts[i].text, n);
                EXPECT_EQUAL(texts[i].text, fdnote_parse(copy, n, &note), texts[i].rc);
                if (texts[i].rc == 0)
                        expect_note(texts[i].text, &note, &texts[i].note);
                else
                        EXPECT_TEXT(texts[i].text, note.name, "untouched");
                free(copy);
        }
}

/* what systemd looks for, byte by byte */
static void wording(void)
{
        static const struct {
                struct fdnote note;
                const char *text;
        } rows[] = {
                { { .ready = true }, "READY=1\n" },
                { { .store = true, .name = "n" }, "FDSTORE=1\nFDPOLL=0\nFDNAME=n\n" },
                { { .remove = true, .name = "n" }, "FDSTOREREMOVE=1\nFDNAME=n\n" },
                { { .start = true }, "START=1\n" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char buf[FDNOTE_BYTES_MAX + 1];

                buf[fdnote_format(&rows[i].note, buf)] = '\0';
                EXPECT_TEXT(rows[i].text, buf, rows[i].text);
        }
}

static void there_and_back(void)
{
        struct fdnote all = { .ready = true, .store = true, .remove = true, .start = true,
                              .name = NAME_255 };
        char buf[FDNOTE_BYTES_MAX];
        struct fdnote back;
        size_t n = fdnote_format(&all, buf);

        CU_ASSERT_EQUAL(fdnote_parse(buf, n, &back), 0);
        expect_note("all", &back, &all);
}

static void noise(void)
{
        static const char letters[] = "READY=1\nFDSTOREREMOVE=1\nFDNAME=a:\0\xff";
        unsigned x = 1;

        for (int i = 0; i < 100000; i++) {
                char text[64];
                struct fdnote note;
                size_t n = (x = x * 1103515245 + 12345) >> 16 & 63;

                for (size_t k = 0; k < n; k++)
                        text[k] = letters[((x = x * 1103515245 + 12345) >> 16) % sizeof(letters)];
                if (fdnote_parse(text, n, &note) == 0)
                        CU_ASSERT(!(note.store || note.remove) ||
                                  fdnote_name_ok(note.name, strlen(note.name)));
        }
}

static void names(void)
{
        const char *at = "socket:cache-1-2::bad\tname:" NAME_255 "a:last";
        static const char *const want[] = { "socket", "cache-1-2", "", "", "", "last" };
        char name[FDNOTE_NAME_MAX + 1];

        for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
                CU_ASSERT_PTR_NOT_NULL_FATAL(at);
                at = fdnote_next_name(at, name);
                EXPECT_TEXT(want[i], name, want[i]);
        }
        CU_ASSERT_PTR_NULL(at);
        CU_ASSERT_PTR_NULL(fdnote_next_name("", name));
}

static const CU_TestInfo cases[] = {
        { "what a manager and a service say", table },
        { "our notes are worded as systemd's", wording },
        { "what is formatted is parsed", there_and_back },
        { "random notes", noise },
        { "lists of names", names },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("fdnote", cases);
}
