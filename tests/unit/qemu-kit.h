/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-kit.h - streams as a QEMU that saves sends them, made byte by byte here: not with
 * qemuload.h, which is compared with them.
 *
 * The machine has two RAM blocks. Its pages, in the order of the stream:
 *     qemu_kit_ram   page 0 with bytes 0x11, 1 and 2 zero, 7 with 0x22
 *     qemu_kit_rom   page 1 with bytes 0x33, 0 zero
 *     qemu_kit_ram   page 3 zero and, in a section of its own, 4 with 0x44
 */
#ifndef TESTS_UNIT_QEMU_KIT_H
#define TESTS_UNIT_QEMU_KIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/qemuload.h"

#define QEMU_KIT_RAM "pc.ram"
#define QEMU_KIT_ROM "/rom@etc/acpi/tables"
#define QEMU_KIT_RAM_PAGES 8u
#define QEMU_KIT_ROM_PAGES 2u
#define QEMU_KIT_JSON "{\"page_size\": 4096, \"devices\": []}"

struct qemu_kit {
        bool no_configuration;
        unsigned page_bits;             /* a subsection says so; 0 = none, 4 KiB */
        bool uuid;
        bool return_path;               /* OPEN_RETURN_PATH, PING 1 */
        bool no_footers;
        bool background;                /* no END section */
        bool flush;                     /* words MULTIFD_FLUSH */
        bool switchover;                /* SWITCHOVER_START */
        bool no_desc;
};

/* Each adds its part of the stream. */
void qemu_kit_head(const struct qemu_kit *k, struct qemubuf *b);
void qemu_kit_start(const struct qemu_kit *k, struct qemubuf *b);       /* commands, START */
void qemu_kit_pages(const struct qemu_kit *k, struct qemubuf *b);       /* PARTs, END */
void qemu_kit_tail(const struct qemu_kit *k, struct qemubuf *b);
void qemu_kit_stream(const struct qemu_kit *k, struct qemubuf *b);      /* all four */

uint32_t qemu_kit_page_bytes(const struct qemu_kit *k);

void kit_u8(struct qemubuf *b, unsigned v);
void kit_u16(struct qemubuf *b, unsigned v);
void kit_u32(struct qemubuf *b, uint32_t v);
void kit_u64(struct qemubuf *b, uint64_t v);
void kit_text(struct qemubuf *b, const char *text);
void kit_fill(struct qemubuf *b, unsigned v, size_t bytes);

/* what a parser said, as text; starts all zero, and more than it holds aborts */
struct kit_said {
        char text[4096];
        size_t n;
};
void kit_said(struct kit_said *s, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

#endif
