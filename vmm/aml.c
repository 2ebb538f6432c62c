/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/aml.h"

#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

/* ACPI 6.4, chapter 20 */
#define OP_ZERO 0x00
#define OP_ONE 0x01
#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_DUAL_NAME 0x2e               /* a path of two names */
#define OP_EXT 0x5b
#define OP_EXT_DEVICE 0x82
#define OP_ARG0 0x68
#define OP_NOTIFY 0x86
#define OP_LEQUAL 0x93
#define OP_IF 0xa0
#define RES_IRQ_NO_FLAGS 0x22
#define RES_IO 0x47
#define RES_END 0x79
#define RES_MEMORY32 0x86
#define RES_INTERRUPT 0x89

#define METHOD_ARGS_MAX 7
#define METHOD_SERIALIZED 8
#define MEMORY_WRITES 1
#define INTERRUPT_CONSUMER 1
#define INTERRUPT_EDGE 2                /* active high and exclusive are 0 */

#define NAME_BYTES 4

/* PkgLength is always written in its two-byte form. */
#define PKG_LENGTH_BYTES 2
#define PKG_LENGTH_MAX 0xfff

void aml_init(struct aml *a, void *buf, size_t room)
{
        *a = (struct aml){ .data = buf, .room = room };
}

static void put(struct aml *a, const void *data, size_t bytes)
{
        ASSERT(bytes <= a->room - a->bytes);
        memcpy(a->data + a->bytes, data, bytes);
        a->bytes += bytes;
}

static void put8(struct aml *a, unsigned v)
{
        uint8_t byte = (uint8_t)v;

        put(a, &byte, 1);
}

static void put16(struct aml *a, uint16_t v)
{
        uint8_t bytes[2];

        put_le16(bytes, v);
        put(a, bytes, sizeof(bytes));
}

static void put32(struct aml *a, uint32_t v)
{
        uint8_t bytes[4];

        put_le32(bytes, v);
        put(a, bytes, sizeof(bytes));
}

static void put_name(struct aml *a, const char *name)
{
        ASSERT(strlen(name) == NAME_BYTES);
        put(a, name, NAME_BYTES);
}

static void begin(struct aml *a)
{
        ASSERT(a->depth < AML_DEPTH_MAX);
        a->open[a->depth].length_at = a->bytes;
        a->open[a->depth].resources_at = 0;
        a->depth++;
        put16(a, 0);
}

static void end_resources(struct aml *a, size_t size_at)
{
        put8(a, RES_END);
        put8(a, 0);                     /* checksum 0: not checked */
        put_le16(a->data + size_at, (uint16_t)(a->bytes - size_at - 2));
}

void aml_end(struct aml *a)
{
        ASSERT(a->depth > 0);
        a->depth--;
        if (a->open[a->depth].resources_at)
                end_resources(a, a->open[a->depth].resources_at);

        size_t at = a->open[a->depth].length_at, length = a->bytes - at;

        ASSERT(length >= PKG_LENGTH_BYTES && length <= PKG_LENGTH_MAX);
        a->data[at] = (uint8_t)(0x40 | (length & 0xf));
        a->data[at + 1] = (uint8_t)(length >> 4);
}

void aml_scope(struct aml *a, const char *name)
{
        put8(a, OP_SCOPE);
        begin(a);
        put8(a, '\\');
        put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
        put8(a, OP_EXT);
        put8(a, OP_EXT_DEVICE);
        begin(a);
        put_name(a, name);
}

void aml_name(struct aml *a, const char *name)
{
        put8(a, OP_NAME);
        put_name(a, name);
}

void aml_int(struct aml *a, uint32_t v)
{
        if (v <= 1) {
                put8(a, v ? OP_ONE : OP_ZERO);
        } else if (v <= UINT8_MAX) {
                put8(a, OP_BYTE);
                put8(a, v);
        } else if (v <= UINT16_MAX) {
                put8(a, OP_WORD);
                put16(a, (uint16_t)v);
        } else {
                put8(a, OP_DWORD);
                put32(a, v);
        }
}

void aml_string(struct aml *a, const char *text)
{
        put8(a, OP_STRING);
        put(a, text, strlen(text) + 1);
}

static uint32_t hex_digit(char c)
{
        ASSERT((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
        return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of 5 bits, four hexadecimal digits; big-endian in the table. */
void aml_eisaid(struct aml *a, const char *id)
{
        uint32_t v = 0;
        uint8_t bytes[4];

        ASSERT(strlen(id) == 7);
        for (unsigned i = 0; i < 3; i++)
                v = v << 5 | (uint32_t)(id[i] - '@');
        for (unsigned i = 3; i < 7; i++)
                v = v << 4 | hex_digit(id[i]);
        put_be32(bytes, v);
        put8(a, OP_DWORD);
        put(a, bytes, sizeof(bytes));
}

void aml_package(struct aml *a, uint8_t items)
{
        put8(a, OP_PACKAGE);
        begin(a);
        put8(a, items);
}

void aml_resources(struct aml *a)
{
        put8(a, OP_BUFFER);
        begin(a);
        put8(a, OP_WORD);
        a->open[a->depth - 1].resources_at = a->bytes;
        put16(a, 0);
}

void aml_res_io(struct aml *a, uint16_t port, uint8_t ports)
{
        put8(a, RES_IO);
        put8(a, 1);                     /* decodes 16 bits */
        put16(a, port);
        put16(a, port);
        put8(a, 1);                     /* alignment */
        put8(a, ports);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
        ASSERT(irq < 16);
        put8(a, RES_IRQ_NO_FLAGS);
        put16(a, (uint16_t)(1u << irq));
}

/* A large resource item: its length counts what follows. */
static void put_large(struct aml *a, unsigned type, uint16_t bytes)
{
        put8(a, type);
        put16(a, bytes);
}

void aml_res_memory(struct aml *a, uint32_t gpa, uint32_t bytes)
{
        put_large(a, RES_MEMORY32, 9);
        put8(a, MEMORY_WRITES);
        put32(a, gpa);
        put32(a, bytes);
}

void aml_res_gsi(struct aml *a, unsigned gsi)
{
        put_large(a, RES_INTERRUPT, 6);
        put8(a, INTERRUPT_CONSUMER | INTERRUPT_EDGE);
        put8(a, 1);                     /* how many */
        put32(a, gsi);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
        ASSERT(args <= METHOD_ARGS_MAX);
        put8(a, OP_METHOD);
        begin(a);
        put_name(a, name);
        put8(a, args | METHOD_SERIALIZED);
}

void aml_if_arg0(struct aml *a, uint32_t v)
{
        put8(a, OP_IF);
        begin(a);
        put8(a, OP_LEQUAL);
        put8(a, OP_ARG0);
        aml_int(a, v);
}

void aml_notify(struct aml *a, const char *scope, const char *device, uint32_t v)
{
        put8(a, OP_NOTIFY);
        put8(a, '\\');
        put8(a, OP_DUAL_NAME);
        put_name(a, scope);
        put_name(a, device);
        aml_int(a, v);
}
