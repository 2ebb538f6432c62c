/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/interop/store-heir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"

struct heir {
        const uint8_t *ram;
        const uint8_t *from;
};

static const void *heir_span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                             struct err *e)
{
        const struct heir *h = ctx;

        (void)e;
        memset(buf, 0xe7, bytes);
        for (size_t at = 0; at < bytes; at += 4096) {
                if (memcmp(h->ram + gpa + at, h->from + gpa + at, 4096) == 0)
                        qs_span_mark_parent(ret, at / 4096);
                else
                        memcpy((uint8_t *)buf + at, h->ram + gpa + at, 4096);
        }
        return buf;
}

int store_heir_save(const char *path, const struct qs_writer_options *o, struct qs_image *image,
                    const uint8_t *ram, struct err *e)
{
        AUTO_FREE uint8_t *from = calloc(1, o->disk_bytes);
        const struct qs_ram_range all = { 0, o->disk_bytes };
        struct heir h = { ram, from };
        const struct qs_ram_source source = { .span = heir_span, .ctx = &h, .parent = image };
        struct qs_writer *w = NULL;
        struct qs_reader *r = NULL;
        bool zero;
        int rc = from ? qs_reader_new(image, &r, e) : err_set(e, ENOMEM, "read an image");

        if (rc == 0)
                rc = qs_span_read(r, 0, o->disk_bytes, from, &zero, e);
        if (rc == 0)
                rc = qs_writer_new(path, o, &w, e);
        if (rc == 0)
                rc = qs_writer_ram(w, &all, 1, &source, NULL, NULL, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        qs_writer_free(w);
        qs_reader_free(r);
        return rc;
}
