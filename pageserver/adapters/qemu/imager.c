/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/imager.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/qemutail.h"
#include "pageserver/adapters/qemu/machine.h"
#include "pageserver/adapters/qemu/stage.h"
#include "pageserver/adapters/qemu/state.h"

struct imager {
        /* constant once the thread runs */
        const struct save_options *options;
        struct qemu_state state;        /* its devices come last */
        struct stage *stage;
        struct qs_writer *writer;       /* the thread's, until it was joined */
        /* the reader's */
        pthread_t thread;
        bool running;                   /* to be joined */
        /* the thread's, until it was joined */
        int rc;
        struct err why;
};

/* ---- before the stream --------------------------------------------------- */

/* What is there already says how long its disk is; a new image may have any. */
static int probe_disk(const char *path, uint64_t *ret, struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_path(path, NULL, &image, e);

        if (rc < 0)
                return rc;
        *ret = qs_image_info(image)->disk_bytes;
        qs_image_close(image);
        return 0;
}

int imager_probe(const struct save_options *o, struct err *e)
{
        struct qs_writer_options w = o->writer;
        struct qs_writer *writer = NULL;
        const char *like = w.backing ? w.backing : o->image;
        int rc = 0;

        w.disk_bytes = QEMU_PAGE_MIN;
        if (w.backing || (w.append && access(o->image, F_OK) == 0))
                rc = probe_disk(like, &w.disk_bytes, e);
        if (rc == 0)
                rc = qs_writer_new(o->image, &w, &writer, e);
        qs_writer_free(writer);
        return rc;
}

/* ---- the thread ---------------------------------------------------------- */

static int write_all(struct imager *im)
{
        const struct qs_ram_source source = { .span = stage_span, .ctx = im->stage };
        size_t n;
        const struct qs_ram_range *ranges = stage_ranges(im->stage, &n);
        int rc = qs_writer_ram(im->writer, ranges, n, &source, NULL, NULL, &im->why);
        int more = 1;

        while (rc == 0 && more == 1) {
                AUTO_FREE struct qs_ram_range *late = NULL;

                more = stage_round(im->stage, &late, &n, &im->why);
                if (more == 1)
                        rc = qs_writer_again(im->writer, late, n, &source, NULL, NULL,
                                             &im->why);
        }
        return rc < 0 ? rc : more;
}

static void *work(void *ctx)
{
        struct imager *im = ctx;

        im->rc = write_all(im);
        if (im->rc < 0)
                stage_stop(im->stage);
        return NULL;
}

static void join(struct imager *im)
{
        if (im->running)
                pthread_join(im->thread, NULL);
        im->running = false;
}

/* ---- beginning ----------------------------------------------------------- */

static int take_machine(struct imager *im, const struct qemusave *parser, const void *head,
                        size_t head_bytes, struct err *e)
{
        const struct qemuhead *h = qemusave_head(parser);
        const struct qemusave_ram ram = qemusave_ram(parser);
        struct qemu_state *s = &im->state;
        unsigned n;
        const struct qemu_ramblock *blocks = qemusave_blocks(parser, &n);
        const struct qemu_hints hints = { im->options->ram_split, &im->options->map,
                                          &im->options->page_size };
        int rc = 0;

        strcpy(s->machine, h->machine);
        s->page_size = h->page_bytes;
        s->ram_id = ram.id;
        s->ram_instance = ram.instance;
        s->ram_version = ram.version;
        s->head = malloc(head_bytes);
        if (!s->head)
                return err_set(e, ENOMEM, "keep the head of the stream");
        memcpy(s->head, head, head_bytes);
        s->head_bytes = head_bytes;
        for (unsigned i = 0; rc == 0 && i < n; i++)
                rc = qemu_blocks_add(&s->blocks, blocks[i].name, strlen(blocks[i].name),
                                     blocks[i].bytes, e);
        if (rc == 0)
                rc = qemu_machine_place(s->machine, &hints, &s->blocks, e);
        if (rc == 0)
                rc = qemu_blocks_seal(&s->blocks, s->page_size, e);
        return rc;
}

