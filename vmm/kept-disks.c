/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kept-disks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "qcowstore/store.h"
#include "vmm/meta.h"

#define TRUST ",trust"

/* ---- the document ---------------------------------------------------------------- */

void kept_disks_encode(const struct kept_disks *k, struct json_object *meta)
{
        struct json_object *list;

        if (k->n == 0)
                return;
        list = json_object_new_array();
        for (unsigned i = 0; i < k->n; i++) {
                struct json_object *o = disk_identity_encode(&k->disk[i].identity);

                json_put_str(o, "id", k->disk[i].id);
                json_put_bool(o, "kept", k->disk[i].kept);
                json_object_array_add(list, o);
        }
        json_object_object_add(meta, "disks_kept", list);
}

static int decode_disk(struct json_object *o, struct kept_disk *ret, struct err *e)
{
        const char *id;
        int rc = json_take_str(o, "id", &id, e);

        if (rc == 0 && (!id[0] || strlen(id) > MACHINE_ID_MAX))
                rc = err_msg(e, EBADMSG, "'%s' is no id of a disk", id);
        if (rc == 0)
                rc = json_take_bool(o, "kept", &ret->kept, e);
        if (rc == 0)
                rc = disk_identity_decode(o, &ret->identity, e);
        if (rc < 0)
                return rc;
        strcpy(ret->id, id);

        const char *path = ret->identity.path;

        /* it leads nowhere else */
        if (ret->kept ? strchr(path, '/') != NULL : path[0] != '/')
                return err_msg(e, EBADMSG, "'%s' is %s", path,
                               ret->kept ? "not in the image's folder" : "not absolute");
        return 0;
}

int kept_disks_decode(struct json_object *meta, struct kept_disks *ret, struct err *e)
{
        struct json_object *list;
        int rc;

        ret->n = 0;
        if (!json_object_object_get_ex(meta, "disks_kept", NULL))
                return 0;
        rc = json_take_array(meta, "disks_kept", MACHINE_DISKS_MAX, &list, e);
        for (size_t i = 0; rc == 0 && i < json_object_array_length(list); i++) {
                rc = decode_disk(json_object_array_get_idx(list, i), &ret->disk[i], e);
                if (rc == 0)
                        ret->n++;
        }
        return rc < 0 ? err_in(e, rc, "disks_kept") : 0;
}

/* ---- where they are -------------------------------------------------------------- */

int kept_disks_wish(struct disks_wish *w, const char *arg, struct err *e)
{
        if (!strchr(arg, '=') || arg[0] == '=')
                return err_msg(e, EINVAL, "'--disk %s' is not ID=PATH or ID=PATH,trust", arg);
        if (w->n == MACHINE_DISKS_MAX)
                return err_msg(e, E2BIG, "a VM has at most %d disks: leave out '--disk %s'",
                               MACHINE_DISKS_MAX, arg);
        w->arg[w->n++] = arg;
        return 0;
}

static const struct kept_disk *find(const struct kept_disks *k, const char *id)
{
        for (unsigned i = 0; i < k->n; i++) {
                if (!strcmp(k->disk[i].id, id))
                        return &k->disk[i];
        }
        return NULL;
}

static bool is_for(const char *arg, const char *id)
{
        size_t n = strlen(id);

        return !strncmp(arg, id, n) && arg[n] == '=';
}

/* The path that was given for a disk; NULL = none. The caller's to free. */
static char *wished_path(const struct disks_wish *w, const char *id, bool *ret_trust)
{
        *ret_trust = false;
        for (unsigned i = w->n; i-- > 0;) {
                if (!is_for(w->arg[i], id))
                        continue;

                char *path = strdup(w->arg[i] + strlen(id) + 1);
                size_t n = path ? strlen(path) : 0, trust = strlen(TRUST);

                if (n > trust && !strcmp(path + n - trust, TRUST)) {
                        path[n - trust] = '\0';
                        *ret_trust = true;
                }
                return path;
        }
        return NULL;
}

static int check_wishes(const struct disks_wish *w, const struct machine_config *c,
                        struct err *e)
{
        for (unsigned i = 0; i < w->n; i++) {
                unsigned known = 0;

                for (unsigned j = 0; j < c->ndisks; j++)
                        known += is_for(w->arg[i], c->disk[j].id);
                if (!known)
                        return err_msg(e, EINVAL, "'--disk %s': the saved VM has no such disk (it "
                                       "has %u, from disk0 on)", w->arg[i], c->ndisks);
        }
        return 0;
}

/* Beside the image, whatever name that was called by. */
static char *beside(const char *image, const char *name)
{
        AUTO_FREE char *real = realpath(image, NULL);
        char *path = NULL;

        if (!real || asprintf(&path, "%.*s/%s", (int)(strrchr(real, '/') - real), real, name) < 0)
                return NULL;
        return path;
}

static int default_path(const struct kept_disk *k, const char *image, char **ret, struct err *e)
{
        struct stat st;

        if (!k->kept && (stat(image, &st) < 0 || st.st_uid != geteuid()))
                return err_msg(e, EACCES, "disk '%s' is not opened unasked for an image of "
                               "somebody else's: use --disk %s=%s", k->identity.path, k->id,
                               k->identity.path);
        *ret = k->kept ? beside(image, k->identity.path) : strdup(k->identity.path);
        if (!*ret)
                return err_msg(e, ENOMEM, "no memory for the path of a disk");
        if (k->kept && lstat(*ret, &st) == 0 && !S_ISREG(st.st_mode)) {
                free(ptr_take(ret));
                return err_msg(e, EINVAL, "disk '%s' beside the image is no regular file: use "
                               "--disk %s=PATH", k->identity.path, k->id);
        }
        return 0;
}

