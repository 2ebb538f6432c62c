/* SPDX-License-Identifier: Apache-2.0 */
/* tap-kit.h - taps in a network of the test's own, and the host's end of them.
 *
 * What fails here is an ASSERT: the test has made sure before that it may.
 * Threads: one.
 */
#ifndef TESTS_UNIT_TAP_KIT_H
#define TESTS_UNIT_TAP_KIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From here on this process is in a network of its own. false: it may not, which was said. */
bool tap_kit_enter(void);

/* A tap that stays until it is deleted, and is up. */
void tap_kit_add(const char *name, bool multi_queue);
void tap_kit_delete(const char *name);
void tap_kit_set_up(const char *name, bool up);

/* Sees and sends all frames of the interface, each behind a virtio-net header of 10 bytes. */
int tap_kit_socket(const char *name);

#define TAP_KIT_HEADER 10
#define TAP_KIT_TCP_BYTES 54u
/* Ethernet, IPv4 and TCP headers of a frame of so many bytes; its checksum of TCP is left to be
 * made. The header in front says so, and that segments have segment_bytes (0 = do not cut). */
void tap_kit_tcp(uint8_t *header, uint8_t *frame, size_t bytes, uint16_t segment_bytes);

#endif
