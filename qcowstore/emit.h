/* SPDX-License-Identifier: Apache-2.0 */
/* emit.h - whole host clusters into a file, those that follow each other in few
 * writes.
 *
 * INV-GUARD: the sum of a guarded cluster is noted in the space before HOSTSUMS
 *            is written, which comes behind all of them.
 *
 * Errors: the first failed write is kept and ends all others.
 * Threads: one.
 */
#ifndef QCOWSTORE_EMIT_H
#define QCOWSTORE_EMIT_H

#include <stddef.h>
#include <stdint.h>

#include "qcowstore/space.h"

enum emit_guard { GUARDED, UNGUARDED };
enum emit_order { BIG_ENDIAN_WORDS, LITTLE_ENDIAN_WORDS };

struct emit {
        int fd;
        struct space *space;
        uint64_t seed;
        uint8_t *buf;
        size_t room;
        size_t used;
        uint64_t at;                    /* host cluster that buf starts with */
        int rc;
};

/* -ENOMEM */
int emit_init(struct emit *s, int fd, struct space *space, uint64_t seed);
/* 0, or what the first failed write returned; writes what is left */
int emit_end(struct emit *s);
void emit_fini(struct emit *s);

/* Bytes, or words of an array, to host clusters from `host` on; the rest of the
 * last one is zero. */
void emit_bytes(struct emit *s, uint64_t host, const void *data, uint64_t bytes,
                enum emit_guard guard);
void emit_words(struct emit *s, uint64_t host, const uint64_t *words, uint64_t n,
                enum emit_order order, enum emit_guard guard);
/* one cluster of 32-bit refcounts */
void emit_refs(struct emit *s, uint64_t host, const uint32_t *refs);

#endif
