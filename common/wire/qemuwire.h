/* SPDX-License-Identifier: Apache-2.0 */
/* qemuwire.h - numbers and nouns of QEMU's migration stream, and its RAM blocks.
 *
 * Big-endian throughout. The same in QEMU 6.0 to 11.0. A text in the stream is a u8 length
 * and as many bytes; a *word* is a be64 whose low bits, below the target's page size, are
 * QEMU_RAM_ flags and whose other bits are an offset in a RAM block.
 *
 * Threads: pure functions. No I/O.
 */
#ifndef COMMON_WIRE_QEMUWIRE_H
#define COMMON_WIRE_QEMUWIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QEMU_MAGIC 0x5145564du                  /* "QEVM" */
#define QEMU_VERSION 3u
#define QEMU_RAM_VERSION 4u
#define QEMU_FOOTER_BYTES 5u

#define QEMU_NAME_MAX 255u                      /* bytes; its length is one byte */
/* A machine has some ten, and one for each NUMA node, DIMM and ROM of a device. */
#define QEMU_BLOCKS_MAX 256u
/* The most an x86-64 guest can have; the sum of all blocks. */
#define QEMU_RAM_BYTES_MAX (1ull << 46)
/* Targets whose pages are smaller are microcontrollers. */
#define QEMU_PAGE_MIN 4096u
#define QEMU_PAGE_MAX 65536u

enum qemu_record {
        QEMU_EOF,
        QEMU_START,                     /* be32 id, text name, be32 instance, be32 version */
        QEMU_PART,                      /* be32 id */
        QEMU_END,                       /* be32 id */
        QEMU_FULL,                      /* as START */
        QEMU_SUBSECTION,                /* only inside of others */
        QEMU_VMDESC,                    /* be32 length, JSON */
        QEMU_CONFIGURATION,             /* only in the head */
        QEMU_COMMAND,                   /* be16 command, be16 length, payload */
        QEMU_FOOTER = 0x7e,             /* be32 id */
};

enum qemu_word {
        QEMU_RAM_FULL = 0x01,
        QEMU_RAM_ZERO = 0x02,           /* [text block], u8 0 */
        QEMU_RAM_MEM_SIZE = 0x04,       /* list of blocks */
        QEMU_RAM_PAGE = 0x08,           /* [text block], a page */
        QEMU_RAM_EOS = 0x10,
        QEMU_RAM_CONTINUE = 0x20,       /* with ZERO, PAGE: the block of the page before */
        QEMU_RAM_XBZRLE = 0x40,
        QEMU_RAM_HOOK = 0x80,
        QEMU_RAM_COMPRESS = 0x100,
        QEMU_RAM_MULTIFD_FLUSH = 0x200,
};

enum qemu_command {
        QEMU_OPEN_RETURN_PATH = 1,
        QEMU_PING,                      /* be32 token */
        QEMU_POSTCOPY_ADVISE,           /* nothing, or be64 page sizes, be64 target's page */
        QEMU_POSTCOPY_LISTEN,
        QEMU_POSTCOPY_RUN,
        QEMU_POSTCOPY_DISCARD,          /* u8 0, text block, u8 0, (be64 start, be64 bytes)+ */
        QEMU_PACKAGED,                  /* be32 bytes of what follows the command */
        QEMU_ENABLE_COLO,
        QEMU_POSTCOPY_RESUME,
        QEMU_RECV_BITMAP,               /* text block */
        QEMU_SWITCHOVER_START,          /* 10.0 and later */
};

/* A stretch of memory that QEMU knows by name. */
struct qemu_ramblock {
        char name[QEMU_NAME_MAX + 1];
        uint64_t bytes;
        /* Of the host memory behind it: 4096, or huge. A saved stream does not say it:
         * qemusave leaves 0 here, the revert's codecs want it. */
        uint32_t page_bytes;
};

/* Whether bytes are well-formed UTF-8 without control characters, 1..QEMU_NAME_MAX of them;
 * then ret holds them with a NUL behind. */
bool qemu_name_take(const uint8_t *bytes, size_t n, char ret[QEMU_NAME_MAX + 1]);

/* The index of the block of that name, or n. */
unsigned qemu_ramblock_find(const struct qemu_ramblock *blocks, unsigned n, const uint8_t *name,
                            size_t bytes);

#endif
