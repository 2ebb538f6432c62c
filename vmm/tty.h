/* SPDX-License-Identifier: Apache-2.0 */
/* tty.h - a terminal in raw mode, and back. */
#ifndef VMM_TTY_H
#define VMM_TTY_H

#include <stdbool.h>
#include <termios.h>

#define TTY_ESCAPE 0x1d         /* Ctrl-], as in telnet */

struct tty_state {
        bool changed;
        int fd;
        struct termios before;
};

/* Nothing happens, and nothing is restored, when fd is not a terminal. */
void tty_raw(int fd, struct tty_state *ret);
void tty_restore(struct tty_state *t);

#endif
