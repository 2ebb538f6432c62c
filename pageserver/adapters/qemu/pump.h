/* SPDX-License-Identifier: Apache-2.0 */
/* pump.h - a thread that gives the stream in a file to who reads a pipe.
 *
 * INV-SOUND: the reader gets the last byte only when the whole file was found sound, so
 *            that a stream out of a damaged file ends too early for him, wherever the
 *            damage is.
 *
 * Ownership: the pump uses the input until pump_end(), which the caller then closes.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_PUMP_H
#define PAGESERVER_ADAPTERS_QEMU_PUMP_H

#include "common/err.h"
#include "pageserver/adapters/qemu/input.h"

struct pump;

/* *ret_fd is the pipe's end to read from, the caller's. SIGPIPE is ignored by the process. */
int pump_start(struct input *in, struct pump **ret, int *ret_fd, struct err *e);
/* The end to read from was closed, or all was read. What was wrong with the file; that
 * nobody wanted all of it is no error. p is freed. */
int pump_end(struct pump *p, struct err *e);

#endif