static int start(struct imager *im, struct err *e)
{
        struct qs_writer_options w = im->options->writer;
        const struct stage_options so = {
                .blocks = &im->state.blocks, .page_bytes = im->state.page_size,
                .memory_bytes = im->options->memory_bytes,
        };
        int rc = stage_new(&so, &im->stage, e);

        w.disk_bytes = im->state.blocks.disk_bytes;
        if (rc == 0)
                rc = qs_writer_new(im->options->image, &w, &im->writer, e);
        if (rc < 0)
                return rc;
        rc = pthread_create(&im->thread, NULL, work, im);
        if (rc)
                return err_set(e, rc, "start a thread to save '%s'", im->options->image);
        im->running = true;
        return 0;
}

int imager_new(const struct save_options *o, const struct qemusave *parser, const void *head,
               size_t head_bytes, struct imager **ret, struct err *e)
{
        struct imager *im = calloc(1, sizeof(*im));

        if (!im)
                return err_set(e, ENOMEM, "save to '%s'", o->image);
        im->options = o;

        int rc = take_machine(im, parser, head, head_bytes, e);

        if (rc == 0)
                rc = start(im, e);
        if (rc < 0) {
                imager_free(im);
                return rc;
        }
        *ret = im;
        return 0;
}

void imager_free(struct imager *im)
{
        if (!im)
                return;
        if (im->running)
                stage_stop(im->stage);
        join(im);
        qs_writer_free(im->writer);
        stage_free(im->stage);
        qemu_state_fini(&im->state);
        free(im);
}

/* ---- pages --------------------------------------------------------------- */

int imager_page(struct imager *im, unsigned block, uint64_t offset, const void *data)
{
        uint64_t gpa, run;

        /* qemusave has checked it against the blocks that made the table */
        if (!qemu_blocks_gpa(&im->state.blocks, block, offset, &gpa, &run))
                check_failed("a page has a place", __FILE__, __LINE__);
        return stage_page(im->stage, gpa, data);
}

int imager_zeros(struct imager *im, unsigned block, uint64_t offset, uint64_t bytes)
{
        int rc = 0;

        while (rc == 0 && bytes > 0) {
                uint64_t gpa, run;

                if (!qemu_blocks_gpa(&im->state.blocks, block, offset, &gpa, &run))
                        check_failed("a page has a place", __FILE__, __LINE__);
                run = MIN(run, bytes);
                rc = stage_zeros(im->stage, gpa, run);
                offset += run;
                bytes -= run;
        }
        return rc;
}

int imager_end(struct imager *im, struct err *e)
{
        return stage_end(im->stage, e);
}

/* ---- ending -------------------------------------------------------------- */

static int take_tail(struct qemu_state *s, const struct qemusave *parser, const uint8_t *tail,
                     const struct qemutail *at, struct err *e)
{
        s->footers = qemusave_ram(parser).footers;
        s->devices = malloc(at->devices_bytes);
        if (at->desc_bytes)
                s->vmdesc = malloc(at->desc_bytes);
        if (!s->devices || (at->desc_bytes && !s->vmdesc))
                return err_set(e, ENOMEM, "keep the state of the devices");
        memcpy(s->devices, tail, at->devices_bytes);
        s->devices_bytes = at->devices_bytes;
        if (at->desc_bytes)
                memcpy(s->vmdesc, tail + at->desc_at, at->desc_bytes);
        s->vmdesc_bytes = at->desc_bytes;
        return 0;
}

int imager_publish(struct imager *im, const struct qemusave *parser, const uint8_t *tail,
                   const struct qemutail *at, struct err *e)
{
        int rc;

        join(im);
        if (im->rc < 0) {
                if (e)
                        *e = im->why;
                return im->rc;
        }
        rc = take_tail(&im->state, parser, tail, at, e);
        if (rc == 0)
                rc = qemu_state_put(im->writer, &im->state, e);
        if (rc == 0)
                rc = qs_writer_publish(im->writer, e);
        return rc;
}

void imager_cancel(struct imager *im)
{
        stage_stop(im->stage);
}

int imager_stop(struct imager *im, int rc, struct err *e)
{
        join(im);
        if (im->rc == 0 || im->rc == -ECANCELED)
                return rc;
        *e = im->why;
        return im->rc;
}
