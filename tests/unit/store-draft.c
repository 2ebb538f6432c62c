/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-draft.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/sum.h"
#include "tests/unit/store-ram.h"

#define PAGE 4096u
#define MIB (1u << 20)

/* A pass. */
struct draft {
        struct qs_writer *w;
        const struct kit_ram *ram;
        uint64_t bytes;                 /* up to the end of RAM */
        uint64_t random;
        uint8_t *have;                  /* what was taken last */
        uint8_t *give;                  /* what is taken now */
        bool first;
        bool *told;                     /* each page: the writer was told that it changed */
        _Atomic unsigned *asked;        /* each page: how often */
        _Atomic unsigned wrong;         /* spans in which a promise was broken */
};

static uint64_t below(struct draft *d, uint64_t n)
{
        return (store_random(&d->random) >> 16) % n;
}

static bool is_ram(const struct kit_ram *ram, uint64_t gpa)
{
        for (size_t i = 0; i < ram->ranges; i++) {
                if (gpa >= ram->range[i].gpa && gpa - ram->range[i].gpa < ram->range[i].bytes)
                        return true;
        }
        return false;
}

/* What was taken of these pages before, and of some beside them. */
static bool reads_back(const struct draft *d, uint64_t gpa, size_t bytes, void *buf)
{
        uint64_t beside = ALIGN_DOWN(gpa, MIB) + gpa / 3 % MIB / PAGE * PAGE;
        uint8_t page[PAGE];

        if (qs_writer_read_back(d->w, gpa, bytes, buf, NULL) < 0 ||
            memcmp(buf, d->have + gpa, bytes) != 0)
                return false;
        return beside >= d->bytes ||
               (qs_writer_read_back(d->w, beside, PAGE, page, NULL) == 0 &&
                memcmp(page, d->have + beside, PAGE) == 0);
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct draft *d = ctx;
        const uint8_t *from = d->give + gpa;
        uint64_t mode = gpa / PAGE % 3;
        bool right = bytes > 0 && (gpa | bytes) % PAGE == 0;

        (void)e;
        for (uint64_t at = gpa; at < gpa + bytes; at += PAGE) {
                right &= is_ram(d->ram, at) && d->told[at / PAGE];
                d->asked[at / PAGE]++;
        }
        if (!d->first)
                right &= reads_back(d, gpa, bytes, buf);
        d->wrong += !right;
        if (sum_all_zero(from, bytes) && mode > 0) {
                ret->kind = QS_SPAN_ZERO;
                return NULL;
        }
        return mode == 1 ? from : memcpy(buf, from, bytes);
}

/* Pages of `give` become others: new ones, zeros, copies, what they are at last. */
static void scribble(struct draft *d)
{
        uint64_t pages = d->bytes / PAGE;

        for (uint64_t n = below(d, pages / (1 + below(d, 40)) + 2); n > 0; n--) {
                uint64_t at = below(d, pages) * PAGE;
                uint64_t what = below(d, 6);
                uint8_t *to = d->give + at;

                if (!is_ram(d->ram, at))
                        continue;
                memset(to, 0, what < 3 ? PAGE : 0);
                if (what < 3)
                        store_ram_page(to, PAGE, (unsigned)what, &d->random);
                else if (what < 5)
                        memmove(to, d->give + below(d, pages) * PAGE, PAGE);
                else
                        memcpy(to, d->ram->bytes + at, PAGE);
        }
}

