/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/qemuload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define ROOM_MIN 4096u
/* x86's largest */
#define BLOCK_PAGE_MAX (1u << 30)

/* payload of a command: a be16 says how long */
#define PAYLOAD_MAX 65535u
#define RANGE_BYTES 16u
/* u8 version, text name, u8 end of the name */
#define DISCARD_HEAD_MAX (3u + QEMU_NAME_MAX)
#define DISCARD_RANGES_MAX ((PAYLOAD_MAX - DISCARD_HEAD_MAX) / RANGE_BYTES)

#define COMMAND_BYTES 5u
#define LISTEN_BYTES COMMAND_BYTES
#define PACKAGE_END_BYTES (COMMAND_BYTES + 4u + COMMAND_BYTES)

static_assert(UINT32_MAX - LISTEN_BYTES - PACKAGE_END_BYTES == QEMULOAD_DEVICES_MAX,
              "a package's length has 32 bits");

/* ---- the buffer ----------------------------------------------------------- */

void qemubuf_fini(struct qemubuf *b)
{
        free(b->data);
        *b = (struct qemubuf){ 0 };
}

int qemubuf_check(const struct qemubuf *b, struct err *e)
{
        return b->failed ? err_msg(e, ENOMEM, "no memory for the stream to QEMU") : 0;
}

static bool enlarge(struct qemubuf *b, size_t bytes)
{
        size_t room = MAX(2 * b->room, MAX(b->bytes + bytes, (size_t)ROOM_MIN));
        uint8_t *data = b->failed ? NULL : realloc(b->data, room);

        if (!data) {
                b->failed = true;
                return false;
        }
        b->data = data;
        b->room = room;
        return true;
}

/* Room for bytes at the end, which then belong to it; NULL: failed. */
static uint8_t *extend(struct qemubuf *b, size_t bytes)
{
        if (b->failed || (bytes > b->room - b->bytes && !enlarge(b, bytes)))
                return NULL;

        uint8_t *p = b->data + b->bytes;

        b->bytes += bytes;
        return p;
}

void qemubuf_put(struct qemubuf *b, const void *data, size_t bytes)
{
        uint8_t *p = extend(b, bytes);

        if (p && bytes)
                memcpy(p, data, bytes);
}

static void put_u8(struct qemubuf *b, uint8_t v)
{
        qemubuf_put(b, &v, 1);
}

static void put_u16(struct qemubuf *b, uint16_t v)
{
        uint8_t *p = extend(b, 2);

        if (p)
                put_be16(p, v);
}

static void put_u32(struct qemubuf *b, uint32_t v)
{
        uint8_t *p = extend(b, 4);

        if (p)
                put_be32(p, v);
}

static void put_u64(struct qemubuf *b, uint64_t v)
{
        uint8_t *p = extend(b, 8);

        if (p)
                put_be64(p, v);
}

static void put_text(struct qemubuf *b, const char *text)
{
        size_t n = strlen(text);

        put_u8(b, (uint8_t)n);
        qemubuf_put(b, text, n);
}

/* ---- what everything below relies on -------------------------------------- */

static bool is_power_of_two(uint64_t v)
{
        return v && !(v & (v - 1));
}

static int check_block(const struct qemuload *l, unsigned i, struct err *e)
{
        const struct qemu_ramblock *block = &l->blocks[i];
        size_t n = strnlen(block->name, sizeof(block->name));
        char name[QEMU_NAME_MAX + 1];

        if (!qemu_name_take((const uint8_t *)block->name, n, name))
                return err_msg(e, EBADMSG, "RAM block %u has no name", i);
        if (qemu_ramblock_find(l->blocks, i, (const uint8_t *)name, n) < i)
                return err_msg(e, EBADMSG, "there are two RAM blocks '%s'", name);
        if (!is_power_of_two(block->page_bytes) || block->page_bytes > BLOCK_PAGE_MAX ||
            block->page_bytes < l->page_bytes || block->page_bytes < l->host_page_bytes)
                return err_msg(e, EBADMSG, "RAM block '%s' cannot have pages of %u bytes", name,
                               block->page_bytes);
        if (block->bytes == 0 || block->bytes % block->page_bytes)
                return err_msg(e, EBADMSG, "RAM block '%s' of %llu bytes is not of whole pages "
                               "of %u bytes", name, (unsigned long long)block->bytes,
                               block->page_bytes);
        return 0;
}

