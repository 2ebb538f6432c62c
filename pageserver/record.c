/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"

#define EXTENT_BYTES 16u
/* extents written at a time */
#define BATCH 1024u
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

int record_init(struct record *r, uint64_t units)
{
        uint64_t slots = MIN(units, RECORD_TOUCHES_MAX);
        void *p = mmap(NULL, MAX(slots, 1u) * sizeof(*r->slot), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        *r = (struct record){ 0 };
        if (p == MAP_FAILED)
                return -ENOMEM;
        r->slot = p;
        r->slots = slots;
        return bits_init(&r->touched, units);
}

void record_fini(struct record *r)
{
        if (r->slot)
                munmap((void *)r->slot, MAX(r->slots, 1u) * sizeof(*r->slot));
        bits_fini(&r->touched);
        *r = (struct record){ 0 };
}

void record_touch(struct record *r, uint64_t unit)
{
        if (bits_test(&r->touched, unit) || !bits_set(&r->touched, unit))
                return;

        uint64_t i = atomic_fetch_add(&r->taken, 1);

        if (i < r->slots)
                atomic_store_explicit(&r->slot[i], unit + 1, memory_order_release);
}

uint64_t record_touches(const struct record *r)
{
        return MIN(atomic_load(&r->taken), r->slots);
}

/* ---- export ---------------------------------------------------------------- */

/* units [first, end) */
struct extent {
        uint64_t first;
        uint64_t end;
};

struct exporter {
        int fd;
        uint64_t unit_bytes;
        uint64_t end_gpa;
        uint64_t run_units;
        /* the latest extents, oldest first */
        struct extent open[RECORD_OPEN_MAX];
        unsigned n_open;
        /* what goes into the file next */
        uint8_t buf[BATCH * EXTENT_BYTES];
        unsigned n_buf;
        int rc;
};

static void flush(struct exporter *x)
{
        if (x->rc == 0 && x->n_buf)
                x->rc = io_write_full(x->fd, x->buf, x->n_buf * EXTENT_BYTES);
        x->n_buf = 0;
}

static void put(struct exporter *x, const struct extent *g)
{
        uint8_t *to = x->buf + x->n_buf * EXTENT_BYTES;
        uint64_t gpa = g->first * x->unit_bytes;
        uint64_t end = MIN(g->end * x->unit_bytes, x->end_gpa);

        if (gpa >= end)
                return;
        put_le64(to, gpa);
        put_le64(to + 8, end - gpa);
        if (++x->n_buf == BATCH)
                flush(x);
}

/* the extent that the unit goes on with, or NULL */
static struct extent *continued(struct exporter *x, uint64_t unit)
{
        for (unsigned i = x->n_open; i-- > 0;) {
                struct extent *g = &x->open[i];

                if (g->end == unit && (i + 1 == x->n_open || g->end - g->first < x->run_units))
                        return g;
        }
        return NULL;
}

static void add(struct exporter *x, uint64_t unit)
{
        struct extent *g = continued(x, unit);

        if (g) {
                g->end++;
                return;
        }
        if (x->n_open == RECORD_OPEN_MAX) {
                put(x, &x->open[0]);
                x->n_open--;
                for (unsigned i = 0; i < x->n_open; i++)
                        x->open[i] = x->open[i + 1];
        }
        x->open[x->n_open++] = (struct extent){ unit, unit + 1 };
}

static int write_extents(const struct record *r, struct exporter *x)
{
        uint64_t n = record_touches(r);

        for (uint64_t i = 0; i < n && x->rc == 0; i++) {
                uint64_t v = atomic_load_explicit(&r->slot[i], memory_order_acquire);

                if (v)                          /* else its worker is just writing it */
                        add(x, v - 1);
        }
        for (unsigned i = 0; i < x->n_open; i++)
                put(x, &x->open[i]);
        flush(x);
        return x->rc;
}

int record_export(const struct record *r, uint64_t unit_bytes, uint64_t end_gpa, int *ret_fd,
                  struct err *e)
{
        AUTO_FD fd = memfd_create("working-set", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct exporter x = {
                .fd = fd, .unit_bytes = unit_bytes, .end_gpa = end_gpa,
                .run_units = RECORD_RUN_BYTES / unit_bytes,
        };

        if (fd < 0)
                return err_set(e, errno, "make a memfd for the working set");

        int rc = write_extents(r, &x);

        if (rc < 0)
                return err_set(e, -rc, "write the working set");
        if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
                return err_set(e, errno, "seal the working set");
        *ret_fd = fd_take(&fd);
        return 0;
}
