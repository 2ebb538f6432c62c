/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/sum.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define GARBAGE 0xe7

uint64_t guest_below(struct guest *g, uint64_t n)
{
        return (store_random(&g->random) >> 16) % n;
}

void guest_init(struct guest *g, struct qs_image *parent, const uint8_t *content, uint64_t seed)
{
        *g = (struct guest){ .bytes = malloc(BOX_BYTES), .shown = malloc(BOX_BYTES),
                             .parent = parent, .random = seed * 2 + 1, .copies = seed % 3 == 0 };
        ASSERT(g->bytes && g->shown);
        guest_runs(g, content, false, 0);
}

void guest_fini(struct guest *g)
{
        free(g->bytes);
        free(g->shown);
}

static void dig(struct guest *g, uint64_t from, uint64_t end)
{
        for (uint64_t p = from; p < end; p++) {
                memset(g->bytes + p * BOX_PAGE, 0, BOX_PAGE);
                g->own[p] = true;
        }
}

void guest_write(struct guest *g, unsigned page, unsigned kind)
{
        uint8_t *to = g->bytes + page * BOX_PAGE;

        switch (kind) {
        case 0: memset(to, 0, BOX_PAGE); break;
        case 1: to[guest_below(g, BOX_PAGE)] ^= 1; break;
        case 2: memmove(to, g->bytes + guest_below(g, BOX_PAGES) * BOX_PAGE, BOX_PAGE); break;
        case 3: break;                  /* as it was: but its own now */
        default: store_ram_page(to, BOX_PAGE, 1 + kind % 2, &g->random);
        }
        memcpy(g->shown + page * BOX_PAGE, to, BOX_PAGE);
        g->own[page] = true;
}

static bool is_ram(const struct guest *g, uint64_t gpa)
{
        for (size_t i = 0; i < g->ranges; i++) {
                if (gpa >= g->range[i].gpa && gpa - g->range[i].gpa < g->range[i].bytes)
                        return true;
        }
        return false;
}

void guest_runs(struct guest *g, const uint8_t *content, bool holes, unsigned permille)
{
        memset(g->bytes, 0, BOX_BYTES);
        if (content)
                memcpy(g->bytes, content, BOX_BYTES);
        memset(g->shown, GARBAGE, BOX_BYTES);
        memset(g->own, 0, sizeof(g->own));
        memset((void *)g->asked, 0, sizeof(g->asked));
        g->ranges = 1;
        g->range[0] = (struct qs_ram_range){ 0, BOX_BYTES };
        if (holes) {
                uint64_t at = 1 + guest_below(g, BOX_PAGES / 2);
                uint64_t end = at + 1 + guest_below(g, BOX_PAGES / 2 - 2);

                dig(g, at, end);
                g->range[0].bytes = at * BOX_PAGE;
                g->range[1] = (struct qs_ram_range){ end * BOX_PAGE, BOX_BYTES - end * BOX_PAGE };
                g->ranges = 2;
        }
        for (unsigned n = BOX_PAGES * permille / 1000; n > 0; n--) {
                unsigned at = (unsigned)guest_below(g, BOX_PAGES);
                unsigned run = 1 + (unsigned)guest_below(g, 12) / 4 * 3;
                unsigned kind = (unsigned)guest_below(g, 6);

                for (; run > 0 && at < BOX_PAGES && is_ram(g, (uint64_t)at * BOX_PAGE); run--)
                        guest_write(g, at++, kind);
        }
}

unsigned guest_asked_wrongly(const struct guest *g)
{
        unsigned n = 0;

        for (unsigned p = 0; p < BOX_PAGES; p++)
                n += g->asked[p] != is_ram(g, (uint64_t)p * BOX_PAGE);
        return n;
}

unsigned guest_untouched(const struct guest *g, unsigned cluster_bits)
{
        unsigned per = 1u << (cluster_bits - 12);
        unsigned n = 0;

        for (unsigned p = 0; p + per <= BOX_PAGES; p += per) {
                bool any = false;

                for (unsigned i = 0; i < per; i++)
                        any |= g->own[p + i];
                n += !any;
        }
        return n;
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct guest *g = ctx;
        const uint8_t *from = g->shown + gpa;
        unsigned first = (unsigned)(gpa / BOX_PAGE);
        unsigned pages = (unsigned)(bytes / BOX_PAGE);
        unsigned own = 0;

        for (unsigned i = 0; i < pages; i++) {
                if (!is_ram(g, gpa + i * BOX_PAGE) || pages > QS_SPAN_PAGES_MAX)
                        return err_msg(e, EPROTO, "a span that is no RAM"), NULL;
                g->asked[first + i]++;
                own += g->own[first + i];
                if (!g->own[first + i])
                        qs_span_mark_parent(ret, i);
        }
        if (own == 0 && first % 2) {
                ret->kind = QS_SPAN_PARENT;
                return NULL;
        }
        if (own == pages && sum_all_zero(from, bytes)) {
                ret->kind = QS_SPAN_ZERO;
                return NULL;
        }
        return g->copies ? memcpy(buf, from, bytes) : from;
}

struct qs_ram_source guest_source(struct guest *g)
{
        return (struct qs_ram_source){ .span = span, .ctx = g, .parent = g->parent };
}

int guest_save(struct guest *g, const char *path, const struct qs_writer_options *o,
               struct qs_writer_stats *ret, struct err *e)
{
        struct qs_ram_source source = guest_source(g);
        struct qs_writer *w = NULL;
        int rc = qs_writer_new(path, o, &w, e);

        if (rc == 0)
                rc = qs_writer_section(w, "META", kit_meta, strlen(kit_meta), e);
        if (rc == 0)
                rc = qs_writer_ram(w, g->range, g->ranges, &source, NULL, NULL, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        if (rc == 0 && ret)
                qs_writer_stats(w, ret);
        qs_writer_free(w);
        return rc;
}

void guest_agrees(const struct guest *g, const char *path, const char *tag)
{
        const struct qs_open_options o = { .tag = tag };
        struct qs_image *image = NULL;
        struct err e = { 0 };
        AUTO_FD fd = kit_open(path);
        int rc = qs_image_open_path(path, &o, &image, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        CU_ASSERT_EQUAL(kit_compare(image, g->bytes), 0);
        qs_image_close(image);
        CU_ASSERT_EQUAL(kit_check(fd, 1), 0);
}
