/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/qemu-dest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "common/wire/qemurp.h"
#include "tests/stress/qemu-dest-priv.h"

void dest_must(bool ok, const char *what, const char *file, int line)
{
        if (ok)
                return;
        fprintf(stderr, "%s:%d: QEMU would fail: not %s\n", file, line, what);
        abort();
}

/* ---- life ------------------------------------------------------------------------ */

static void *zeros(uint64_t bytes)
{
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        ASSERT(p != MAP_FAILED);
        return p;
}

struct dest *dest_new(const struct qemu_image *image)
{
        struct dest *d = calloc(1, sizeof(*d));

        ASSERT(d && image->state.blocks.n <= DEST_BLOCKS_MAX);
        d->image = image;
        d->nblocks = (unsigned)image->state.blocks.n;
        d->seed = 1;
        lock_init(&d->lock);
        lock_init(&d->say_lock);
        cond_init(&d->changed);
        for (unsigned i = 0; i < d->nblocks; i++) {
                const struct qemu_block *from = &image->state.blocks.at[i];
                struct dest_block *b = &d->block[i];

                b->bytes = from->bytes;
                b->page_bytes = from->page_size;
                b->pages = from->bytes / from->page_size;
                b->data = zeros(b->bytes);
                b->present = zeros(b->pages);
                b->asked = zeros(b->pages);
                b->ahead = zeros(b->pages);
                d->pages += b->pages;
        }
        d->order = calloc(d->pages, sizeof(*d->order));
        ASSERT(d->order);
        return d;
}

void dest_free(struct dest *d)
{
        for (unsigned i = 0; i < d->nblocks; i++) {
                struct dest_block *b = &d->block[i];

                munmap(b->data, b->bytes);
                munmap(b->present, b->pages);
                munmap(b->asked, b->pages);
                munmap(b->ahead, b->pages);
        }
        free(d->order);
        free(d->package);
        lock_fini(&d->lock);
        lock_fini(&d->say_lock);
        cond_fini(&d->changed);
        free(d);
}

/* ---- memory ---------------------------------------------------------------------- */

static bool same(const struct dest *d, unsigned block, uint64_t offset, uint64_t bytes)
{
        return memcmp(d->block[block].data + offset, qemu_image_at(d->image, block, offset),
                      bytes) == 0;
}

/* All pieces of a page of the host are there. */
static bool place_locked(struct dest *d, unsigned block, uint64_t page) REQUIRES(d->lock)
{
        struct dest_block *b = &d->block[block];
        uint64_t offset = page * b->page_bytes;

        DEST_MUST(!b->present[page] && !b->ahead[page]);        /* INV-ONCE */
        DEST_MUST(same(d, block, offset, b->page_bytes));
        DEST_MUST(b->asked[page] ||
                  !qemu_image_is_zero(d->image, block, offset, b->page_bytes));
        b->present[page] = 1;
        d->order[d->placed++] = (struct dest_word){ block, offset };
        cond_broadcast(&d->changed);
        if (!d->running)
                return true;
        return ++d->run_placed != d->plan.die_after || !d->plan.die_after;
}

/* A page before LISTEN goes to memory at once. */
static void early_locked(struct dest *d, unsigned block, uint64_t page) REQUIRES(d->lock)
{
        struct dest_block *b = &d->block[block];

        DEST_MUST(d->plan.plain || !b->ahead[page] || b->page_bytes != DEST_TARGET);
        b->ahead[page] = 1;
}

static bool page_locked(struct dest *d, unsigned block, uint64_t offset, const uint8_t *data)
        REQUIRES(d->lock)
{
        struct dest_block *b = &d->block[block];
        uint64_t end = offset + DEST_TARGET;

        if (data)
                memcpy(b->data + offset, data, DEST_TARGET);
        else
                memset(b->data + offset, 0, DEST_TARGET);
        if (!d->listening) {
                early_locked(d, block, offset / b->page_bytes);
                return true;
        }
        if (d->part_open)
                DEST_MUST(d->part.block == block && d->part.offset == offset);
        else
                DEST_MUST(offset % b->page_bytes == 0);
        d->part = (struct dest_word){ block, end };
        d->part_open = end % b->page_bytes != 0;
        return d->part_open || place_locked(d, block, offset / b->page_bytes);
}

bool dest_page(struct dest *d, unsigned block, uint64_t offset, const uint8_t *data)
{
        lock_acquire(&d->lock);

        bool live = page_locked(d, block, offset, data);

        lock_release(&d->lock);
        return live;
}

void dest_discard(struct dest *d, unsigned block, uint64_t offset, uint64_t bytes)
{
        struct dest_block *b = &d->block[block];

        DEST_MUST(!d->listening && offset < b->bytes && bytes > 0 && bytes <= b->bytes - offset);
        DEST_MUST(offset % b->page_bytes == 0 && bytes % b->page_bytes == 0);
        for (uint64_t p = offset / b->page_bytes; p < (offset + bytes) / b->page_bytes; p++)
                DEST_MUST(!b->ahead[p]);
        b->discarded_bytes += bytes;
}

