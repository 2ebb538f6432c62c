/* SPDX-License-Identifier: Apache-2.0 */
/* The stream's side of qemu-dest: a parser of its own, that shares no code with ours. All
 * take_*(): false when the stream has ended, or the plan says to die. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/qemurp.h"
#include "tests/stress/qemu-dest-priv.h"

/* Longer than anything takes, under TSan and on a busy machine. */
#define PATIENCE_MS 60000

static bool fill(struct dest *d)
{
        struct pollfd p = { .fd = d->in, .events = POLLIN };
        int n = poll(&p, 1, PATIENCE_MS);

        DEST_MUST(n > 0);               /* INV-END: nothing came for a minute */

        ssize_t got = read(d->in, d->window, sizeof(d->window));

        if (got <= 0) {
                DEST_MUST(got == 0 || errno == ECONNRESET);
                d->cut = true;
                return false;
        }
        if (d->plan.slow_us)
                usleep(d->plan.slow_us);
        d->have = (size_t)got;
        d->at = 0;
        return true;
}

static bool take(struct dest *d, void *to, size_t bytes)
{
        for (size_t done = 0; done < bytes;) {
                if (d->at == d->have && !fill(d))
                        return false;

                size_t n = MIN(bytes - done, d->have - d->at);

                memcpy((uint8_t *)to + done, d->window + d->at, n);
                d->at += n;
                done += n;
        }
        return true;
}

static uint64_t number(struct dest *d, size_t bytes)
{
        uint8_t raw[8] = { 0 };

        return take(d, raw + 8 - bytes, bytes) ? get_be64(raw) : 0;
}

static bool expect(struct dest *d, uint64_t value, size_t bytes)
{
        uint64_t got = number(d, bytes);

        if (d->cut)
                return false;
        DEST_MUST(got == value);
        return true;
}

static unsigned named(struct dest *d)
{
        char name[256] = "";
        size_t n = number(d, 1);

        if (!take(d, name, n))
                return 0;

        int block = qemu_blocks_find(&d->image->state.blocks, name);

        DEST_MUST(block >= 0);
        return (unsigned)block;
}

/* ---- sections ------------------------------------------------------------------------ */

static bool take_list(struct dest *d, uint64_t total)
{
        for (uint64_t sum = 0; sum < total && !d->cut;) {
                unsigned block = named(d);
                uint64_t bytes = number(d, 8);

                if (d->cut)
                        return false;
                DEST_MUST(bytes == d->block[block].bytes);
                if (!d->plan.plain && d->block[block].page_bytes != DEST_TARGET &&
                    !expect(d, d->block[block].page_bytes, 8))
                        return false;
                sum += bytes;
        }
        return !d->cut;
}

static bool take_page(struct dest *d, uint64_t word)
{
        uint64_t flags = word % DEST_TARGET, offset = word - flags;
        uint8_t data[DEST_TARGET];
        bool zero = flags & 2;

        if (!(flags & 0x20))
                d->last_block = named(d) + 1;
        if (zero ? number(d, 1) != 0 : !take(d, data, sizeof(data)))
                return false;
        if (d->cut)
                return false;
        DEST_MUST(d->last_block > 0 && (flags & ~0x20ull) == (zero ? 2 : 8));
        DEST_MUST(offset < d->block[d->last_block - 1].bytes);
        return dest_page(d, d->last_block - 1, offset, zero ? NULL : data);
}

static bool take_words(struct dest *d)
{
        for (;;) {
                uint64_t word = number(d, 8);

                if (d->cut)
                        return false;
                /* QEMU before 7.0 forgets what it has of a host page here */
                if (word == 0x10)
                        DEST_MUST(!d->listening || !d->part_open);
                if (word == 0x10)
                        return expect(d, 0x7e, 1) && expect(d, d->image->state.ram_id, 4);
                if (word % DEST_TARGET == 4) {
                        DEST_MUST(!d->listening);
                        if (!take_list(d, word - 4))
                                return false;
                } else if (!take_page(d, word)) {
                        return false;
                }
        }
}

static bool take_start(struct dest *d)
{
        char name[4];

        return expect(d, d->image->state.ram_id, 4) && expect(d, 3, 1) && take(d, name, 3) &&
               memcmp(name, "ram", 3) == 0 && expect(d, 0, 4) && expect(d, 4, 4) &&
               take_words(d);
}

/* ---- commands ------------------------------------------------------------------------ */

