/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/origin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/adapters/qemu/machine.h"

static int load_state(struct origin *o, const struct revert_options *options, struct err *e)
{
        struct qemu_state *s = &o->state;
        int rc = qemu_state_load(o->image, o->reader, s, e);

        if (rc == 0 && options->page_size.n > 0) {
                rc = qemu_machine_pages(&options->page_size, &s->blocks, e);
                if (rc == 0)
                        rc = qemu_blocks_seal(&s->blocks, s->page_size, e);
        }
        if (rc == 0 && s->devices_bytes > QEMULOAD_DEVICES_MAX)
                rc = err_msg(e, EBADMSG, "the state of its devices is longer than QEMU takes");
        return rc;
}

/* As the codecs want it. */
static int make_blocks(struct origin *o, struct err *e)
{
        const struct qemu_state *s = &o->state;

        o->ramblock = calloc(s->blocks.n, sizeof(*o->ramblock));
        if (!o->ramblock)
                return err_msg(e, ENOMEM, "no memory for the table of RAM blocks");
        for (size_t i = 0; i < s->blocks.n; i++) {
                const struct qemu_block *b = &s->blocks.at[i];
                struct qemu_ramblock *r = &o->ramblock[i];

                snprintf(r->name, sizeof(r->name), "%s", b->name);
                r->bytes = b->bytes;
                r->page_bytes = b->page_size;
                o->ram_bytes += b->bytes;
        }
        o->load = (struct qemuload){
                .blocks = o->ramblock, .nblocks = (unsigned)s->blocks.n,
                .page_bytes = s->page_size, .host_page_bytes = QEMU_PAGE_MIN,
                .ram_id = s->ram_id, .ram_instance = s->ram_instance,
                .ram_version = s->ram_version, .footers = s->footers,
        };
        return qemuload_check(&o->load, e);
}

/* The first place that ends behind gpa, or n_places. */
static size_t place_from(const struct qemu_blocks *b, uint64_t gpa)
{
        size_t low = 0, high = b->n_places;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (b->places[mid].gpa + b->places[mid].bytes <= gpa)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* The units of an extent, a span for each place that it touches; to NULL: only counted.
 * Returns how many. */
static size_t spans_of(const struct origin *o, const struct qs_ram_range *x,
                       struct prefetch_span *to)
{
        const struct qemu_blocks *b = &o->state.blocks;
        uint64_t end = x->gpa + x->bytes;
        size_t n = 0;

        for (size_t i = place_from(b, x->gpa); i < b->n_places && b->places[i].gpa < end; i++) {
                const struct qemu_place *p = &b->places[i];
                uint64_t from = p->at + MAX(x->gpa, p->gpa) - p->gpa;
                uint64_t last = p->at + MIN(end, p->gpa + p->bytes) - p->gpa - 1;

                if (to)
                        to[n] = (struct prefetch_span){
                                hostpages_unit(&o->pages, p->block, from),
                                hostpages_unit(&o->pages, p->block, last) + 1,
                        };
                n++;
        }
        return n;
}

static int read_first(struct origin *o, struct err *e)
{
        AUTO_FREE struct qs_ram_range *set = NULL;
        size_t n = 0, spans = 0;
        int rc = qs_working_set_read(o->image, &set, &n, e);

        if (rc == -ENOENT)
                return 0;
        if (rc < 0)
                return rc;
        for (size_t i = 0; i < n; i++)
                spans += spans_of(o, &set[i], NULL);
        o->first = calloc(MAX(spans, 1u), sizeof(*o->first));
        if (!o->first)
                return err_msg(e, ENOMEM, "no memory for the working set");
        for (size_t i = 0; i < n; i++)
                o->nfirst += spans_of(o, &set[i], o->first + o->nfirst);
        return 0;
}

int origin_open(struct origin *o, const struct revert_options *options, struct err *e)
{
        *o = (struct origin){ 0 };

        int rc = qs_image_open_path(options->image, &options->open, &o->image, e);

        if (rc == 0)
                rc = qs_reader_new(o->image, &o->reader, e);
        if (rc == 0)
                rc = load_state(o, options, e);
        if (rc == 0)
                rc = make_blocks(o, e);
        if (rc == 0)
                rc = hostpages_init(&o->pages, &o->state.blocks, o->state.page_size,
                                    1u << qs_image_info(o->image)->cluster_bits, e);
        if (rc == 0 && options->postcopy)
                rc = read_first(o, e);
        return rc < 0 ? err_in(e, rc, "image '%s'", options->image) : 0;
}

void origin_fini(struct origin *o)
{
        free(o->first);
        free(o->ramblock);
        hostpages_fini(&o->pages);
        qemu_state_fini(&o->state);
        qs_reader_free(o->reader);
        qs_image_close(o->image);
        *o = (struct origin){ 0 };
}
