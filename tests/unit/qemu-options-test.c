/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each option arrives where it belongs and is refused where it means nothing;
 *       a wrong command line of a revert is known to be one.
 * Method: tables of command lines, as words parted by blanks. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/rate.h"
#include "pageserver/adapters/qemu/options.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define WORDS_MAX 32

struct line {
        char text[512];
        char *argv[WORDS_MAX];
        int argc;
};

static void split(struct line *l, const char *text)
{
        char *rest = l->text;

        snprintf(l->text, sizeof(l->text), "qemu-snapshot %s", text);
        l->argc = 0;
        for (char *word; (word = strsep(&rest, " ")) != NULL; )
                l->argv[l->argc++] = word;
        l->argv[l->argc] = NULL;
}

static enum options take(struct line *l, const char *text, struct command *ret, struct err *e)
{
        split(l, text);
        optind = 0;                             /* glibc: begin anew */
        *e = (struct err){ 0 };
        return options_take(l->argc, l->argv, ret, e);
}

static void modes(void)
{
        static const struct {
                const char *line;
                enum mode mode;
        } rows[] = {
                { "i", MODE_SAVE },
                { "--tag t --force --compress zstd:3 --cluster-size 64K --backing p i", MODE_SAVE },
                { "i --ram-split 3G --map d=8G --page-size pc.ram=2M --memory 64M --sync",
                  MODE_SAVE },
                { "--revert i", MODE_REVERT },
                { "--revert --postcopy --recover --prefetch off --record i", MODE_REVERT },
                { "--revert --connect unix:s --timeout 3 --allow-parent d i", MODE_REVERT },
                { "--import s --tag t i", MODE_IMPORT },
                { "--export s --tag t --allow-parent d --force i", MODE_EXPORT },
                { "--status i --json --tag t", MODE_STATUS },
                { "--wait i --timeout 9", MODE_WAIT },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct command c;
                struct line l;
                struct err e;

                EXPECT_EQUAL(rows[i].line, take(&l, rows[i].line, &c, &e), OPTIONS_RUN);
                EXPECT_TEXT(rows[i].line, e.text, "");
                EXPECT_EQUAL(rows[i].line, c.mode, rows[i].mode);
                EXPECT_TEXT(rows[i].line, c.image, "i");
        }
}

