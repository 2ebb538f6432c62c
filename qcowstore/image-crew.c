/* SPDX-License-Identifier: Apache-2.0 */
/* the layers of a long chain, opened at the same time
 *
 * Whoever has all files of a chain in his hands need not read one to find the next. Opening one
 * is a dozen calls on cached tables and locks, or some waits for a disk; several threads take
 * layer by layer. What depends on the order, above all that a parent is the one its child was
 * made from, is checked by who takes the layers, in order: so errors are those of opening one
 * after the other. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "qcowstore/crew.h"
#include "qcowstore/image-priv.h"

/* Fewer files are opened before a thread has been made. */
#define FILES_MIN 8
/* a thread for so many files, and no more of them: other chains are opened, too */
#define FILES_PER_THREAD 4
#define THREADS_MAX 4

struct opened_layer {
        struct qs_image *image;
        int rc;
        struct err why;
};

struct crewed {
        const int *fds;
        size_t n;
        _Atomic size_t next;
        struct opened_layer layer[];    /* [i]: who took number i, then the caller */
};

static int open_some(void *ctx, struct err *e)
{
        struct crewed *c = ctx;
        size_t i;

        (void)e;
        while ((i = atomic_fetch_add(&c->next, 1)) < c->n) {
                struct opened_layer *l = &c->layer[i];

                l->rc = image_open_layer(c->fds[i], "", NULL, &l->image, &l->why);
        }
        return 0;
}

struct crewed *crewed_open(const int *fds, size_t n)
{
        unsigned threads = MIN(crew_size(0), MIN((unsigned)n / FILES_PER_THREAD, THREADS_MAX));
        struct crewed *c = n >= FILES_MIN && threads > 1
                           ? calloc(1, sizeof(*c) + n * sizeof(c->layer[0])) : NULL;

        if (!c)
                return NULL;
        c->fds = fds;
        c->n = n;
        c->next = 1;
        crew_run(threads, false, open_some, c, NULL);
        return c;
}

int crewed_take(struct crewed *c, size_t i, const char *path, struct qs_image **ret,
                struct err *e)
{
        struct opened_layer *l = &c->layer[i];
        char *own = strdup(path);

        ASSERT(i > 0 && i < c->n);
        if (l->rc < 0 && e)
                *e = l->why;
        if (l->rc < 0 || !own) {
                free(own);
                return l->rc < 0 ? l->rc : err_set(e, ENOMEM, "open");
        }
        free(l->image->path);
        l->image->path = own;
        *ret = ptr_take(&l->image);
        return 0;
}

void crewed_free(struct crewed *c)
{
        for (size_t i = 0; c && i < c->n; i++)
                qs_image_close(c->layer[i].image);
        free(c);
}
