/* SPDX-License-Identifier: Apache-2.0 */
/* imager.h - an image in the making, from what a stream of QEMU's says piece by piece.
 *
 * imager_new() once the blocks are known; pages; imager_end(); imager_publish(). A thread of
 * its own calls the writer meanwhile. Nothing is there under the image's name until
 * imager_publish() has returned 0.
 *
 * Ownership: what is passed in is copied, but for the options, which are borrowed.
 * Threads:   one, the reader of the stream.
 * Errors:    -ECANCELED from imager_page() and imager_zeros(): the writer has failed;
 *            imager_stop() says why.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_IMAGER_H
#define PAGESERVER_ADAPTERS_QEMU_IMAGER_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/qemusave.h"
#include "pageserver/adapters/qemu/save.h"

struct imager;

/* Could such an image be written? For all that can be known before the stream. */
int imager_probe(const struct save_options *o, struct err *e);

/* parser: behind its event BLOCKS; head: the stream's. */
int imager_new(const struct save_options *o, const struct qemusave *parser, const void *head,
               size_t head_bytes, struct imager **ret, struct err *e);
/* Stops what is not finished, and leaves nothing behind of it. */
void imager_free(struct imager *im);

/* as qemusave's events have them */
int imager_page(struct imager *im, unsigned block, uint64_t offset, const void *data);
int imager_zeros(struct imager *im, unsigned block, uint64_t offset, uint64_t bytes);
/* No more pages come. */
int imager_end(struct imager *im, struct err *e);

/* The stream was whole. tail: of bytes, with devices and description where *at says. */
struct qemutail;
int imager_publish(struct imager *im, const struct qemusave *parser, const uint8_t *tail,
                   const struct qemutail *at, struct err *e);

/* The save has failed: pages are not waited for any more, nor is anything written. */
void imager_cancel(struct imager *im);
/* After that, when all was read: it failed with rc and *e, which become the writer's if
 * that failed first. Returns the code of *e. */
int imager_stop(struct imager *im, int rc, struct err *e);

#endif