int qemuload_check(const struct qemuload *l, struct err *e)
{
        uint64_t left = QEMU_RAM_BYTES_MAX;

        if (!is_power_of_two(l->page_bytes) || l->page_bytes < QEMU_PAGE_MIN ||
            l->page_bytes > QEMU_PAGE_MAX || !is_power_of_two(l->host_page_bytes))
                return err_msg(e, EBADMSG, "a guest cannot have pages of %u bytes",
                               l->page_bytes);
        if (l->nblocks == 0 || l->nblocks > QEMU_BLOCKS_MAX)
                return err_msg(e, EBADMSG, "a machine cannot have %u RAM blocks", l->nblocks);
        for (unsigned i = 0; i < l->nblocks; i++) {
                int rc = check_block(l, i, e);

                if (rc < 0)
                        return rc;
                if (l->blocks[i].bytes > left)
                        return err_msg(e, EBADMSG, "the RAM blocks have more than %llu bytes",
                                       (unsigned long long)QEMU_RAM_BYTES_MAX);
                left -= l->blocks[i].bytes;
        }
        return 0;
}

/* ---- commands ------------------------------------------------------------- */

static void put_command(struct qemubuf *b, enum qemu_command command, size_t payload_bytes)
{
        ASSERT(payload_bytes <= PAYLOAD_MAX);
        put_u8(b, QEMU_COMMAND);
        put_u16(b, (uint16_t)command);
        put_u16(b, (uint16_t)payload_bytes);
}

void qemuload_command(struct qemubuf *b, enum qemu_command command)
{
        put_command(b, command, 0);
}

void qemuload_ping(struct qemubuf *b, uint32_t token)
{
        put_command(b, QEMU_PING, 4);
        put_u32(b, token);
}

void qemuload_advise(const struct qemuload *l, struct qemubuf *b)
{
        uint64_t summary = 0;

        for (unsigned i = 0; i < l->nblocks; i++)
                summary |= l->blocks[i].page_bytes;
        put_command(b, QEMU_POSTCOPY_ADVISE, 16);
        put_u64(b, summary);
        put_u64(b, l->page_bytes);
}

void qemuload_ask_bitmap(const struct qemuload *l, struct qemubuf *b, unsigned block)
{
        ASSERT(block < l->nblocks);
        put_command(b, QEMU_RECV_BITMAP, 1 + strlen(l->blocks[block].name));
        put_text(b, l->blocks[block].name);
}

static void put_discard(struct qemubuf *b, const char *name, const struct qemuload_range *ranges,
                        size_t n)
{
        put_command(b, QEMU_POSTCOPY_DISCARD, 3 + strlen(name) + n * RANGE_BYTES);
        put_u8(b, 0);
        put_text(b, name);
        put_u8(b, 0);
        for (size_t i = 0; i < n; i++) {
                put_u64(b, ranges[i].offset);
                put_u64(b, ranges[i].bytes);
        }
}

void qemuload_discard(const struct qemuload *l, struct qemubuf *b, unsigned block,
                      const struct qemuload_range *ranges, size_t n)
{
        ASSERT(block < l->nblocks);
        for (size_t i = 0; i < n; i++) {
                ASSERT(ranges[i].offset < l->blocks[block].bytes);
                ASSERT(ranges[i].bytes <= l->blocks[block].bytes - ranges[i].offset);
        }
        while (n > 0) {
                size_t now = MIN(n, DISCARD_RANGES_MAX);

                put_discard(b, l->blocks[block].name, ranges, now);
                ranges += now;
                n -= now;
        }
}

