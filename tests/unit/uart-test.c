/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the port behaves as drivers of a 16550A expect, and its state survives.
 * Method: what Linux's 8250 driver does, register by register; saved state in
 * bad forms from a table. */
#include "vmm/uart.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "tests/unit/suite.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static void looks_like_a_16550a(void)
{
        struct uart u;

        uart_init(&u);
        CU_ASSERT_EQUAL(uart_in(&u, IIR), 0x01);
        uart_out(&u, IIR, 0x01);                        /* FIFOs on */
        CU_ASSERT_EQUAL(uart_in(&u, IIR) >> 6, 3);      /* ... both: a 16550A */
        uart_out(&u, SCR, 0x5a);
        CU_ASSERT_EQUAL(uart_in(&u, SCR), 0x5a);
        CU_ASSERT_EQUAL(uart_in(&u, LSR), 0x60);
        CU_ASSERT_EQUAL(uart_in(&u, MSR), 0xb0);
        uart_out(&u, MCR, 0x1a);                        /* autoconfig's loopback test */
        CU_ASSERT_EQUAL(uart_in(&u, MSR) & 0xf0, 0x90);
        uart_out(&u, IER, 0xff);
        CU_ASSERT_EQUAL(uart_in(&u, IER), 0x0f);
}

static void divisor_hides_data_and_ier(void)
{
        struct uart u;

        uart_init(&u);
        uart_out(&u, IER, 0x05);
        uart_out(&u, LCR, 0x83);
        CU_ASSERT_FALSE(uart_out(&u, DATA, 0x0c));
        uart_out(&u, IER, 0x01);
        CU_ASSERT_EQUAL(uart_in(&u, DATA), 0x0c);
        CU_ASSERT_EQUAL(uart_in(&u, IER), 0x01);
        uart_out(&u, LCR, 0x03);
        CU_ASSERT_EQUAL(uart_in(&u, IER), 0x05);
        CU_ASSERT(uart_out(&u, DATA, 'x'));
}

static void transmit_interrupt(void)
{
        struct uart u;

        uart_init(&u);
        CU_ASSERT_FALSE(uart_irq(&u));
        uart_out(&u, IER, 0x02);                /* enabling raises it at once */
        CU_ASSERT(uart_irq(&u));
        CU_ASSERT_EQUAL(uart_in(&u, IIR), 0x02);
        CU_ASSERT_FALSE(uart_irq(&u));          /* reading withdrew it */
        CU_ASSERT_EQUAL(uart_in(&u, IIR), 0x01);
        CU_ASSERT(uart_out(&u, DATA, 'x'));
        CU_ASSERT(uart_irq(&u));                /* sent, empty again */
        uart_out(&u, IER, 0x02);                /* no 0 -> 1: nothing new */
        (void)uart_in(&u, IIR);
        uart_out(&u, IER, 0x02);
        CU_ASSERT_FALSE(uart_irq(&u));
        uart_out(&u, DATA, 'y');
        uart_out(&u, IER, 0x00);
        CU_ASSERT_FALSE(uart_irq(&u));
}

static void receive_goes_first(void)
{
        struct uart u;

        uart_init(&u);
        uart_out(&u, IER, 0x03);
        CU_ASSERT_EQUAL(uart_receive(&u, (const uint8_t *)"ab", 2), 2);
        CU_ASSERT_EQUAL(uart_in(&u, IIR), 0x04);
        CU_ASSERT_EQUAL(uart_in(&u, IIR), 0x04);        /* until the data is read */
        CU_ASSERT_EQUAL(uart_in(&u, LSR), 0x61);
        CU_ASSERT_EQUAL(uart_in(&u, DATA), 'a');
        CU_ASSERT_EQUAL(uart_in(&u, DATA), 'b');
        CU_ASSERT_EQUAL(uart_in(&u, LSR), 0x60);
        CU_ASSERT_EQUAL(uart_in(&u, IIR), 0x02);
        CU_ASSERT_EQUAL(uart_in(&u, DATA), 0);
}

static void loopback_returns_bytes(void)
{
        struct uart u;

        uart_init(&u);
        uart_out(&u, MCR, 0x10);
        CU_ASSERT_FALSE(uart_out(&u, DATA, 'q'));
        CU_ASSERT_EQUAL(uart_in(&u, LSR), 0x61);
        CU_ASSERT_EQUAL(uart_in(&u, DATA), 'q');
        for (unsigned i = 0; i < 2 * UART_RX_BYTES_MAX; i++)
                uart_out(&u, DATA, (uint8_t)i);
        CU_ASSERT_EQUAL(uart_room(&u), 0);
}

