/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/save-disks.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/starter.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/bus.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * A disk that the guest may write is kept, or its identity is enough (none): then the saved
 * VM is good for as long as nobody writes the disk. One that it only reads is identified.
 * An identity takes some reads, which are done once before the moment, so that they are
 * fast at it.
 *
 * The kept files get their names before the image, which names them, gets its own; a host
 * that dies in between leaves files that nobody refers to, never an image without its disk.
 */
struct saved_disk {
        struct disk *disk;
        struct disk_keep *keep;         /* NULL = it is identified */
        char *path;                     /* of what is kept */
};

struct save_disks {
        struct save_disks_options o;
        struct starter *starter;
        struct saved_disk disk[MACHINE_DISKS_MAX];
        struct kept_disks kept;
        uint64_t total_bytes;           /* of those that are kept */
        uint64_t done_bytes;            /* the thread's: of those before the present one */
        pthread_t thread;
        bool running;
        _Atomic bool over;              /* the thread is to end early */
        int rc;                         /* the thread's, once it is joined */
        struct err err;
};

int disks_mode_parse(const char *text, enum disks_mode *ret, struct err *e)
{
        static const char *const names[] = {
                [DISKS_AUTO] = "auto", [DISKS_REFLINK] = "reflink", [DISKS_COPY] = "copy",
                [DISKS_NONE] = "none",
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (strcmp(names[i], text))
                        continue;
                *ret = (enum disks_mode)i;
                return 0;
        }
        return err_msg(e, EINVAL, "disks '%s' is neither 'auto' nor 'reflink', 'copy' or 'none'",
                       text);
}

static bool is_cancelled(void *ctx)
{
        const struct save_disks *s = ctx;

        return s->over || s->o.cancelled(s->o.ctx);
}

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        struct save_disks *s = ctx;

        (void)total_bytes;
        s->o.progress(s->o.ctx, s->done_bytes + done_bytes, s->total_bytes);
}

/* What it is called that is kept. */
static char *path_of(const struct save_disks *s, const struct saved_disk *d, const char *id,
                     uint32_t number)
{
        char *path = NULL;

        if (s->o.files)
                return strdup(disk_path(d->disk));
        return asprintf(&path, "%s-%08x.%s", s->o.image, number, id) < 0 ? NULL : path;
}

static int keep(struct save_disks *s, struct saved_disk *d, const char *id, uint32_t number,
                struct err *e)
{
        unsigned i = (unsigned)(d - s->disk);
        struct disk_keep_options o = {
                .mode = s->o.mode, .cancelled = is_cancelled, .progress = on_progress, .ctx = s,
        };

        d->path = path_of(s, d, id, number);
        if (!d->path)
                return err_msg(e, ENOMEM, "no memory to keep a disk");
        o.target_path = d->path;
        o.target_fd = disk_files_at(s->o.files, i);
        ASSERT(o.target_fd || !s->o.files);
        s->total_bytes += disk_bytes(d->disk);
        return disk_keep_new(d->disk, &o, &d->keep, e);
}

static int add(struct save_disks *s, const struct disk_config *c, struct virtio_device *dev,
               uint32_t number, struct err *e)
{
        struct saved_disk *d = &s->disk[s->kept.n];
        struct kept_disk *k = &s->kept.disk[s->kept.n++];
        int rc;

        d->disk = virtio_blk_disk(dev);
        snprintf(k->id, sizeof(k->id), "%s", c->id);
        k->kept = s->o.mode != DISKS_NONE && !disk_read_only(d->disk);
        /* identified: now, too, so that what is read is at hand at the moment */
        rc = k->kept ? keep(s, d, c->id, number, e) : disk_identify(d->disk, &k->identity, e);
        return rc < 0 ? err_in(e, rc, "%s", c->id) : 0;
}

int save_disks_new(struct vm *vm, const struct save_disks_options *o, struct save_disks **ret,
                   struct err *e)
{
        const struct machine_config *c = &vm->machine;
        struct save_disks *s = calloc(1, sizeof(*s));
        uint32_t number;
        int rc = 0;

        if (!s)
                return err_msg(e, ENOMEM, "no memory to save the disks of VM '%s'", vm->name);
        s->o = *o;
        s->starter = vm->starter;
        if (getrandom(&number, sizeof(number), 0) != sizeof(number))
                rc = err_set(e, errno, "make a name for a disk");
        for (unsigned i = 0; i < c->ndisks && rc == 0; i++)
                rc = add(s, &c->disk[i], virtio_bus_device(vm->bus, i), number, e);
        if (rc < 0) {
                save_disks_free(s);
                return rc;
        }
        s->o.progress(s->o.ctx, 0, s->total_bytes);
        *ret = s;
        return 0;
}

