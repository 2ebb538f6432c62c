/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a terminal shows one line of at most its width, seldom redrawn and gone
 *       at the end; other lines stand alone; what is no terminal shows nothing.
 * Method: a pseudo-terminal of which we are the other side. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/progress.h"
#include "tests/unit/suite.h"

#define TEXT_MAX 65536
#define CLEAR "\r\033[K"

struct terminal {
        int ours;
        int theirs;                     /* what the program has as its stderr */
        char text[TEXT_MAX];            /* all that was shown so far */
};

static void open_terminal(struct terminal *t, unsigned short columns)
{
        struct winsize size = { .ws_col = columns, .ws_row = 24 };
        struct termios raw;

        t->ours = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        ASSERT(t->ours >= 0);

        int rc = grantpt(t->ours) || unlockpt(t->ours);

        ASSERT(rc == 0);
        t->theirs = open(ptsname(t->ours), O_RDWR | O_NOCTTY | O_CLOEXEC);
        ASSERT(t->theirs >= 0);
        tcgetattr(t->theirs, &raw);
        cfmakeraw(&raw);
        tcsetattr(t->theirs, TCSANOW, &raw);
        ioctl(t->ours, TIOCSWINSZ, &size);
        t->text[0] = '\0';
}

static void close_terminal(struct terminal *t)
{
        fd_close(&t->ours);
        fd_close(&t->theirs);
}

static const char *shown(struct terminal *t)
{
        size_t at = strlen(t->text);
        ssize_t n;

        while ((n = read(t->ours, t->text + at, sizeof(t->text) - at - 1)) > 0)
                at += (size_t)n;
        t->text[at] = '\0';
        return t->text;
}

/* time for one more line */
static void pass_time(void)
{
        struct timespec ts = { 0, 110 * (long)NS_PER_MS };

        nanosleep(&ts, NULL);
}

static unsigned count(const char *text, const char *part)
{
        unsigned n = 0;

        for (const char *p = strstr(text, part); p; p = strstr(p + 1, part))
                n++;
        return n;
}

static void one_line(void)
{
        struct terminal t;
        struct progress p;

        open_terminal(&t, 80);
        progress_init(&p, "verify", t.theirs, true);
        progress_show(&p, 1, 1000);
        CU_ASSERT_STRING_EQUAL(shown(&t), "");          /* too early */
        pass_time();
        progress_show(&p, 500, 1000);
        CU_ASSERT_PTR_EQUAL(strstr(shown(&t), CLEAR "verify  50 % [####################   "),
                            t.text);
        CU_ASSERT_STRING_EQUAL(t.text + strlen(t.text) - 2, "/s");
        CU_ASSERT(!strchr(t.text, '\n'));
        progress_fini(&p);
        CU_ASSERT_STRING_EQUAL(shown(&t) + strlen(t.text) - strlen(CLEAR), CLEAR);
        close_terminal(&t);
}

static void seldom(void)
{
        struct terminal t;
        struct progress p;
        uint64_t start_ns = clock_now_ns();
        uint64_t i = 0;

        open_terminal(&t, 80);
        progress_init(&p, "verify", t.theirs, true);
        for (; clock_now_ns() < start_ns + 350 * NS_PER_MS; i++)
                progress_show(&p, i, 1ull << 40);
        CU_ASSERT(i > 10);
        CU_ASSERT(count(shown(&t), CLEAR) >= 1 && count(t.text, CLEAR) <= 3);
        progress_fini(&p);
        close_terminal(&t);
}

/* Nothing wraps: the width is asked for each time. */
static void fits(void)
{
        static const unsigned short widths[] = { 1, 2, 10, 24, 25, 40, 60, 200, 0 };

        for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
                struct terminal t;
                struct progress p;
                size_t most = widths[i] ? widths[i] : 80;

                open_terminal(&t, widths[i]);
                progress_init(&p, "a rather long piece of work", t.theirs, true);
                pass_time();
                progress_show(&p, UINT64_MAX, UINT64_MAX);
                CU_ASSERT(strlen(shown(&t)) < strlen(CLEAR) + most);
                CU_ASSERT(most < 60 || count(t.text, "100 % [####") == 1);
                progress_fini(&p);
                close_terminal(&t);
        }
}

/* More done than there was to do, and nothing to do. */
static void odd_numbers(void)
{
        struct terminal t;
        struct progress p;

        open_terminal(&t, 80);
        progress_init(&p, "x", t.theirs, true);
        pass_time();
        progress_show(&p, 7, 5);
        pass_time();
        progress_show(&p, 0, 0);
        CU_ASSERT(count(shown(&t), "100 %") == 1 && count(t.text, "  0 %") == 1);
        progress_fini(&p);
        close_terminal(&t);
}

static void other_lines(void)
{
        struct terminal t;
        struct progress p;

        open_terminal(&t, 80);
        progress_init(&p, "check", t.theirs, true);
        progress_say(&p, "finding %d", 1);
        CU_ASSERT_STRING_EQUAL(shown(&t), "finding 1\n");
        pass_time();
        progress_show(&p, 1, 2);
        progress_say(&p, "finding %d", 2);
        CU_ASSERT_PTR_NOT_NULL(strstr(shown(&t), "/s" CLEAR "finding 2\n"));
        progress_fini(&p);
        CU_ASSERT_STRING_EQUAL(shown(&t) + strlen(t.text) - 10, "finding 2\n");
        close_terminal(&t);
}

static void no_bar_wanted(void)
{
        struct terminal t;
        struct progress p;

        open_terminal(&t, 80);
        progress_init(&p, "x", t.theirs, false);
        pass_time();
        progress_show(&p, 1, 2);
        progress_fini(&p);
        setenv("TERM", "dumb", 1);
        progress_init(&p, "x", t.theirs, true);
        pass_time();
        progress_show(&p, 1, 2);
        progress_fini(&p);
        setenv("TERM", "vt100", 1);
        CU_ASSERT_STRING_EQUAL(shown(&t), "");
        close_terminal(&t);
}

static void no_terminal(void)
{
        struct progress p;
        char text[64] = "";
        int fds[2];
        int rc = pipe(fds);

        ASSERT(rc == 0);
        progress_init(&p, "x", fds[1], true);
        pass_time();
        progress_show(&p, 1, 2);
        progress_say(&p, "a finding");
        progress_fini(&p);
        CU_ASSERT_EQUAL(read(fds[0], text, sizeof(text) - 1), 10);
        CU_ASSERT_STRING_EQUAL(text, "a finding\n");
        fd_close(&fds[0]);
        fd_close(&fds[1]);
}

static const CU_TestInfo cases[] = {
        { "one line, gone at the end", one_line },
        { "ten times a second at most", seldom },
        { "it fits the terminal", fits },
        { "odd numbers", odd_numbers },
        { "other lines stand alone", other_lines },
        { "no bar is wanted", no_bar_wanted },
        { "no terminal", no_terminal },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        setenv("TERM", "vt100", 1);
        return suite_main("progress", cases);
}
