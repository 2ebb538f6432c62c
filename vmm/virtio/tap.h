/* SPDX-License-Identifier: Apache-2.0 */
/* tap.h - a network interface of the host whose other end is a descriptor: each read and each
 * write is one Ethernet frame behind a virtio-net header of TAP_HEADER_BYTES.
 *
 * Ownership: the descriptor is the caller's. It is nonblocking and closed on exec.
 * Threads:   any.
 * Errors:    name the interface and the remedy.
 */
#ifndef VMM_VIRTIO_TAP_H
#define VMM_VIRTIO_TAP_H

#include <linux/if_tun.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/* virtio 1.2, 5.1.6, as every device of version 1 has it */
#define TAP_HEADER_BYTES 12

/* name: of a tap ("tap0"), which must be there: one made here would lead nowhere and be gone
 * with us; of a macvtap's device file ("/dev/tap7"); or "fd:N", a descriptor of either that we
 * inherited, which is the caller's like any other from here on. */
int tap_open(const char *name, int *ret_fd, struct err *e);

/* What the host may leave to whoever reads its frames, if asked: a set of TUN_F_*. Empty for
 * what is no tap. All are off afterwards. */
unsigned tap_offloads(int fd);
/* From now on exactly these. */
int tap_set_offloads(int fd, unsigned offloads, struct err *e);

#endif