void dest_listen(struct dest *d)
{
        uint64_t discarded = 0;

        for (unsigned i = 0; i < d->nblocks; i++) {
                struct dest_block *b = &d->block[i];
                uint64_t ahead = 0;

                for (uint64_t p = 0; p < b->pages; p++)
                        ahead += b->ahead[p] * b->page_bytes;
                DEST_MUST(b->discarded_bytes + ahead == b->bytes);
                discarded += b->discarded_bytes;
        }
        DEST_MUST(discarded > 0);
        lock_acquire(&d->lock);
        d->listening = true;
        lock_release(&d->lock);
}

void dest_check_end(struct dest *d)
{
        lock_acquire(&d->lock);
        if (!d->plan.plain)
                DEST_MUST(d->loaded && !d->part_open);  /* INV-SERVED */
        for (unsigned i = 0; i < d->nblocks; i++) {
                struct dest_block *b = &d->block[i];

                for (uint64_t p = 0; p < b->pages; p++)
                        DEST_MUST(b->present[p] || b->ahead[p] ||
                                  (!d->plan.plain &&
                                   qemu_image_is_zero(d->image, i, p * b->page_bytes,
                                                      b->page_bytes)));
        }
        lock_release(&d->lock);
}

void dest_compare(const struct dest *d)
{
        for (unsigned i = 0; i < d->nblocks; i++) {
                for (uint64_t at = 0; at < d->block[i].bytes; at += DEST_TARGET)
                        DEST_MUST(same(d, i, at, DEST_TARGET));
        }
}

/* ---- what it says ------------------------------------------------------------------ */

void dest_say(struct dest *d, const void *data, size_t bytes)
{
        if (!d->plan.plain)
                io_write_full(d->out, data, bytes);     /* who has gone does not hear it */
}

static void request_locked(struct dest *d, unsigned block, uint64_t page) REQUIRES(d->say_lock)
{
        const struct dest_block *b = &d->block[block];
        const char *name = d->image->state.blocks.at[block].name;
        uint8_t buf[QEMURP_BYTES_MAX];
        size_t n = qemurp_request(buf, d->say_block == block + 1 ? NULL : name,
                                  page * b->page_bytes, (uint32_t)b->page_bytes);

        d->say_block = block + 1;
        for (unsigned i = 0; i <= d->plan.echoes; i++)
                dest_say(d, buf, n);
}

static void request(struct dest *d, unsigned block, uint64_t page)
{
        lock_acquire(&d->say_lock);
        request_locked(d, block, page);
        lock_release(&d->say_lock);
}

/* A thread touches a page: false: it waits for ever, for the stream has ended. */
static bool touch(struct dest *d, unsigned block, uint64_t page)
{
        struct dest_block *b = &d->block[block];

        lock_acquire(&d->lock);

        bool there = b->present[page] || b->ahead[page];
        bool ask = !there && !b->asked[page];

        if (ask) {
                b->asked[page] = 1;
                d->asked++;
        }
        lock_release(&d->lock);
        if (ask)
                request(d, block, page);
        lock_acquire(&d->lock);
        while (!(there = b->present[page] || b->ahead[page]) && !d->over)
                cond_wait(&d->changed, &d->lock);
        if (there)
                DEST_MUST(same(d, block, page * b->page_bytes, b->page_bytes));
        lock_release(&d->lock);
        return there;
}

static void touch_any(struct dest *d, unsigned *seed)
{
        unsigned block = (unsigned)rand_r(seed) % 4 ? 0 : (unsigned)rand_r(seed) % d->nblocks;
        uint64_t page = ((uint64_t)rand_r(seed) << 16 ^ (uint64_t)rand_r(seed)) %
                        d->block[block].pages;
        unsigned run = (unsigned)rand_r(seed) % 4 ? 1 : 16;

        for (uint64_t p = page; p < page + run && p < d->block[block].pages; p++) {
                if (!touch(d, block, p))
                        return;
        }
}

/* ---- threads ----------------------------------------------------------------------- */

static unsigned next_seed(struct dest *d)
{
        lock_acquire(&d->lock);

        unsigned seed = ++d->seed * 7919;

        lock_release(&d->lock);
        return seed;
}

static bool is_over(struct dest *d)
{
        lock_acquire(&d->lock);

        bool over = d->over;

        lock_release(&d->lock);
        return over;
}

static void *vcpu_main(void *ctx)
{
        struct dest *d = ctx;
        unsigned seed = next_seed(d);

        for (unsigned i = 0; i < d->plan.touches && !is_over(d); i++)
                touch_any(d, &seed);
        return NULL;
}

static void start_vcpus(struct dest *d)
{
        for (unsigned i = 0; i < d->plan.vcpus; i++) {
                int rc = pthread_create(&d->vcpu[d->vcpus++], NULL, vcpu_main, d);

                ASSERT(rc == 0);
        }
}

