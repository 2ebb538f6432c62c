/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ramwhole.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/io.h"

#define PAGE_BYTES 4096u

struct ramwhole {
        struct qs_ram_source inner;
        int flat_fd;                    /* -1 = none, then inner.parent */
        pthread_key_t reader_key;       /* struct qs_reader of the thread */
};

static void drop_reader(void *reader)
{
        qs_reader_free(reader);
}

int ramwhole_new(const struct qs_ram_source *inner, int flat_fd, struct ramwhole **ret,
                 struct err *e)
{
        struct ramwhole *w = calloc(1, sizeof(*w));

        ASSERT(!inner->parent || flat_fd < 0);
        if (!w)
                return err_msg(e, ENOMEM, "no memory to read guest RAM");
        w->inner = *inner;
        w->flat_fd = flat_fd;
        if (pthread_key_create(&w->reader_key, drop_reader)) {
                free(w);
                return err_msg(e, EAGAIN, "no thread-specific key is left");
        }
        *ret = w;
        return 0;
}

void ramwhole_free(struct ramwhole *w)
{
        if (!w)
                return;
        qs_reader_free(pthread_getspecific(w->reader_key));
        pthread_setspecific(w->reader_key, NULL);
        pthread_key_delete(w->reader_key);
        free(w);
}

/* ---- the parent ------------------------------------------------------------------ */

static int own_reader(struct ramwhole *w, struct qs_reader **ret, struct err *e)
{
        struct qs_reader *reader = pthread_getspecific(w->reader_key);

        if (!reader) {
                int rc = qs_reader_new(w->inner.parent, &reader, e);

                if (rc < 0)
                        return rc;
                pthread_setspecific(w->reader_key, reader);
        }
        *ret = reader;
        return 0;
}

/* A hole is found without reading it. Others who move the descriptor's offset meanwhile do
 * not matter: nobody reads from it. */
int ramwhole_read_flat(int flat_fd, uint64_t gpa, size_t bytes, uint8_t *buf, bool *ret_zero,
                       struct err *e)
{
        off_t data = lseek(flat_fd, (off_t)gpa, SEEK_DATA);

        *ret_zero = data < 0 ? errno == ENXIO : (uint64_t)data >= gpa + bytes;
        if (*ret_zero)
                return 0;

        int rc = io_pread_full(flat_fd, buf, bytes, gpa);

        return rc < 0 ? err_set(e, -rc, "read the memory that the VM was cloned with") : 0;
}

/* *ret_zero: all of it is, and buf is untouched. */
static int read_parent(struct ramwhole *w, uint64_t gpa, size_t bytes, uint8_t *buf,
                       bool *ret_zero, struct err *e)
{
        struct qs_reader *reader;

        if (w->flat_fd >= 0)
                return ramwhole_read_flat(w->flat_fd, gpa, bytes, buf, ret_zero, e);
        *ret_zero = !w->inner.parent;
        if (*ret_zero)
                return 0;

        int rc = own_reader(w, &reader, e);

        return rc < 0 ? rc : qs_span_read(reader, gpa, bytes, buf, ret_zero, e);
}

/* ---- the source ------------------------------------------------------------------ */

static bool is_parents(const struct qs_span *s, size_t page)
{
        return s->parent[page / 64] >> page % 64 & 1;
}

static bool any_parents(const struct qs_span *s)
{
        uint64_t any = 0;

        for (size_t i = 0; i < ARRAY_SIZE(s->parent); i++)
                any |= s->parent[i];
        return any;
}

/* The pages of one kind from `from` on. */
static size_t run_end(const struct qs_span *s, size_t from, size_t pages)
{
        size_t to = from + 1;

        while (to < pages && is_parents(s, to) == is_parents(s, from))
                to++;
        return to;
}

/* The guest's own pages to their place in buf, the others read there. */
static int put_together(struct ramwhole *w, uint64_t gpa, size_t bytes, const uint8_t *own,
                        uint8_t *buf, const struct qs_span *s, struct err *e)
{
        size_t pages = bytes / PAGE_BYTES;
        int rc = 0;

        for (size_t from = 0, to; from < pages && rc == 0; from = to) {
                size_t at = from * PAGE_BYTES;
                bool zero = false;

                to = run_end(s, from, pages);

                size_t n = (to - from) * PAGE_BYTES;

                if (is_parents(s, from))
                        rc = read_parent(w, gpa + at, n, buf + at, &zero, e);
                else if (own != buf)
                        memcpy(buf + at, own + at, n);
                if (zero)
                        memset(buf + at, 0, n);
        }
        return rc;
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct ramwhole *w = ctx;
        struct qs_span s = { .kind = QS_SPAN_DATA };
        const void *data = w->inner.span(w->inner.ctx, gpa, bytes, buf, &s, e);
        bool zero = s.kind == QS_SPAN_ZERO;
        int rc = 0;

        if (s.kind == QS_SPAN_PARENT) {
                rc = read_parent(w, gpa, bytes, buf, &zero, e);
                data = buf;
        } else if (data && any_parents(&s)) {
                rc = put_together(w, gpa, bytes, data, buf, &s, e);
                data = buf;
        }
        ret->kind = zero ? QS_SPAN_ZERO : QS_SPAN_DATA;
        return rc < 0 ? NULL : data;
}

static bool next(void *ctx, uint64_t *ret_gpa)
{
        struct ramwhole *w = ctx;

        return w->inner.next(w->inner.ctx, ret_gpa);
}

struct qs_ram_source ramwhole_source(struct ramwhole *w)
{
        return (struct qs_ram_source){
                .span = span, .next = w->inner.next ? next : NULL, .ctx = w,
        };
}
