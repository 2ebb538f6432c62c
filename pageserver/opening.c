/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/opening.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/errand.h"

struct opening {
        /* constant while it is RUNNING */
        unsigned readers;
        size_t n;
        char *path;
        char *tag;
        struct errand *errand;          /* main thread; NULL = finished */

        /* the errand's thread, then the main thread */
        int *fds;
        struct opened opened;
        int rc;
        struct err err;
};

static void close_files(struct opening *o)
{
        for (size_t i = 0; o->fds && i < o->n; i++)
                fd_close(&o->fds[i]);
}

/* A file system is asked by each of these, also when the files are closed: what is open
 * has descriptors of its own. */
static void run(void *arg)
{
        struct opening *o = arg;
        const struct source_files files = {
                .fds = o->fds, .n = o->n, .path = o->path, .tag = o->tag,
        };

        o->rc = source_open(&files, o->readers, &o->opened.source, &o->err);
        if (o->rc == 0 && source_working_set(o->opened.source, &o->opened.set, &o->opened.set_n,
                                             &o->opened.set_err) == -ENOENT)
                o->opened.set_err.code = 0;
        close_files(o);
}

static void free_it(struct opening *o)
{
        free(o->opened.set);
        free(o->path);
        free(o->tag);
        free(o->fds);
        free(o);
}

static void drop(void *arg)
{
        struct opening *o = arg;

        close_files(o);
        source_close(o->opened.source);
        free_it(o);
}

static const struct errand_ops opening_ops = { .run = run, .drop = drop };
/* what was not begun */
static const struct errand_ops dropping = { .run = drop };

static struct opening *make(struct session_host *host, int *fds,
                            const struct source_files *files)
{
        struct opening *o = calloc(1, sizeof(*o));

        if (!o)
                return NULL;
        o->readers = host->hands;
        o->path = strdup(files->path);
        o->tag = strdup(files->tag);
        o->fds = calloc(files->n, sizeof(*o->fds));
        if (!o->path || !o->tag || !o->fds) {
                free_it(o);
                return NULL;
        }
        o->n = files->n;
        for (size_t i = 0; i < o->n; i++)
                o->fds[i] = fd_take(&fds[i]);
        return o;
}

int opening_start(struct session_host *host, int *fds, const struct source_files *files,
                  struct opening **ret, struct err *e)
{
        struct opening *o = make(host, fds, files);

        if (!o)
                return err_set(e, ENOMEM, "image '%s'", files->path);

        int rc = errand_start(host, &opening_ops, o, &o->errand, e);

        if (rc < 0) {
                errand_send(host, &dropping, o);        /* closing may hang as well */
                return err_in(e, rc, "image '%s'", files->path);
        }
        *ret = o;
        return 0;
}

int opening_take(struct opening *o, struct opened *ret, struct err *e)
{
        if (!errand_finish(&o->errand))
                return -EAGAIN;
        if (o->rc < 0) {
                if (e)
                        *e = o->err;
                return o->rc;
        }
        *ret = o->opened;
        o->opened = (struct opened){ .source = NULL };
        return 0;
}

void opening_end(struct opening *o)
{
        if (!o)
                return;
        if (o->errand)
                errand_give_up(&o->errand);
        else
                drop(o);                /* there is nothing left in it that could hang */
}

void opened_let_go(struct opened *opened, struct session_host *host)
{
        source_let_go(opened->source, host);
        free(opened->set);
        *opened = (struct opened){ .source = NULL };
}