static void input_is_bounded_and_in_order(void)
{
        struct uart u;
        uint8_t in[UART_RX_BYTES_MAX + 100];

        for (size_t i = 0; i < sizeof(in); i++)
                in[i] = (uint8_t)(i % 251);
        uart_init(&u);
        CU_ASSERT_EQUAL(uart_receive(&u, in, 10), 10);
        for (unsigned i = 0; i < 10; i++)
                CU_ASSERT_EQUAL(uart_in(&u, DATA), in[i]);
        /* wraps around now */
        CU_ASSERT_EQUAL(uart_receive(&u, in, sizeof(in)), UART_RX_BYTES_MAX);
        CU_ASSERT_EQUAL(uart_receive(&u, in, 1), 0);
        /* clearing the FIFO loses its 16 bytes, not what waits behind */
        uart_out(&u, IIR, 0x03);
        CU_ASSERT_EQUAL(uart_room(&u), UART_FIFO_BYTES);

        unsigned wrong = 0;

        for (unsigned i = UART_FIFO_BYTES; i < UART_RX_BYTES_MAX; i++)
                wrong += uart_in(&u, DATA) != in[i];
        CU_ASSERT_EQUAL(wrong, 0);
        uart_out(&u, IIR, 0x03);
        CU_ASSERT_EQUAL(uart_room(&u), UART_RX_BYTES_MAX);
}

static void state_survives(void)
{
        struct uart u, back;
        uint8_t in[3000];

        uart_init(&u);
        memset(in, 'x', sizeof(in));
        uart_receive(&u, in, sizeof(in));
        for (unsigned i = 0; i < 2990; i++)
                (void)uart_in(&u, DATA);
        uart_receive(&u, in, sizeof(in));
        uart_receive(&u, (const uint8_t *)"\0\xff", 2);
        uart_out(&u, LCR, 0x80);
        uart_out(&u, DATA, 0x18);
        uart_out(&u, IER, 0x02);
        uart_out(&u, LCR, 0x1b);
        uart_out(&u, IIR, 0x01);
        uart_out(&u, MCR, 0x0b);
        uart_out(&u, SCR, 0x77);
        uart_out(&u, IER, 0x07);

        struct json_object *o;

        CU_ASSERT_EQUAL_FATAL(uart_save(&u, &o, NULL), 0);
        memset(&back, 0xee, sizeof(back));
        CU_ASSERT_EQUAL_FATAL(uart_load(&back, o, NULL), 0);
        json_object_put(o);
        CU_ASSERT_EQUAL(uart_irq(&back), uart_irq(&u));
        for (unsigned reg = IER; reg <= SCR; reg++)
                CU_ASSERT_EQUAL(uart_in(&back, reg), uart_in(&u, reg));
        CU_ASSERT_EQUAL(back.dll, 0x18);
        CU_ASSERT_EQUAL(back.dlm, 0x02);
        CU_ASSERT_EQUAL(back.rx_bytes, 3012);
        for (unsigned i = 0; i < 3012; i++)
                CU_ASSERT_EQUAL(uart_in(&back, DATA), uart_in(&u, DATA));
}

static void bad_state_is_refused(void)
{
        static const struct {
                const char *key, *value;        /* value NULL: key is missing */
        } t[] = {
                { "version", "2" }, { "version", NULL }, { "ier", "16" }, { "ier", "-1" },
                { "lcr", "256" }, { "mcr", "32" }, { "thri", "1" }, { "rx", "5" },
                { "rx", "\"0\"" }, { "rx", "\"0g\"" }, { "rx", "\"AA\"" }, { "rx", NULL },
        };
        struct uart u, before;

        uart_init(&u);
        before = u;
        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct json_object *o;
                struct err e = { 0 };

                CU_ASSERT_EQUAL_FATAL(uart_save(&u, &o, NULL), 0);
                json_object_object_del(o, t[i].key);
                if (t[i].value)
                        json_object_object_add(o, t[i].key, json_tokener_parse(t[i].value));
                CU_ASSERT_EQUAL(uart_load(&u, o, &e), -EBADMSG);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, t[i].key));
                CU_ASSERT_EQUAL(memcmp(&u, &before, sizeof(u)), 0);
                json_object_put(o);
        }
}

static void too_much_input_is_refused(void)
{
        static char text[2 * (UART_RX_BYTES_MAX + 1) + 1];
        struct uart u;
        struct json_object *o;

        uart_init(&u);
        CU_ASSERT_EQUAL_FATAL(uart_save(&u, &o, NULL), 0);
        memset(text, '0', sizeof(text) - 1);
        json_put_str(o, "rx", text);
        CU_ASSERT_EQUAL(uart_load(&u, o, NULL), -EBADMSG);
        text[2 * UART_RX_BYTES_MAX] = '\0';
        json_put_str(o, "rx", text);
        CU_ASSERT_EQUAL(uart_load(&u, o, NULL), 0);
        json_object_put(o);
}

static const CU_TestInfo cases[] = {
        { "looks like a 16550A", looks_like_a_16550a },
        { "the divisor hides data and IER", divisor_hides_data_and_ier },
        { "transmitter interrupt", transmit_interrupt },
        { "received data goes first", receive_goes_first },
        { "loopback returns bytes", loopback_returns_bytes },
        { "input is bounded and in order", input_is_bounded_and_in_order },
        { "state survives save and load", state_survives },
        { "bad saved state is refused and changes nothing", bad_state_is_refused },
        { "too much saved input is refused", too_much_input_is_refused },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("uart", cases);
}
