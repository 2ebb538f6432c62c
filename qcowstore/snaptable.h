/* SPDX-License-Identifier: Apache-2.0 */
/* snaptable.h - entries of the QCOW2 snapshot table: bytes <-> struct.
 *
 * The extra data of our entries are the standard 24 bytes (VM state size, disk
 * size, icount -1) and a tail of ours, kept by QEMU as an unknown one:
 * u64 toc_sum, u64 flags (0), both little-endian.
 *
 * Pure: no I/O. Errors: -EBADMSG.
 */
#ifndef QCOWSTORE_SNAPTABLE_H
#define QCOWSTORE_SNAPTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct snapshot {
        uint64_t l1_offset;
        uint32_t l1_entries;
        uint64_t date_ns;
        uint64_t vm_clock_ns;
        uint64_t state_bytes;
        uint64_t disk_bytes;            /* 0 = not said (version 2) */
        bool complete;                  /* has the sizes that version 3 demands */
        bool ours;                      /* has our tail */
        uint64_t toc_sum;
        char id[16];                    /* longer ones of foreign files are cut */
        char tag[QS_TAG_MAX + 1];
};

/* Bytes written; buf has LAYOUT_SNAPSHOT_BYTES_MAX. */
size_t snaptable_encode(const struct snapshot *s, uint8_t *buf);
/* One entry; *ret_bytes is its length with padding. */
int snaptable_parse(const uint8_t *bytes, size_t len, unsigned cluster_bits,
                    struct snapshot *ret, size_t *ret_bytes, struct err *e);

#endif
