/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ramparent.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct ramparent {
        struct qs_image *image;
        pthread_key_t reader_key;       /* struct qs_reader of the thread */
};

static void drop_reader(void *reader)
{
        qs_reader_free(reader);
}

int ramparent_new(struct qs_image *image, struct ramparent **ret, struct err *e)
{
        struct ramparent *p = calloc(1, sizeof(*p));

        if (!p)
                return err_msg(e, ENOMEM, "no memory to read guest RAM");
        p->image = image;
        if (pthread_key_create(&p->reader_key, drop_reader)) {
                free(p);
                return err_msg(e, EAGAIN, "no thread-specific key is left");
        }
        *ret = p;
        return 0;
}

void ramparent_free(struct ramparent *p)
{
        if (!p)
                return;
        qs_reader_free(pthread_getspecific(p->reader_key));
        pthread_setspecific(p->reader_key, NULL);
        pthread_key_delete(p->reader_key);
        free(p);
}

static int own_reader(struct ramparent *p, struct qs_reader **ret, struct err *e)
{
        struct qs_reader *reader = pthread_getspecific(p->reader_key);

        if (!reader) {
                int rc = qs_reader_new(p->image, &reader, e);

                if (rc < 0)
                        return rc;
                pthread_setspecific(p->reader_key, reader);
        }
        *ret = reader;
        return 0;
}

int ramparent_read(struct ramparent *p, uint64_t gpa, size_t bytes, uint8_t *buf, bool *ret_zero,
                   struct err *e)
{
        struct qs_reader *reader;

        *ret_zero = !p->image;
        if (!p->image)
                return 0;

        int rc = own_reader(p, &reader, e);

        return rc < 0 ? rc : qs_span_read(reader, gpa, bytes, buf, ret_zero, e);
}
