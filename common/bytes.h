/* SPDX-License-Identifier: Apache-2.0 */
/* bytes.h - unaligned big- and little-endian integers in byte buffers.
 *
 * QCOW2 is big-endian; our own sections and messages are little-endian.
 * The caller has checked that the bytes are there.
 */
#ifndef COMMON_BYTES_H
#define COMMON_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_DEFINE(bits, order)                                              \
        static inline uint##bits##_t get_##order##bits(const void *p)         \
        {                                                                      \
                uint##bits##_t v;                                              \
                memcpy(&v, p, sizeof(v));                                      \
                return order##bits##toh(v);                                    \
        }                                                                      \
        static inline void put_##order##bits(void *p, uint##bits##_t v)       \
        {                                                                      \
                v = hto##order##bits(v);                                       \
                memcpy(p, &v, sizeof(v));                                      \
        }

BYTES_DEFINE(16, be)
BYTES_DEFINE(32, be)
BYTES_DEFINE(64, be)
BYTES_DEFINE(16, le)
BYTES_DEFINE(32, le)
BYTES_DEFINE(64, le)

#undef BYTES_DEFINE

#endif