int save_disks_moment(struct save_disks *s, struct err *e)
{
        int rc = 0;

        /* what is only read was identified before, and nobody may write it */
        for (unsigned i = 0; i < s->kept.n && rc == 0; i++) {
                if (!s->disk[i].keep && !disk_read_only(s->disk[i].disk))
                        rc = disk_identify(s->disk[i].disk, &s->kept.disk[i].identity, e);
        }
        /* last: from here on writes are held up */
        for (unsigned i = 0; i < s->kept.n && rc == 0; i++) {
                if (s->disk[i].keep)
                        disk_keep_freeze(s->disk[i].keep);
        }
        return rc;
}

static int run_one(struct save_disks *s, struct saved_disk *d, struct err *e)
{
        int rc;

        if (!d->keep) {
                rc = disk_flush(d->disk);
                return rc < 0 ? err_set(e, -rc, "write disk '%s' out", disk_path(d->disk)) : 0;
        }
        rc = disk_keep_run(d->keep, e);
        s->done_bytes += disk_bytes(d->disk);
        on_progress(s, 0, 0);
        return rc;
}

/* Reflinks first: the guest's writes wait for them. */
static int run(struct save_disks *s, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; i < s->kept.n; i++) {
                if (s->disk[i].keep)
                        disk_keep_share(s->disk[i].keep);
        }
        for (unsigned i = 0; i < s->kept.n && rc == 0; i++)
                rc = run_one(s, &s->disk[i], e);
        return rc;
}

static void *run_thread(void *ctx)
{
        struct save_disks *s = ctx;

        s->rc = run(s, &s->err);
        return NULL;
}

int save_disks_start(struct save_disks *s, struct err *e)
{
        int rc;

        if (s->kept.n == 0)
                return 0;
        rc = starter_start(s->starter, &(struct starter_thread){
                .role = SANDBOX_JOB, .name = "save-disks", .run = run_thread, .ctx = s,
        }, &s->thread);
        s->running = rc == 0;
        return rc ? err_set(e, rc, "start a thread to keep disks") : 0;
}

static void join(struct save_disks *s)
{
        if (s->running)
                pthread_join(s->thread, NULL);
        s->running = false;
}

int save_disks_finish(struct save_disks *s, struct err *e)
{
        join(s);
        if (s->rc < 0)
                *e = s->err;
        return s->rc;
}

int save_disks_publish(struct save_disks *s, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; i < s->kept.n && rc == 0; i++) {
                if (s->disk[i].keep)
                        rc = disk_keep_publish(s->disk[i].keep, &s->kept.disk[i].identity, e);
        }
        if (rc < 0)
                save_disks_retract(s);
        return rc;
}

const struct kept_disks *save_disks_kept(const struct save_disks *s)
{
        return &s->kept;
}

void save_disks_identified(const struct save_disks *s, struct kept_disks *ret)
{
        ret->n = 0;
        for (unsigned i = 0; i < s->kept.n; i++) {
                if (!s->kept.disk[i].kept)
                        ret->disk[ret->n++] = s->kept.disk[i];
        }
}

void save_disks_retract(struct save_disks *s)
{
        for (unsigned i = 0; i < s->kept.n; i++) {
                if (s->disk[i].keep)
                        disk_keep_retract(s->disk[i].keep);
        }
}

void save_disks_free(struct save_disks *s)
{
        if (!s)
                return;
        s->over = true;
        join(s);
        for (unsigned i = 0; i < s->kept.n; i++) {
                disk_keep_free(s->disk[i].keep);
                free(s->disk[i].path);
        }
        free(s);
}

void save_disks_describe(const struct save_disks *s, struct json_object *o)
{
        struct json_object *list;

        if (s->kept.n == 0)
                return;
        list = json_object_new_array();
        for (unsigned i = 0; i < s->kept.n; i++) {
                const struct saved_disk *d = &s->disk[i];
                struct json_object *one = d->keep ? disk_keep_describe(d->keep)
                                                  : json_object_new_object();

                if (!d->keep) {
                        json_put_str(one, "mode", "none");
                        json_put_u64(one, "bytes", disk_bytes(d->disk));
                }
                json_put_str(one, "id", s->kept.disk[i].id);
                json_put_str(one, "path", d->keep ? d->path : s->kept.disk[i].identity.path);
                json_object_array_add(list, one);
        }
        json_object_object_add(o, "disks", list);
}