static bool take_discard(struct dest *d, size_t bytes)
{
        if (!expect(d, 0, 1))
                return false;

        unsigned block = named(d);
        size_t head = 3 + strlen(d->image->state.blocks.at[block].name);

        DEST_MUST(d->cut || (bytes > head && (bytes - head) % 16 == 0));
        if (!expect(d, 0, 1))
                return false;
        for (size_t at = head; at < bytes; at += 16) {
                uint64_t offset = number(d, 8), n = number(d, 8);

                if (d->cut)
                        return false;
                dest_discard(d, block, offset, n);
        }
        return true;
}

static bool take_package(struct dest *d)
{
        d->package_bytes = (uint32_t)number(d, 4);
        if (d->cut)
                return false;
        d->package = malloc(d->package_bytes);
        ASSERT(d->package);
        if (!take(d, d->package, d->package_bytes))
                return false;
        dest_package(d);
        d->last_block = 0;              /* no QEMU needs it, but it is another phase */
        return true;
}

static bool take_ping(struct dest *d)
{
        uint32_t token = (uint32_t)number(d, 4);
        uint8_t buf[QEMURP_BYTES_MAX];

        if (d->cut)
                return false;
        lock_acquire(&d->say_lock);
        dest_say(d, buf, qemurp_pong(buf, token));
        lock_release(&d->say_lock);
        return true;
}

static bool take_command(struct dest *d)
{
        uint64_t command = number(d, 2);
        size_t bytes = number(d, 2);

        if (d->cut)
                return false;
        switch (command) {
        case QEMU_OPEN_RETURN_PATH:
                return bytes == 0;
        case QEMU_PING:
                return bytes == 4 && take_ping(d);
        case QEMU_POSTCOPY_ADVISE:
                return bytes == 16 && number(d, 8) && number(d, 8) == DEST_TARGET;
        case QEMU_POSTCOPY_DISCARD:
                return take_discard(d, bytes);
        case QEMU_PACKAGED:
                return bytes == 4 && take_package(d);
        case QEMU_RECV_BITMAP:
                dest_bitmap(d, named(d));
                return !d->cut;
        case QEMU_POSTCOPY_RESUME:
                dest_resume(d);
                return bytes == 0;
        default:
                DEST_MUST(!"a command that QEMU knows");
                return false;
        }
}

/* ---- all of it ------------------------------------------------------------------------- */

static bool take_head(struct dest *d)
{
        const struct qemu_state *s = &d->image->state;
        uint8_t head[64];

        ASSERT(s->head_bytes <= sizeof(head));
        if (!take(d, head, s->head_bytes))
                return false;
        DEST_MUST(memcmp(head, s->head, s->head_bytes) == 0);
        return true;
}

/* of a plain stream: devices, EOF, description, and nothing more */
static bool take_tail(struct dest *d)
{
        const struct qemu_state *s = &d->image->state;
        uint8_t *devices = malloc(s->devices_bytes);
        char text[64];

        ASSERT(devices && s->vmdesc_bytes <= sizeof(text));
        devices[0] = 4;                 /* it was taken already */

        bool got = take(d, devices + 1, s->devices_bytes - 1);

        DEST_MUST(!got || memcmp(devices, s->devices, s->devices_bytes) == 0);
        free(devices);
        if (!got || !expect(d, 0, 1) || !expect(d, 6, 1) || !expect(d, s->vmdesc_bytes, 4) ||
            !take(d, text, s->vmdesc_bytes))
                return false;
        DEST_MUST(memcmp(text, s->vmdesc, s->vmdesc_bytes) == 0);
        DEST_MUST(d->at == d->have && !fill(d));
        return true;
}

bool dest_read_stream(struct dest *d, bool head)
{
        if (head && !take_head(d))
                return false;
        for (;;) {
                uint64_t type = number(d, 1);
                bool live = !d->cut;

                if (!live)
                        return false;
                switch (type) {
                case QEMU_EOF:
                        return true;
                case QEMU_START:
                        live = take_start(d);
                        break;
                case QEMU_PART:
                case QEMU_END:
                        live = expect(d, d->image->state.ram_id, 4) && take_words(d);
                        break;
                case QEMU_COMMAND:
                        live = take_command(d);
                        break;
                case QEMU_FULL:
                        DEST_MUST(d->plan.plain);
                        return take_tail(d);
                default:
                        DEST_MUST(!"a record that QEMU knows");
                }
                if (!live)
                        return false;
        }
}
