/* SPDX-License-Identifier: Apache-2.0 */
#include "common/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/size.h"

#define REDRAW_NS (100 * NS_PER_MS)
#define LINE_MAX 160
/* of a terminal that does not say how wide it is */
#define COLUMNS_DEFAULT 80
#define BAR_MAX 40
/* a shorter one says nothing; then there is the number alone */
#define BAR_MIN 10
/* bytes per second; beyond that somebody counts wrongly */
#define RATE_MAX 1e18
/* to the first column, and what is there is gone (ECMA-48: EL) */
#define CLEAR "\r\033[K"

static bool can_draw(int fd)
{
        const char *term = getenv("TERM");

        return isatty(fd) && term && strcmp(term, "dumb") != 0;
}

void progress_init(struct progress *p, const char *what, int fd, bool wanted)
{
        uint64_t now_ns = clock_now_ns();

        *p = (struct progress){
                .what = what, .fd = fd, .terminal = wanted && can_draw(fd), .start_ns = now_ns,
                .drawn_ns = now_ns,
        };
        lock_init(&p->lock);
}

static size_t columns(int fd)
{
        struct winsize size;

        if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return COLUMNS_DEFAULT;
        return size.ws_col;
}

/* What fits, and a column less: some terminals wrap when the last one is full. */
static size_t compose(const struct progress *p, unsigned percent, uint64_t bytes_per_s,
                      char line[LINE_MAX])
{
        size_t room = MIN(columns(p->fd) - 1, (size_t)LINE_MAX - 1);
        char rate[SIZE_TEXT_MAX];
        char head[64];
        char tail[SIZE_TEXT_MAX + 8];
        char bar[BAR_MAX + 1];
        size_t used = (size_t)snprintf(head, sizeof(head), "%.40s %3u %%", p->what, percent);

        used += (size_t)snprintf(tail, sizeof(tail), "  %s/s", size_text(bytes_per_s, rate));

        size_t width = room > used + 3 ? MIN(room - used - 3, BAR_MAX) : 0;

        memset(bar, '#', sizeof(bar));
        if (width < BAR_MIN)
                snprintf(line, LINE_MAX, "%.*s", (int)room, head);
        else
                snprintf(line, LINE_MAX, "%s [%-*.*s]%s", head, (int)width,
                         (int)(width * percent / 100), bar, tail);
        return strlen(line);
}

static void draw_locked(struct progress *p, uint64_t now_ns, uint64_t done, uint64_t total)
        REQUIRES(p->lock)
{
        double seconds = (double)(now_ns - p->start_ns) / NS_PER_SEC;
        unsigned percent = total ? (unsigned)((double)MIN(done, total) / (double)total * 100) : 0;
        char text[sizeof(CLEAR) + LINE_MAX] = CLEAR;
        double rate = MIN((double)done / seconds, RATE_MAX);
        size_t n = compose(p, percent, (uint64_t)rate, text + strlen(CLEAR));

        io_write_full(p->fd, text, strlen(CLEAR) + n);
        p->drawn_ns = now_ns;
        p->visible = true;
}

static void clear_locked(struct progress *p) REQUIRES(p->lock)
{
        if (p->visible)
                io_write_full(p->fd, CLEAR, strlen(CLEAR));
        p->visible = false;
}

void progress_show(struct progress *p, uint64_t done_bytes, uint64_t total_bytes)
{
        if (!p->terminal)
                return;

        uint64_t now_ns = clock_now_ns();

        lock_acquire(&p->lock);
        if (now_ns >= p->drawn_ns + REDRAW_NS)
                draw_locked(p, now_ns, done_bytes, total_bytes);
        lock_release(&p->lock);
}

void progress_say(struct progress *p, const char *fmt, ...)
{
        AUTO_FREE char *text = NULL;
        va_list ap;

        va_start(ap, fmt);

        int n = vasprintf(&text, fmt, ap);

        va_end(ap);
        if (n < 0)
                return;
        text[n] = '\n';         /* over the NUL */
        lock_acquire(&p->lock);
        clear_locked(p);
        io_write_full(p->fd, text, (size_t)n + 1);
        lock_release(&p->lock);
}

void progress_fini(struct progress *p)
{
        lock_acquire(&p->lock);
        clear_locked(p);
        lock_release(&p->lock);
        lock_fini(&p->lock);
}