static int check(const struct kept_disk *k, const char *image, const char *path, bool trust,
                 struct err *e)
{
        if (trust)
                return 0;
        if (!k)
                return err_msg(e, EBADMSG, "'%s' does not say which disk belongs to it: use --disk "
                               "ID=PATH,trust", image);
        return disk_identity_check(&k->identity, path, e);
}

static int set(struct disk_config *d, const char *path, bool overlay, struct err *e)
{
        AUTO_FREE char *real = realpath(path, NULL);

        if (!real)
                return err_set(e, errno, "find disk '%s'", path);
        if (strlen(real) >= sizeof(d->path))
                return err_msg(e, ENAMETOOLONG, "the path of disk '%s' is too long", path);
        strcpy(d->path, real);
        d->overlay = overlay && !d->read_only;
        return 0;
}

static int find_one(const struct kept_disks *k, const char *image, const struct disks_wish *w,
                    struct disk_config *d, struct err *e)
{
        const struct kept_disk *kept = find(k, d->id);
        bool trust;
        AUTO_FREE char *path = wished_path(w, d->id, &trust);
        int rc = 0;

        if (!path && kept)
                rc = default_path(kept, image, &path, e);
        if (rc == 0)
                rc = check(kept, image, path ? path : "", trust, e);
        if (rc == 0)
                rc = set(d, path, !w->in_place, e);
        return rc < 0 ? err_in(e, rc, "%s", d->id) : 0;
}

int kept_disks_find(const struct kept_disks *k, const char *image, const struct disks_wish *w,
                    struct machine_config *c, struct err *e)
{
        int rc = check_wishes(w, c, e);

        for (unsigned i = 0; i < c->ndisks && rc == 0; i++)
                rc = find_one(k, image, w, &c->disk[i], e);
        return rc;
}

/* ---- their end ------------------------------------------------------------------- */

static bool read_meta(const char *image, const char *tag, struct meta *ret)
{
        const struct qs_open_options how = { .tag = tag };
        struct qs_image *file = NULL;
        struct qs_reader *reader = NULL;
        AUTO_FREE void *data = NULL;
        size_t bytes;
        bool ok = qs_image_open_path(image, &how, &file, NULL) == 0 &&
                  qs_reader_new(file, &reader, NULL) == 0 &&
                  qs_section_read(reader, SECTION_META, &data, &bytes, NULL) == 0 &&
                  meta_decode(data, bytes, ret, NULL) == 0;

        qs_reader_free(reader);
        qs_image_close(file);
        return ok;
}

void kept_disks_of_image(const char *image, const char *tag, struct kept_disks **ret,
                         size_t *ret_n)
{
        AUTO_FD fd = open(image, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        AUTO_FREE struct qs_snapshot_info *list = NULL;
        AUTO_FREE struct meta *meta = malloc(sizeof(*meta));
        struct kept_disks *k = NULL;
        size_t n = 0, found = 0;

        *ret = NULL;
        *ret_n = 0;
        if (fd < 0 || !meta || qs_snapshot_list(fd, image, &list, &n, NULL) < 0)
                return;
        k = calloc(n + 1, sizeof(*k));
        for (size_t i = 0; k && i < n; i++) {
                if (tag && strcmp(tag, list[i].tag))
                        continue;
                if (read_meta(image, list[i].tag, meta))
                        k[found++] = meta->disks;
        }
        *ret = k;
        *ret_n = found;
}

static bool have_one_in_common(const struct kept_disks *a, const struct kept_disks *b)
{
        for (unsigned i = 0; i < a->n * b->n; i++) {
                const struct kept_disk *x = &a->disk[i / b->n], *y = &b->disk[i % b->n];

                if (x->kept && y->kept && !strcmp(x->identity.path, y->identity.path))
                        return true;
        }
        return false;
}

bool kept_disks_named(const char *image, const struct kept_disks *k)
{
        AUTO_FREE struct kept_disks *there = NULL;
        size_t n;

        kept_disks_of_image(image, NULL, &there, &n);
        for (size_t i = 0; i < n; i++) {
                if (have_one_in_common(&there[i], k))
                        return true;
        }
        return false;
}

/* Named after the image, and what was kept: an image may name any file. */
static void remove_one(const char *image, const struct kept_disk *k)
{
        const char *slash = strrchr(image, '/'), *name = slash ? slash + 1 : image;
        size_t n = strlen(name);
        AUTO_FREE char *path = beside(image, k->identity.path);

        if (k->kept && path && !strncmp(k->identity.path, name, n) && k->identity.path[n] == '-' &&
            disk_identity_check(&k->identity, path, NULL) == 0)
                unlink(path);
}

void kept_disks_remove(const char *image, const struct kept_disks *k, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                for (unsigned j = 0; j < k[i].n; j++)
                        remove_one(image, &k[i].disk[j]);
        }
}