void qemuload_discard_all(const struct qemuload *l, struct qemubuf *b)
{
        for (unsigned i = 0; i < l->nblocks; i++) {
                struct qemuload_range all = { 0, l->blocks[i].bytes };

                qemuload_discard(l, b, i, &all, 1);
        }
}

void qemuload_package(struct qemubuf *b, uint32_t devices_bytes)
{
        ASSERT(devices_bytes <= QEMULOAD_DEVICES_MAX);
        put_command(b, QEMU_PACKAGED, 4);
        put_u32(b, LISTEN_BYTES + devices_bytes + PACKAGE_END_BYTES);
        qemuload_command(b, QEMU_POSTCOPY_LISTEN);
}

void qemuload_package_end(struct qemubuf *b, uint32_t token)
{
        qemuload_ping(b, token);
        qemuload_command(b, QEMU_POSTCOPY_RUN);
}

/* ---- sections ------------------------------------------------------------- */

void qemuload_section(const struct qemuload *l, struct qemubuf *b, enum qemu_record type)
{
        ASSERT(type == QEMU_PART || type == QEMU_END);
        put_u8(b, (uint8_t)type);
        put_u32(b, l->ram_id);
}

void qemuload_section_end(const struct qemuload *l, struct qemubuf *b)
{
        put_u64(b, QEMU_RAM_EOS);
        if (!l->footers)
                return;
        put_u8(b, QEMU_FOOTER);
        put_u32(b, l->ram_id);
}

void qemuload_start(const struct qemuload *l, struct qemubuf *b, bool advised)
{
        uint32_t usual = MAX(l->host_page_bytes, l->page_bytes);
        uint64_t sum = 0;

        for (unsigned i = 0; i < l->nblocks; i++)
                sum += l->blocks[i].bytes;
        put_u8(b, QEMU_START);
        put_u32(b, l->ram_id);
        put_text(b, "ram");
        put_u32(b, l->ram_instance);
        put_u32(b, l->ram_version);
        put_u64(b, sum | QEMU_RAM_MEM_SIZE);
        for (unsigned i = 0; i < l->nblocks; i++) {
                put_text(b, l->blocks[i].name);
                put_u64(b, l->blocks[i].bytes);
                if (advised && l->blocks[i].page_bytes != usual)
                        put_u64(b, l->blocks[i].page_bytes);
        }
        qemuload_section_end(l, b);
}

/* ---- words ---------------------------------------------------------------- */

static void put_word(struct qemuload *l, struct qemubuf *b, unsigned block, uint64_t offset,
                     enum qemu_word flag)
{
        ASSERT(block < l->nblocks && offset < l->blocks[block].bytes);
        ASSERT(IS_ALIGNED(offset, l->page_bytes));
        if (l->last_block == block + 1) {
                put_u64(b, offset | flag | QEMU_RAM_CONTINUE);
                return;
        }
        put_u64(b, offset | flag);
        put_text(b, l->blocks[block].name);
        l->last_block = block + 1;
}

void qemuload_page(struct qemuload *l, struct qemubuf *b, unsigned block, uint64_t offset)
{
        put_word(l, b, block, offset, QEMU_RAM_PAGE);
}

void qemuload_zero(struct qemuload *l, struct qemubuf *b, unsigned block, uint64_t offset,
                   uint64_t bytes)
{
        ASSERT(IS_ALIGNED(bytes, l->page_bytes));
        for (uint64_t done = 0; done < bytes; done += l->page_bytes) {
                put_word(l, b, block, offset + done, QEMU_RAM_ZERO);
                put_u8(b, 0);
        }
}

void qemuload_eof(struct qemubuf *b)
{
        put_u8(b, QEMU_EOF);
}

void qemuload_desc(struct qemubuf *b, uint32_t json_bytes)
{
        put_u8(b, QEMU_VMDESC);
        put_u32(b, json_bytes);
}
