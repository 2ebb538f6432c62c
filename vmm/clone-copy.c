/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-copy.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/size.h"
#include "vmm/memroom.h"
#include "vmm/starter.h"

/* Theory of operation
 *
 * RAM is cut into pieces of 1 MiB. Each thread takes one at a time: those that the source
 * names first, for a guest may wait for them, else the next one in ascending order. A
 * piece is gone from the map once it is taken, so each is copied once (INV-ONCE).
 *
 * The guest may run meanwhile. Even so the threads have its priority: with less than that,
 * beside vCPUs that are busy, the copy takes ten times as long (seen with nice 10), and as
 * long the guest's writes have to wait and its memory is there twice.
 *
 * The memory is charged to the VM's process, which must not be ended for it: a thread
 * looks every 16 pieces how much is left, and gives up while there is some
 * (memroom.h). The kernel would not fail the write, but kill. In a sandbox only the caller sees
 * it, for the role of the others names no files; what stays free is for as many pieces of each.
 */
#define PIECE_BITS 20
#define PIECE_BYTES (1u << PIECE_BITS)
#define PAGE_BYTES 4096u
#define THREADS_MAX 16
#define LOOK_EVERY 16
/* What stays free, beside what all threads take until they look again: for the guest. */
#define ROOM_LEFT_BYTES (32ull << 20)

struct copy {
        const struct clone_copy_options *o;
        uint64_t npieces;
        uint64_t keep_free;             /* bytes of memory */
        _Atomic uint8_t *taken;         /* by index of a piece */
        _Atomic uint64_t next;          /* where the ascending order is */
        _Atomic bool failed;
};

struct copy_thread {
        struct copy *copy;
        pthread_t thread;
        uint8_t *buf;
        uint64_t pieces;                /* that it has done */
        int rc;
        struct err err;
};

/* What is no RAM has been taken from the start. */
static bool take(struct copy *c, uint64_t piece)
{
        return piece < c->npieces && !atomic_exchange(&c->taken[piece], 1);
}

static bool take_next(struct copy *c, uint64_t *ret)
{
        const struct qs_ram_source *source = &c->o->source;
        uint64_t piece, gpa;

        if (source->next && source->next(source->ctx, &gpa) && take(c, gpa >> PIECE_BITS)) {
                *ret = gpa >> PIECE_BITS;
                return true;
        }
        while ((piece = atomic_fetch_add(&c->next, 1)) < c->npieces) {
                if (take(c, piece)) {
                        *ret = piece;
                        return true;
                }
        }
        return false;
}

