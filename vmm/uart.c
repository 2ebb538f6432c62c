/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/uart.h"

#include <errno.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/hex.h"

/* Theory of operation
 *
 * Bytes leave at once, so LSR always says that the transmitter is empty, and
 * "transmitter empty" (thri) comes true again with every byte written and with
 * every 0 -> 1 of its enable bit: Linux starts sending by that alone. Reading
 * IIR while it reports thri withdraws it.
 * The receive FIFO of 16 is the front of one longer ring. A guest that clears
 * its FIFO, as every driver does at open, loses the front only.
 * The modem lines are those of a peer that is always there. MCR's OUT2, which
 * gates the interrupt on a PC, is ignored: no driver relies on the gate.
 */

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

#define IER_RX 0x01
#define IER_THRI 0x02
#define IER_ALL 0x0f
#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_RX 0x04
#define IIR_FIFO 0xc0
#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02
#define LCR_DLAB 0x80
#define MCR_LOOP 0x10
#define MCR_ALL 0x1f
#define LSR_DATA 0x01
#define LSR_TX_EMPTY 0x60
#define MSR_PEER 0xb0                   /* DCD, DSR, CTS */

void uart_init(struct uart *u)
{
        *u = (struct uart){ .dll = 1 };
}

static bool rx_pending(const struct uart *u)
{
        return (u->ier & IER_RX) && u->rx_bytes;
}

static bool thri_pending(const struct uart *u)
{
        return (u->ier & IER_THRI) && u->thri;
}

bool uart_irq(const struct uart *u)
{
        return rx_pending(u) || thri_pending(u);
}

size_t uart_room(const struct uart *u)
{
        return UART_RX_BYTES_MAX - u->rx_bytes;
}

size_t uart_receive(struct uart *u, const uint8_t *data, size_t bytes)
{
        size_t taken = MIN(bytes, uart_room(u));

        for (size_t i = 0; i < taken; i++)
                u->rx[(u->rx_head + u->rx_bytes++) % UART_RX_BYTES_MAX] = data[i];
        ASSERT(u->rx_bytes <= UART_RX_BYTES_MAX);
        return taken;
}

static void rx_drop(struct uart *u, unsigned bytes)
{
        ASSERT(bytes <= u->rx_bytes);
        u->rx_head = (u->rx_head + bytes) % UART_RX_BYTES_MAX;
        u->rx_bytes -= bytes;
}

static uint8_t read_data(struct uart *u)
{
        if (!u->rx_bytes)
                return 0;

        uint8_t v = u->rx[u->rx_head];

        rx_drop(u, 1);
        return v;
}

static uint8_t read_iir(struct uart *u)
{
        uint8_t fifo = (u->fcr & FCR_ENABLE) ? IIR_FIFO : 0;

        if (rx_pending(u))
                return fifo | IIR_RX;
        if (thri_pending(u)) {
                u->thri = false;
                return fifo | IIR_THRI;
        }
        return fifo | IIR_NONE;
}

/* In loopback DTR, RTS, OUT1 and OUT2 appear as DSR, CTS, RI and DCD. */
static uint8_t read_msr(const struct uart *u)
{
        if (!(u->mcr & MCR_LOOP))
                return MSR_PEER;
        return (uint8_t)((u->mcr & 0x01) << 5 | (u->mcr & 0x02) << 3 | (u->mcr & 0x0c) << 4);
}

uint8_t uart_in(struct uart *u, unsigned reg)
{
        bool dlab = u->lcr & LCR_DLAB;

        switch (reg) {
        case RBR_THR: return dlab ? u->dll : read_data(u);
        case IER:     return dlab ? u->dlm : u->ier;
        case IIR_FCR: return read_iir(u);
        case LCR:     return u->lcr;
        case MCR:     return u->mcr;
        case LSR:     return LSR_TX_EMPTY | (u->rx_bytes ? LSR_DATA : 0);
        case MSR:     return read_msr(u);
        default:
                ASSERT(reg == SCR);
                return u->scr;
        }
}

