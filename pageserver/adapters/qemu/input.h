/* SPDX-License-Identifier: Apache-2.0 */
/* input.h - the migration stream that a file holds: plain, compressed with gzip or zstd,
 * or behind the head of a file that `virsh save` wrote.
 *
 * Threads: one at a time. Errors: 0 or a negative errno with a sentence that names the
 * file. The bytes are untrusted: only the wrapping was judged.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_INPUT_H
#define PAGESERVER_ADAPTERS_QEMU_INPUT_H

#include <stddef.h>

#include "common/err.h"

struct input;

/* path may be a pipe. -ENOTSUP, with the remedy: of a compression that is not read */
int input_open(const char *path, struct input **ret, struct err *e);
/* *ret bytes, at most room; 0 = that was all, and the wrapping is sound */
int input_read(struct input *in, void *buf, size_t room, size_t *ret, struct err *e);
void input_close(struct input *in);

#endif
