/* SPDX-License-Identifier: Apache-2.0 */
/* console.h - where the guest's serial line goes and comes from.
 *
 * Output goes to a file (or, in the foreground, the terminal) and into a
 * bounded history, from which every client of NAME.console gets the past and
 * then what follows; a client that does not read loses output, the guest never
 * waits for it. Input comes from clients and, in the foreground, the terminal,
 * and is held back while the guest's receive buffer is full.
 *
 * Threads: console_out() from any thread; all else on the event loop.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct console;

struct console_options {
        const char *file;               /* NULL = none; truncated at start */
        bool terminal;                  /* stdin and stdout; raw mode if it is one */
        const char *socket_path;
};

/* Takes bytes for the guest; returns how many it took. */
typedef size_t console_input_fn(void *ctx, const uint8_t *data, size_t bytes);

int console_new(struct event_base *base, const struct console_options *options,
                struct console **ret, struct err *e);
/* Input is refused before this. */
void console_connect(struct console *c, console_input_fn *input, void *ctx);
/* The guest takes input again, or may. */
void console_input_room(struct console *c);
void console_out(struct console *c, const uint8_t *data, size_t bytes);
/* The user typed the escape character (Ctrl-]) on the terminal. */
bool console_wants_exit(const struct console *c);
/* Gives clients what they have not had, as far as it can be done at once, and
 * leaves them and the terminal. console_out() may still be called. */
void console_hang_up(struct console *c);
void console_free(struct console *c);

#endif
