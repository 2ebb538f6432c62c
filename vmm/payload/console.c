/* SPDX-License-Identifier: Apache-2.0 */
/* console.c - lines on the first serial port.
 *
 * Each access to a port is an exit to the monitor, so a line is built in memory
 * and sent in bursts that the 16-byte FIFO holds, with one look at the line
 * status before each. Each byte is a step (gaps.c), so that a pause that falls
 * into a line is not missed.
 */
#include "vmm/payload/guest.h"

#define COM1_DATA       0x3f8
#define COM1_FCR        0x3fa
#define COM1_LSR        0x3fd
#define FCR_ENABLE      0x01
#define LSR_THRE        0x20
#define FIFO_BYTES      16

/* A console that never becomes ready must not stop the guest. */
#define READY_POLLS_MAX 10000

/* The longest line is a tick with gaps: 107 bytes at most. */
#define LINE_BYTES      160

static char line[LINE_BYTES];
static unsigned line_len;

void put_text(const char *text)
{
        while (*text && line_len < LINE_BYTES)
                line[line_len++] = *text++;
}

void put_dec(uint64_t value)
{
        char digits[21];
        unsigned at = sizeof(digits) - 1;

        digits[at] = 0;
        do
                digits[--at] = '0' + value % 10;
        while (value /= 10);
        put_text(digits + at);
}

void put_hex(uint64_t value)
{
        char digits[19] = "0x";
        int i;

        for (i = 0; i < 16; i++)
                digits[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
        digits[18] = 0;
        put_text(digits);
}

static void wait_ready(void)
{
        unsigned polls;

        for (polls = 0; polls < READY_POLLS_MAX; polls++)
                if (io_read8(COM1_LSR) & LSR_THRE)
                        return;
}

void put_line_end(void)
{
        static bool fifo_on;
        unsigned i;

        if (!fifo_on)
                io_write8(COM1_FCR, FCR_ENABLE);
        fifo_on = true;
        if (line_len == LINE_BYTES)
                line_len--;
        line[line_len++] = '\n';
        for (i = 0; i < line_len; i++) {
                if (i % FIFO_BYTES == 0)
                        wait_ready();
                io_write8(COM1_DATA, line[i]);
                gaps_step(0);
        }
        line_len = 0;
}