/* LISTEN was taken by dest_package(); devices, PING, RUN */
static void *devices_main(void *ctx)
{
        struct dest *d = ctx;
        const struct qemu_state *s = &d->image->state;
        const uint8_t *p = d->package + 5 + s->devices_bytes;
        unsigned seed = next_seed(d);
        uint8_t buf[QEMURP_BYTES_MAX];

        DEST_MUST(d->package_bytes == 5 + s->devices_bytes + 9 + 5);
        DEST_MUST(memcmp(d->package + 5, s->devices, s->devices_bytes) == 0);
        DEST_MUST(memcmp(p, "\10\0\2\0\4", 5) == 0 && memcmp(p + 9, "\10\0\5\0\0", 5) == 0);
        for (unsigned i = 0; i < d->plan.device_touches; i++)
                touch_any(d, &seed);
        lock_acquire(&d->lock);
        d->loaded = true;
        d->running = true;
        lock_release(&d->lock);
        lock_acquire(&d->say_lock);
        dest_say(d, buf, qemurp_pong(buf, get_be32(p + 5)));
        lock_release(&d->say_lock);
        start_vcpus(d);
        return NULL;
}

void dest_package(struct dest *d)
{
        DEST_MUST(d->package_bytes >= 5 && memcmp(d->package, "\10\0\4\0\0", 5) == 0);
        dest_listen(d);

        int rc = pthread_create(&d->devices_thread, NULL, devices_main, d);

        ASSERT(rc == 0);
        d->devices_started = true;
}

/* ---- recovery ----------------------------------------------------------------------- */

void dest_bitmap(struct dest *d, unsigned block)
{
        const struct dest_block *b = &d->block[block];
        uint64_t bytes = qemurp_bitmap_bytes(b->bytes, DEST_TARGET);
        uint64_t each = b->page_bytes / DEST_TARGET;
        uint8_t buf[QEMURP_BYTES_MAX];
        uint8_t *map = calloc(1, bytes);

        ASSERT(map);
        for (uint64_t i = 0; i < b->bytes / DEST_TARGET; i++) {
                if (b->present[i / each] || b->ahead[i / each])
                        map[i / 8] |= (uint8_t)(1u << i % 8);
        }
        dest_say(d, buf, qemurp_bitmap(buf, d->image->state.blocks.at[block].name, bytes));
        dest_say(d, map, bytes);
        dest_say(d, buf, qemurp_bitmap_end(buf));
        free(map);
}

/* All who wait ask again, then the guest goes on. */
void dest_resume(struct dest *d)
{
        uint8_t buf[QEMURP_BYTES_MAX];

        d->say_block = 0;
        dest_say(d, buf, qemurp_resume_ack(buf));
        for (unsigned i = 0; i < d->nblocks; i++) {
                for (uint64_t p = 0; p < d->block[i].pages; p++) {
                        if (d->block[i].asked[p] && !d->block[i].present[p])
                                request(d, i, p);
                }
        }
        start_vcpus(d);
}

/* ---- the whole ----------------------------------------------------------------------- */

static void join_all(struct dest *d)
{
        lock_acquire(&d->lock);
        d->over = true;
        cond_broadcast(&d->changed);
        lock_release(&d->lock);
        if (d->devices_started)
                pthread_join(d->devices_thread, NULL);
        d->devices_started = false;
        while (d->vcpus > 0)
                pthread_join(d->vcpu[--d->vcpus], NULL);
}

/* No more is read from here on, so who writes to us ends; then our threads may not write
 * to a descriptor that is closed. */
static void hang_up(struct dest *d)
{
        if (d->out == d->in)
                shutdown(d->in, SHUT_RDWR);
        else
                fd_close(&d->in);
        join_all(d);
        fd_close(&d->out);
        d->in = -1;
}

static enum dest_end talk(struct dest *d, int in, int out, const struct dest_plan *plan, bool head)
{
        uint8_t buf[QEMURP_BYTES_MAX];

        d->in = in;
        d->out = out;
        d->plan = *plan;
        d->say_block = d->last_block = 0;
        d->have = d->at = 0;
        d->run_placed = 0;
        d->cut = d->over = d->part_open = false;

        bool whole = dest_read_stream(d, head);

        if (whole) {
                dest_check_end(d);
                join_all(d);
                dest_say(d, buf, qemurp_shut(buf, 0));
        }
        hang_up(d);
        return whole ? DEST_DONE : d->cut ? DEST_CUT : DEST_DIED;
}

enum dest_end dest_load(struct dest *d, int in, int out, const struct dest_plan *plan)
{
        return talk(d, in, out, plan, true);
}

enum dest_end dest_recover(struct dest *d, int in, int out, const struct dest_plan *plan)
{
        return talk(d, in, out, plan, false);
}

bool dest_ran(const struct dest *d)
{
        return d->running;
}

uint64_t dest_placed(const struct dest *d)
{
        return d->placed;
}

uint64_t dest_asked(const struct dest *d)
{
        return d->asked;
}

bool dest_order(const struct dest *d, uint64_t i, unsigned *ret_block, uint64_t *ret_offset)
{
        if (i >= d->placed)
                return false;
        *ret_block = d->order[i].block;
        *ret_offset = d->order[i].offset;
        return true;
}
