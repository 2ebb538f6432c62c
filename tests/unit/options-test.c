/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each option of a table sets what it shall and nothing else, and it is known which
 *       were given; the first that is wrong ends the parsing with a sentence.
 * Method: command lines as words parted by blanks, against a table of each kind of row. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/options.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define WORDS_MAX 16

struct answer {
        bool flag;
        const char *text;
        int number;                     /* read: -1 = without a value */
        int calls;
        char line[256];                 /* what text points into */
};

static int read_number(void *command, const char *value, struct err *e)
{
        struct answer *a = command;

        a->calls++;
        if (value && strspn(value, "0123456789") != strlen(value))
                return err_msg(e, EINVAL, "'%s' is no number", value);
        a->number = value ? atoi(value) : -1;
        return 0;
}

enum { FLAG, TEXT, READ, MAY };

static const struct option_row rows[] = {
        [FLAG] = OPTION_FLAG("flag", struct answer, flag),
        [TEXT] = OPTION_TEXT("text", struct answer, text),
        [READ] = OPTION_READ("read", read_number),
        [MAY] = OPTION_MAY_READ("may", read_number),
        OPTION_END,
};

static int parse(const char *line, struct answer *ret, uint32_t *ret_given, int *ret_operands,
                 struct err *e)
{
        char *argv[WORDS_MAX] = { NULL };
        char *rest = ret->line;
        int argc = 0;

        *ret = (struct answer){ .number = 0 };
        snprintf(ret->line, sizeof(ret->line), "program %s", line);
        for (char *word; (word = strsep(&rest, " ")) != NULL; )
                if (*word)
                        argv[argc++] = word;
        optind = 0;                     /* glibc: begin anew */
        *e = (struct err){ 0 };

        int rc = options_parse("program verb", rows, argc, argv, ret, ret_given, e);

        *ret_operands = argc - optind;
        return rc;
}

static void taken(void)
{
        static const struct {
                const char *line;
                uint32_t given;
                bool flag;
                const char *text;
                int number;
                int operands;
        } lines[] = {
                { "", 0, false, "", 0, 0 },
                { "a b", 0, false, "", 0, 2 },
                { "--flag", 1u << FLAG, true, "", 0, 0 },
                { "--fl", 1u << FLAG, true, "", 0, 0 },
                { "--text x", 1u << TEXT, false, "x", 0, 0 },
                { "--text=x", 1u << TEXT, false, "x", 0, 0 },
                { "--text --flag", 1u << TEXT, false, "--flag", 0, 0 },
                { "--read 7", 1u << READ, false, "", 7, 0 },
                { "--read 7 --read 8", 1u << READ, false, "", 8, 0 },
                { "--may", 1u << MAY, false, "", -1, 0 },
                { "--may=5", 1u << MAY, false, "", 5, 0 },
                { "--may 5", 1u << MAY, false, "", -1, 1 },
                { "a --flag b --text x c", 1u << FLAG | 1u << TEXT, true, "x", 0, 3 },
                { "--flag -- --text", 1u << FLAG, true, "", 0, 1 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                uint32_t given = ~0u;
                struct answer a;
                int operands;
                struct err e;

                EXPECT_EQUAL(lines[i].line, parse(lines[i].line, &a, &given, &operands, &e), 0);
                EXPECT_EQUAL(lines[i].line, given, lines[i].given);
                EXPECT_EQUAL(lines[i].line, a.flag, lines[i].flag);
                EXPECT_TEXT(lines[i].line, a.text ? a.text : "", lines[i].text);
                EXPECT_EQUAL(lines[i].line, a.number, lines[i].number);
                EXPECT_EQUAL(lines[i].line, operands, lines[i].operands);
        }
}

static void refused(void)
{
        static const struct {
                const char *line;
                const char *words;
                uint32_t given;         /* before it */
                int calls;
        } lines[] = {
                { "--frob", "'--frob' is unknown or lacks its value: see 'program verb --help'",
                  0, 0 },
                { "-f", "is unknown", 0, 0 },
                { "--flag --text", "'--text' is unknown or lacks", 1u << FLAG, 0 },
                { "--flag=1", "'--flag=1' is unknown", 0, 0 },
                { "--read x --flag", "'x' is no number", 0, 1 },
                { "--text y --read x --read 1", "'x' is no number", 1u << TEXT, 1 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                uint32_t given = ~0u;
                struct answer a;
                int operands;
                struct err e;

                EXPECT_EQUAL(lines[i].line, parse(lines[i].line, &a, &given, &operands, &e),
                             -EINVAL);
                EXPECT_TRUE(e.text, strstr(e.text, lines[i].words));
                EXPECT_EQUAL(lines[i].line, given, lines[i].given);
                EXPECT_EQUAL(lines[i].line, a.calls, lines[i].calls);
                EXPECT_EQUAL(lines[i].line, parse(lines[i].line, &a, NULL, &operands, &e),
                             -EINVAL);
        }
}

static void numbers(void)
{
        static const struct {
                const char *text;
                int rc;
                uint64_t n;
        } lines[] = {
                { "3", 0, 3 }, { "1K", 0, 1024 }, { "2K", 0, 2048 },
                { "2", -EINVAL, 0 }, { "2049", -EINVAL, 0 }, { "", -EINVAL, 0 },
                { "-3", -EINVAL, 0 }, { "x", -EINVAL, 0 }, { "99999999999999999999", -EINVAL, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                uint64_t n = 0;
                struct err e = { 0 };

                EXPECT_EQUAL(lines[i].text,
                             option_number(lines[i].text, 3, 2048, "count", &n, &e), lines[i].rc);
                EXPECT_EQUAL(lines[i].text, n, lines[i].n);
                if (lines[i].rc < 0)
                        EXPECT_TRUE(e.text, strstr(e.text, "' is not a number from 3 to 2048"));
        }
}

static const CU_TestInfo cases[] = {
        { "what is taken", taken },
        { "what is refused", refused },
        { "numbers with limits", numbers },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("options", cases);
}
