/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/tty.h"

#include <unistd.h>

void tty_raw(int fd, struct tty_state *ret)
{
        struct termios raw;

        ret->changed = false;
        ret->fd = fd;
        if (!isatty(fd) || tcgetattr(fd, &ret->before) < 0)
                return;
        raw = ret->before;
        cfmakeraw(&raw);
        raw.c_oflag |= OPOST;           /* our own messages keep their line ends */
        ret->changed = tcsetattr(fd, TCSANOW, &raw) == 0;
}

void tty_restore(struct tty_state *t)
{
        if (t->changed)
                tcsetattr(t->fd, TCSANOW, &t->before);
        t->changed = false;
}