static bool write_data(struct uart *u, uint8_t v)
{
        u->thri = true;
        if (!(u->mcr & MCR_LOOP))
                return true;
        (void)uart_receive(u, &v, 1);   /* an overrun loses the byte */
        return false;
}

static void write_ier(struct uart *u, uint8_t v)
{
        if (!(u->ier & IER_THRI) && (v & IER_THRI))
                u->thri = true;
        u->ier = v & IER_ALL;
}

static void write_fcr(struct uart *u, uint8_t v)
{
        if (v & FCR_CLEAR_RX)
                rx_drop(u, MIN(u->rx_bytes, (unsigned)UART_FIFO_BYTES));
        u->fcr = v & FCR_ENABLE;
}

bool uart_out(struct uart *u, unsigned reg, uint8_t v)
{
        bool dlab = u->lcr & LCR_DLAB;

        switch (reg) {
        case RBR_THR:
                if (!dlab)
                        return write_data(u, v);
                u->dll = v;
                break;
        case IER:
                if (dlab)
                        u->dlm = v;
                else
                        write_ier(u, v);
                break;
        case IIR_FCR: write_fcr(u, v); break;
        case LCR:     u->lcr = v; break;
        case MCR:     u->mcr = v & MCR_ALL; break;
        case SCR:     u->scr = v; break;
        default:
                ASSERT(reg == LSR || reg == MSR);       /* read-only */
        }
        return false;
}

/* ---- saved state --------------------------------------------------------- */

#define UART_VERSION 1

struct field {
        const char *key;
        size_t at;
        uint8_t max;
};

static const struct field fields[] = {
        { "ier", offsetof(struct uart, ier), IER_ALL },
        { "lcr", offsetof(struct uart, lcr), UINT8_MAX },
        { "mcr", offsetof(struct uart, mcr), MCR_ALL },
        { "scr", offsetof(struct uart, scr), UINT8_MAX },
        { "dll", offsetof(struct uart, dll), UINT8_MAX },
        { "dlm", offsetof(struct uart, dlm), UINT8_MAX },
        { "fcr", offsetof(struct uart, fcr), FCR_ENABLE },
};

int uart_save(const struct uart *u, struct json_object **ret, struct err *e)
{
        AUTO_JSON *o = json_object_new_object();
        uint8_t rx[UART_RX_BYTES_MAX];

        json_put_u64(o, "version", UART_VERSION);
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                json_put_u64(o, fields[i].key, ((const uint8_t *)u)[fields[i].at]);
        json_put_bool(o, "thri", u->thri);
        for (unsigned i = 0; i < u->rx_bytes; i++)
                rx[i] = u->rx[(u->rx_head + i) % UART_RX_BYTES_MAX];
        if (hex_put(o, "rx", rx, u->rx_bytes) < 0)
                return err_msg(e, ENOMEM, "no memory to save the serial port");
        *ret = ptr_take(&o);
        return 0;
}

int uart_load(struct uart *u, struct json_object *o, struct err *e)
{
        struct uart loaded = { 0 };
        size_t rx_bytes = 0;
        uint64_t v;
        int rc = json_take_u64(o, "version", UART_VERSION, &v, e);

        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(fields); i++) {
                rc = json_take_u64(o, fields[i].key, fields[i].max, &v, e);
                if (rc == 0)
                        ((uint8_t *)&loaded)[fields[i].at] = (uint8_t)v;
        }
        if (rc == 0)
                rc = json_take_bool(o, "thri", &loaded.thri, e);
        if (rc == 0)
                rc = hex_take(o, "rx", UART_RX_BYTES_MAX, loaded.rx, &rx_bytes, e);
        if (rc < 0)
                return rc;
        loaded.rx_bytes = (unsigned)rx_bytes;
        *u = loaded;
        return 0;
}
