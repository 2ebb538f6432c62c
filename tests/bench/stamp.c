/* SPDX-License-Identifier: Apache-2.0 */
/* stamp - put the time in front of each line: when its first byte came, in seconds
 * since the epoch. For a guest's console, read through a pipe. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "common/clock.h"

int main(void)
{
        char text[4096];
        bool line_start = true;

        setvbuf(stdout, NULL, _IOLBF, 0);
        for (;;) {
                ssize_t n = read(STDIN_FILENO, text, sizeof(text));
                uint64_t ns = clock_wall_ns();

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0;
                for (ssize_t i = 0; i < n; i++) {
                        if (line_start)
                                printf("%llu.%06llu ", (unsigned long long)(ns / NS_PER_SEC),
                                       (unsigned long long)(ns % NS_PER_SEC / NS_PER_US));
                        line_start = text[i] == '\n';
                        putchar(text[i]);
                }
        }
}
