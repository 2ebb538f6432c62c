/* SPDX-License-Identifier: Apache-2.0 */
/* uart.h - a 16550A serial port as a state machine; no I/O, no interrupt of its own.
 *
 * Its owner moves bytes and the interrupt line: after every call that may
 * change it, uart_irq() is the line's level. Output is never held back: the
 * transmitter is always empty.
 * Ownership: plain struct, nothing to free. Threads: the owner's lock.
 */
#ifndef VMM_UART_H
#define VMM_UART_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define UART_FIFO_BYTES 16
/* The receive FIFO and what is queued behind it: a pasted page of text. */
#define UART_RX_BYTES_MAX 4096

struct uart {
        uint8_t ier, lcr, mcr, scr, dll, dlm, fcr;
        bool thri;                      /* "transmitter empty" not yet reported by IIR */
        uint8_t rx[UART_RX_BYTES_MAX];  /* a ring */
        unsigned rx_head, rx_bytes;
};

void uart_init(struct uart *u);
/* reg: 0..7 */
uint8_t uart_in(struct uart *u, unsigned reg);
/* True when v was sent to the other end. */
bool uart_out(struct uart *u, unsigned reg, uint8_t v);
/* How many bytes were taken. */
size_t uart_receive(struct uart *u, const uint8_t *data, size_t bytes);
size_t uart_room(const struct uart *u);
bool uart_irq(const struct uart *u);

int uart_save(const struct uart *u, struct json_object **ret, struct err *e);
/* u is written on success only */
int uart_load(struct uart *u, struct json_object *o, struct err *e);

#endif