static bool is_zero(const uint8_t *page)
{
        return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

/* Runs of pages that are not zero. */
static int put(struct copy *c, uint64_t gpa, const uint8_t *data, size_t bytes, struct err *e)
{
        size_t from = 0;

        while (from < bytes) {
                size_t to = from;

                while (to < bytes && !is_zero(data + to))
                        to += PAGE_BYTES;
                if (to == from) {
                        from += PAGE_BYTES;
                        continue;
                }

                int rc = io_pwrite_full(c->o->fd, data + from, to - from, gpa + from);

                if (rc < 0)
                        return err_set(e, -rc, "copy guest RAM into a memfd");
                from = to + PAGE_BYTES; /* the page at `to` is zero, or the end */
        }
        return 0;
}

static int check_room(const struct copy_thread *t, struct err *e)
{
        char left[SIZE_TEXT_MAX], want[SIZE_TEXT_MAX];

        if (t->pieces % LOOK_EVERY)
                return 0;

        uint64_t room = memroom_bytes();

        if (room >= t->copy->keep_free)
                return 0;
        return err_msg(e, ENOMEM, "no memory for a copy of the guest's RAM: %s are left here and "
                       "%s of them stay free; end another VM or raise the limit",
                       size_text(room, left), size_text(t->copy->keep_free, want));
}

static int copy_piece(struct copy_thread *t, uint64_t piece, struct err *e)
{
        const struct clone_copy_options *o = t->copy->o;
        uint64_t gpa = piece << PIECE_BITS;
        struct qs_span s = { .kind = QS_SPAN_DATA };
        int rc = check_room(t, e);

        t->pieces++;
        if (rc == 0 && o->stop(o->stop_ctx))
                rc = err_msg(e, ECANCELED, "the clone was cancelled");
        if (rc < 0)
                return rc;

        const void *data = o->source.span(o->source.ctx, gpa, PIECE_BYTES, t->buf, &s, e);

        ASSERT(s.kind != QS_SPAN_PARENT);
        if (s.kind == QS_SPAN_ZERO)
                return 0;
        return data ? put(t->copy, gpa, data, PIECE_BYTES, e) : e->code;
}

static int copy_some(struct copy_thread *t, struct err *e)
{
        struct copy *c = t->copy;
        uint64_t piece;
        int rc = 0;

        while (rc == 0 && !c->failed && take_next(c, &piece))
                rc = copy_piece(t, piece, e);
        if (rc < 0)
                c->failed = true;
        return rc;
}

static void *thread_main(void *ctx)
{
        struct copy_thread *t = ctx;

        t->rc = copy_some(t, &t->err);
        return NULL;
}

/* The caller is one of them. Each ends by itself; the first error wins. */
static int run(struct copy *c, struct copy_thread *threads, unsigned n, struct err *e)
{
        unsigned started = 1;
        int rc;

        while (started < n) {
                struct copy_thread *t = &threads[started];
                const struct starter_thread thread = {
                        .role = SANDBOX_COPY, .name = "copy", .run = thread_main, .ctx = t,
                };

                if (starter_start(c->o->starter, &thread, &t->thread))
                        break;
                started++;
        }
        rc = copy_some(&threads[0], &threads[0].err);
        threads[0].rc = rc;
        for (unsigned i = 1; i < started; i++)
                pthread_join(threads[i].thread, NULL);
        for (unsigned i = 0; i < started; i++) {
                if (threads[i].rc < 0) {
                        if (e)
                                *e = threads[i].err;
                        return threads[i].rc;
                }
        }
        ASSERT(c->next >= c->npieces);
        return 0;
}

/* What of the address space is no RAM is not asked for. */
static void mark_holes(struct copy *c)
{
        const struct ram *ram = c->o->ram;

        for (unsigned i = 0; i + 1 < ram->nslots; i++) {
                uint64_t from = ram->slots[i].gpa + ram->slots[i].bytes;

                for (uint64_t at = from; at < ram->slots[i + 1].gpa; at += PIECE_BYTES)
                        c->taken[at >> PIECE_BITS] = 1;
        }
}

int clone_copy(const struct clone_copy_options *o, struct err *e)
{
        struct copy c = { .o = o, .npieces = ram_end_gpa(o->ram) >> PIECE_BITS };
        struct copy_thread threads[THREADS_MAX] = { 0 };
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        unsigned n = (unsigned)MIN(MAX(cpus, 1), THREADS_MAX);
        AUTO_FREE uint8_t *bufs = aligned_alloc(PAGE_BYTES, (size_t)n * PIECE_BYTES);

        ASSERT(IS_ALIGNED(ram_end_gpa(o->ram), PIECE_BYTES));
        c.taken = calloc(c.npieces, sizeof(*c.taken));
        if (!c.taken || !bufs) {
                free((void *)c.taken);
                return err_msg(e, ENOMEM, "no memory to copy guest RAM");
        }
        mark_holes(&c);
        c.keep_free = ROOM_LEFT_BYTES + (uint64_t)n * LOOK_EVERY * PIECE_BYTES;
        for (unsigned i = 0; i < n; i++)
                threads[i] = (struct copy_thread){ .copy = &c,
                                                   .buf = bufs + (size_t)i * PIECE_BYTES };

        int rc = run(&c, threads, n, e);

        free((void *)c.taken);
        return rc;
}
