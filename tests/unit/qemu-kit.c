/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/qemu-kit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define MACHINE "pc-i440fx-7.2"
#define RAM_ID 2u

void kit_u8(struct qemubuf *b, unsigned v)
{
        uint8_t byte = (uint8_t)v;

        qemubuf_put(b, &byte, 1);
}

void kit_u16(struct qemubuf *b, unsigned v)
{
        uint8_t p[2];

        put_be16(p, (uint16_t)v);
        qemubuf_put(b, p, sizeof(p));
}

void kit_u32(struct qemubuf *b, uint32_t v)
{
        uint8_t p[4];

        put_be32(p, v);
        qemubuf_put(b, p, sizeof(p));
}

void kit_u64(struct qemubuf *b, uint64_t v)
{
        uint8_t p[8];

        put_be64(p, v);
        qemubuf_put(b, p, sizeof(p));
}

void kit_text(struct qemubuf *b, const char *text)
{
        kit_u8(b, (unsigned)strlen(text));
        qemubuf_put(b, text, strlen(text));
}

void kit_fill(struct qemubuf *b, unsigned v, size_t bytes)
{
        while (bytes-- > 0)
                kit_u8(b, v);
}

uint32_t qemu_kit_page_bytes(const struct qemu_kit *k)
{
        return k->page_bits ? 1u << k->page_bits : 4096;
}

void qemu_kit_head(const struct qemu_kit *k, struct qemubuf *b)
{
        qemubuf_put(b, "QEVM\0\0\0\3", 8);
        if (k->no_configuration)
                return;
        kit_u8(b, 7);
        kit_u32(b, (uint32_t)strlen(MACHINE));
        qemubuf_put(b, MACHINE, strlen(MACHINE));
        if (k->page_bits) {
                kit_u8(b, 5);
                kit_text(b, "configuration/target-page-bits");
                kit_u32(b, 1);
                kit_u32(b, k->page_bits);
        }
        if (k->uuid) {
                kit_u8(b, 5);
                kit_text(b, "configuration/uuid");
                kit_u32(b, 1);
                kit_fill(b, 5, 16);
        }
}

static void section_end(const struct qemu_kit *k, struct qemubuf *b)
{
        if (k->flush)
                kit_u64(b, 0x200);
        kit_u64(b, 0x10);
        if (k->no_footers)
                return;
        kit_u8(b, 0x7e);
        kit_u32(b, RAM_ID);
}

void qemu_kit_start(const struct qemu_kit *k, struct qemubuf *b)
{
        uint64_t page = qemu_kit_page_bytes(k);

        if (k->return_path) {
                qemubuf_put(b, "\10\0\1\0\0", 5);
                qemubuf_put(b, "\10\0\2\0\4\0\0\0\1", 9);
        }
        kit_u8(b, 1);
        kit_u32(b, RAM_ID);
        kit_text(b, "ram");
        kit_u32(b, 0);
        kit_u32(b, 4);
        kit_u64(b, (QEMU_KIT_RAM_PAGES + QEMU_KIT_ROM_PAGES) * page | 4);
        kit_text(b, QEMU_KIT_RAM);
        kit_u64(b, QEMU_KIT_RAM_PAGES * page);
        kit_text(b, QEMU_KIT_ROM);
        kit_u64(b, QEMU_KIT_ROM_PAGES * page);
        section_end(k, b);
}

/* name NULL: CONTINUE */
static void page(const struct qemu_kit *k, struct qemubuf *b, const char *name, uint64_t index,
                 unsigned fill)
{
        uint64_t bytes = qemu_kit_page_bytes(k);

        kit_u64(b, index * bytes | (fill ? 8 : 2) | (name ? 0 : 0x20));
        if (name)
                kit_text(b, name);
        kit_fill(b, fill, fill ? bytes : 1);
}

void qemu_kit_pages(const struct qemu_kit *k, struct qemubuf *b)
{
        kit_u8(b, 2);
        kit_u32(b, RAM_ID);
        page(k, b, QEMU_KIT_RAM, 0, 0x11);
        page(k, b, NULL, 1, 0);
        page(k, b, NULL, 2, 0);
        page(k, b, NULL, 7, 0x22);
        page(k, b, QEMU_KIT_ROM, 1, 0x33);
        page(k, b, NULL, 0, 0);
        page(k, b, QEMU_KIT_RAM, 3, 0);
        section_end(k, b);
        if (k->switchover)
                qemubuf_put(b, "\10\0\13\0\0", 5);
        kit_u8(b, k->background ? 2 : 3);
        kit_u32(b, RAM_ID);
        page(k, b, NULL, 4, 0x44);
        section_end(k, b);
}

void qemu_kit_tail(const struct qemu_kit *k, struct qemubuf *b)
{
        kit_u8(b, 4);
        kit_u32(b, 0);
        kit_text(b, "timer");
        kit_u32(b, 0);
        kit_u32(b, 2);
        kit_u64(b, 123456789);
        if (!k->no_footers) {
                kit_u8(b, 0x7e);
                kit_u32(b, 0);
        }
        kit_u8(b, 0);
        if (k->no_desc)
                return;
        kit_u8(b, 6);
        kit_u32(b, (uint32_t)strlen(QEMU_KIT_JSON));
        qemubuf_put(b, QEMU_KIT_JSON, strlen(QEMU_KIT_JSON));
}

void qemu_kit_stream(const struct qemu_kit *k, struct qemubuf *b)
{
        qemu_kit_head(k, b);
        qemu_kit_start(k, b);
        qemu_kit_pages(k, b);
        qemu_kit_tail(k, b);
}

void kit_said(struct kit_said *s, const char *format, ...)
{
        va_list args;

        va_start(args, format);

        int n = vsnprintf(s->text + s->n, sizeof(s->text) - s->n, format, args);

        va_end(args);
        ASSERT(n > 0 && (size_t)n < sizeof(s->text) - s->n);
        s->n += (size_t)n;
}
