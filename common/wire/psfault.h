/* SPDX-License-Identifier: Apache-2.0 */
/* psfault.h - missing faults that a client passes on while it holds the reader lease (LEASE,
 * psmsg.h): bytes <-> addresses.
 *
 * One SOCK_SEQPACKET packet is 1 to PSFAULT_MAX addresses in the client's memory, u64
 * little-endian each, and nothing else. None is longer, and none is empty: what reads as
 * empty is the end of the lease.
 *
 * Threads: pure functions. No I/O.
 */
#ifndef COMMON_WIRE_PSFAULT_H
#define COMMON_WIRE_PSFAULT_H

#include <stddef.h>
#include <stdint.h>

/* as many as a worker takes at a time */
#define PSFAULT_MAX 16u
#define PSFAULT_BYTES_MAX (PSFAULT_MAX * 8)

/* n: 1 to PSFAULT_MAX. Returns the length. */
size_t psfault_encode(const uint64_t *hva, size_t n, uint8_t buf[PSFAULT_BYTES_MAX]);

/* How many there are, or -EBADMSG. Reads none of a packet that is too long; where the
 * addresses lie is regions_gpa()'s. */
int psfault_decode(const void *buf, size_t bytes, uint64_t ret_hva[PSFAULT_MAX]);

#endif