static void wrong(void)
{
        static const struct {
                const char *line, *words;
        } rows[] = {
                { "", "name of IMAGE is empty" },
                { "--force", "IMAGE is missing" },
                { "i j", "one IMAGE" },
                { "--frob i", "'--frob' is unknown" },
                { "--tag", "'--tag' is unknown or lacks" },
                { "--revert --status i", "--revert and --status exclude" },
                { "--import s --export s i", "--import and --export exclude" },
                { "--revert --sync i", "--sync does not go with --revert" },
                { "--status --uri fd:3 i", "--uri does not go with --status" },
                { "--import s --listen unix:s i", "--listen does not go with --import" },
                { "--import s --sync i", "--sync does not go with --import" },
                { "--postcopy i", "--postcopy does not go with a save" },
                { "--json i", "--json does not go with a save" },
                { "--revert --recover i", "--recover goes with --postcopy" },
                { "--revert --prefetch on i", "--prefetch goes with --postcopy" },
                { "--revert --record i", "--record goes with --postcopy" },
                { "--revert --postcopy=5 --recover i", "takes no percentage" },
                { "--revert --postcopy=101 i", "percentage '101'" },
                { "--revert --postcopy --record=0 i", "number of seconds '0'" },
                { "--revert --postcopy --prefetch soon i", "'soon'" },
                { "--uri fd:3 --listen unix:s i", "exclude each other" },
                { "--timeout 3 i", "--timeout goes with" },
                { "--timeout 3 --uri fd:3 i", "--timeout goes with" },
                { "--wait --timeout x i", "number of seconds 'x'" },
                { "--uri unix:s i", "--uri needs fd:N" },
                { "--connect s i", "address 's'" },
                { "--compress gzip i", "compression 'gzip'" },
                { "--cluster-size 5000 i", "cluster size '5000'" },
                { "--tag= i", "tag ''" },
                { "--ram-split 5000 i", "--ram-split needs" },
                { "--ram-split 5G i", "--ram-split needs" },
                { "--map pc.ram i", "--map needs" },
                { "--map =4K i", "--map needs" },
                { "--map a=1G --map a=2G i", "--map is given twice" },
                { "--page-size pc.ram=3M i", "power of two" },
                { "--page-size pc.ram=2K i", "power of two" },
                { "--memory 1M i", "--memory needs" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct command c;
                struct line l;
                struct err e;

                EXPECT_EQUAL(rows[i].line, take(&l, rows[i].line, &c, &e), OPTIONS_WRONG);
                EXPECT_TRUE(rows[i].line, strstr(e.text, rows[i].words));
        }
}

static void defaults(void)
{
        struct command c;
        struct line l;
        struct err e;

        EXPECT_EQUAL("save", take(&l, "i", &c, &e), OPTIONS_RUN);
        EXPECT_EQUAL("save", c.save.memory_bytes, SAVE_MEMORY_DEFAULT);
        EXPECT_EQUAL("save", c.save.writer.cluster_bits, QS_CLUSTER_BITS_DEFAULT);
        EXPECT_TRUE("save", c.save.writer.compress_alike && !c.save.writer.append);
        EXPECT_EQUAL("save", c.transport.kind, TRANSPORT_STDIO);
        EXPECT_TEXT("save", c.save.image, "i");
        EXPECT_EQUAL("revert", take(&l, "--revert --postcopy i", &c, &e), OPTIONS_RUN);
        EXPECT_TRUE("revert", c.revert.prefetch_rate == RATE_UNLIMITED && !c.revert.percent);
        EXPECT_TEXT("revert", c.revert.image, "i");
}

static void values(void)
{
        struct command c;
        struct line l;
        struct err e;

        EXPECT_EQUAL("save", take(&l, "--tag t --compress zstd:7 --map /rom@a=b=1G --page-size "
                                  "pc.ram=2M --ram-split 2G i", &c, &e), OPTIONS_RUN);
        EXPECT_TEXT("save", c.save.writer.tag, "t");
        EXPECT_TRUE("save", c.save.writer.append && c.save.writer.zstd_level == 7 &&
                    !c.save.writer.compress_alike);
        EXPECT_TRUE("save", named_find(&c.save.map, "/rom@a=b") &&
                    *named_find(&c.save.map, "/rom@a=b") == 1 << 30);
        EXPECT_TRUE("save", !named_find(&c.save.map, "/rom@a"));
        EXPECT_EQUAL("save", c.save.ram_split, 2ll << 30);
        EXPECT_EQUAL("revert", take(&l, "--revert --postcopy=30 --prefetch 5M --record=9 --tag t "
                                    "--page-size pc.ram=2M i", &c, &e), OPTIONS_RUN);
        EXPECT_EQUAL("revert", c.revert.percent, 30);
        EXPECT_EQUAL("revert", c.revert.prefetch_rate, 5 << 20);
        EXPECT_EQUAL("revert", c.revert.record_seconds, 9);
        EXPECT_TEXT("revert", c.revert.open.tag, "t");
        EXPECT_EQUAL("revert", c.revert.page_size.n, 1);
        EXPECT_EQUAL("fd", take(&l, "--uri fd:4,5 i", &c, &e), OPTIONS_RUN);
        EXPECT_TRUE("fd", c.transport.kind == TRANSPORT_FD && c.transport.out == 5);
}

/* QEMU waits for ever for the stream of a revert whose command line is wrong */
static void reverts(void)
{
        static const struct {
                const char *line;
                bool waits;
                int out;                        /* of --uri; 0 = standard output */
        } rows[] = {
                { "--revert --frob i", true, 0 },
                { "--frob --rev i", true, 0 },
                { "--revert --uri fd:7 --frob i", true, 7 },
                { "--frob --uri=fd:7,8 --revert", true, 8 },
                { "--revert --uri", true, 0 },
                { "--revert --uri fd:x i", true, 0 },
                { "--frob i", false, 0 },
                { "--re i", false, 0 },
                { "i", false, 0 },
                { "--revert --connect unix:s --frob i", false, 0 },
                { "--revert --postcopy --recover --frob i", false, 0 },
                { "--recove --revert i", false, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct transport_options o;
                struct line l;

                split(&l, rows[i].line);
                EXPECT_EQUAL(rows[i].line, options_revert_of(l.argc, l.argv, &o), rows[i].waits);
                EXPECT_EQUAL(rows[i].line, o.out, rows[i].out);
        }
}

/* and for ever stands the guest of a background snapshot that nobody reads */
static void saves(void)
{
        static const struct {
                const char *line;
                bool sends;
                int in;
        } rows[] = {
                { "", true, 0 },
                { "--frob i", true, 0 },
                { "--tag", true, 0 },
                { "--frob --uri fd:7,8 i", true, 7 },
                { "--compress gzip --uri=fd:7 i", true, 7 },
                { "--frob --revert i", false, 0 },
                { "--listen unix:s --frob i", false, 0 },
                { "--frob --import s i", false, 0 },
                { "--export s --frob i", false, 0 },
                { "--status --frob i", false, 0 },
                { "--wait --frob i", false, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct transport_options o = { .in = 0 };
                struct line l;

                split(&l, rows[i].line);
                EXPECT_EQUAL(rows[i].line, options_save_of(l.argc, l.argv, &o), rows[i].sends);
                EXPECT_EQUAL(rows[i].line, o.in, rows[i].in);
        }
}

static const CU_TestInfo cases[] = {
        { "modes and what goes with them", modes },
        { "what is refused", wrong },
        { "defaults", defaults },
        { "values", values },
        { "a wrong line of a revert", reverts },
        { "a wrong line of a save", saves },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-options", cases);
}