/* All that differs, and some that does not, as ranges: at times whole MiBs. */
static size_t list_changes(struct draft *d, struct qs_ram_range *to)
{
        uint64_t grain = below(d, 3) ? PAGE : MIB;
        uint64_t idle = 2 + below(d, 60);
        size_t n = 0;

        memset(d->told, 0, d->bytes / PAGE * sizeof(*d->told));
        for (uint64_t at = 0, end; at < d->bytes; at = end) {
                end = MIN(at + grain, d->bytes);
                if (memcmp(d->have + at, d->give + at, end - at) == 0 && below(d, idle) != 0)
                        continue;
                for (uint64_t p = at; p < end; p += PAGE)
                        d->told[p / PAGE] = true;
                if (n && to[n - 1].gpa + to[n - 1].bytes == at && below(d, 4))
                        to[n - 1].bytes += end - at;
                else
                        to[n++] = (struct qs_ram_range){ at, end - at };
        }
        return n;
}

/* Each page once that is RAM and was told of, and what is read back is right. */
static int judge(struct draft *d, struct err *e)
{
        AUTO_FREE uint8_t *buf = malloc(d->bytes);
        uint64_t wrong = atomic_load(&d->wrong);

        ASSERT(buf);
        for (uint64_t p = 0; !d->first && p < d->bytes / PAGE; p++)
                wrong += d->asked[p] != (is_ram(d->ram, p * PAGE) && d->told[p]);
        if (wrong)
                return err_msg(e, EPROTO, "%llu pages or spans were asked for wrongly",
                               (unsigned long long)wrong);
        for (uint64_t at = 0, n; at < d->bytes; at += n) {
                n = (1 + below(d, 700)) * PAGE;
                n = MIN(n, d->bytes - at);

                int rc = qs_writer_read_back(d->w, at, n, buf, e);

                if (rc < 0)
                        return rc;
                if (memcmp(buf, d->give + at, n) != 0)
                        return err_msg(e, EPROTO, "what is read back at %#llx is wrong",
                                       (unsigned long long)at);
        }
        return 0;
}

static int pass(struct draft *d, bool first, struct err *e)
{
        struct qs_ram_source source = { .span = span, .ctx = d };
        AUTO_FREE struct qs_ram_range *changes = calloc(d->bytes / PAGE, sizeof(*changes));
        int rc;

        ASSERT(changes);
        d->first = first;
        memset(d->asked, 0, d->bytes / PAGE * sizeof(*d->asked));
        if (first) {
                memset(d->told, 1, d->bytes / PAGE * sizeof(*d->told));
                rc = qs_writer_ram(d->w, d->ram->range, d->ram->ranges, &source, NULL, NULL, e);
        } else {
                size_t n = list_changes(d, changes);

                rc = qs_writer_again(d->w, changes, n, &source, NULL, NULL, e);
        }
        if (rc == 0)
                rc = judge(d, e);
        memcpy(d->have, d->give, d->bytes);
        return rc;
}

static int take_drafts(struct draft *d, struct err *e)
{
        int rc = 0;

        memcpy(d->give, d->ram->bytes, d->bytes);
        for (unsigned i = 0; rc == 0 && i < d->ram->drafts; i++) {
                scribble(d);
                rc = pass(d, i == 0, e);
        }
        memcpy(d->give, d->ram->bytes, d->bytes);
        return rc < 0 ? rc : pass(d, false, e);
}

int draft_take(struct qs_writer *w, struct kit_ram *ram, struct err *e)
{
        struct qs_ram_source source = kit_source(ram);

        if (!ram->drafts)
                return qs_writer_ram(w, ram->range, ram->ranges, &source, NULL, NULL, e);

        const struct qs_ram_range *last = &ram->range[ram->ranges - 1];
        struct draft d = {
                .w = w, .ram = ram, .bytes = last->gpa + last->bytes, .random = ram->seed * 2 + 1,
        };

        d.have = malloc(d.bytes);
        d.give = malloc(d.bytes);
        d.told = calloc(d.bytes / PAGE, sizeof(*d.told));
        d.asked = calloc(d.bytes / PAGE, sizeof(*d.asked));
        ASSERT(d.have && d.give && d.told && d.asked);

        int rc = take_drafts(&d, e);

        free(d.have);
        free(d.give);
        free(d.told);
        free((void *)d.asked);
        return rc;
}
