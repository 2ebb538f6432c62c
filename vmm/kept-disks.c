/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/kept-disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "qcowstore/store.h"
#include "vmm/disk/disk-file.h"
#include "vmm/disk/disk-lock.h"
#include "vmm/image-folder.h"
#include "vmm/meta.h"

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

/* As saves name them: so an image's folder has no other file that could be meant. */
static bool is_kept_name(const char *name, const char *id)
{
        size_t n = strlen(name), tail = strlen("-01234567.") + strlen(id);
        const char *end = name + n - tail;

        return n > tail && !strchr(name, '/') && end[0] == '-' &&
               strspn(end + 1, "0123456789abcdef") == 8 && end[9] == '.' && !strcmp(end + 10, id);
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
        if (ret->kept ? !is_kept_name(path, id) : path[0] != '/')
                return err_msg(e, EBADMSG, "'%s' is %s", path,
                               ret->kept ? "no name of a disk that was kept" : "not absolute");
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

/* ---- their end ------------------------------------------------------------------- */

/* Of a snapshot without a machine, none. */
static int read_kept(const char *image, const char *tag, struct meta *meta)
{
        const struct qs_open_options how = { .tag = tag };
        struct qs_image *file = NULL;
        struct qs_reader *reader = NULL;
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_image_open_path(image, &how, &file, NULL);

        if (rc == 0)
                rc = qs_reader_new(file, &reader, NULL);
        meta->disks.n = 0;
        if (rc == 0) {
                rc = qs_section_read(reader, SECTION_META, &data, &bytes, NULL);
                if (rc == 0)
                        rc = meta_decode(data, bytes, meta, NULL);
                else if (rc == -ENOENT)
                        rc = 0;
        }
        qs_reader_free(reader);
        qs_image_close(file);
        return rc;
}

static int read_all(const char *image, const char *tag, const struct qs_snapshot_info *list,
                    size_t n, struct kept_disks *into, size_t *ret_n)
{
        AUTO_FREE struct meta *meta = malloc(sizeof(*meta));
        int first = 0;

        if (!meta)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (tag && strcmp(tag, list[i].tag))
                        continue;

                int rc = read_kept(image, list[i].tag, meta);

                if (rc == 0)
                        into[(*ret_n)++] = meta->disks;
                else if (first == 0)
                        first = rc == -ENOENT ? -EIO : rc;      /* of a parent */
        }
        return first;
}

int kept_disks_of_image(const char *image, const char *tag, struct kept_disks **ret,
                        size_t *ret_n)
{
        AUTO_FD fd = open(image, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        AUTO_FREE struct qs_snapshot_info *list = NULL;
        size_t n = 0;
        int rc = fd < 0 ? -errno : 0;

        *ret = NULL;
        *ret_n = 0;
        if (rc == 0)
                rc = qs_snapshot_list(fd, image, &list, &n, NULL);
        if (rc < 0)
                return rc;
        *ret = calloc(n + 1, sizeof(**ret));
        return *ret ? read_all(image, tag, list, n, *ret, ret_n) : -ENOMEM;
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

enum kept_named kept_disks_named(const char *image, const struct kept_disks *k)
{
        AUTO_FREE struct kept_disks *there = NULL;
        size_t n;
        int rc = kept_disks_of_image(image, NULL, &there, &n);

        for (size_t i = 0; i < n; i++) {
                if (have_one_in_common(&there[i], k))
                        return KEPT_NAMED;
        }
        /* -ENOENT: there is no image at all */
        return rc == 0 || rc == -ENOENT ? KEPT_NOT_NAMED : KEPT_NOT_KNOWN;
}

/* An image may name any file: it is named after the image, it is what was kept, and no machine
 * has made it its own disk. One that only reads it keeps the file without its name. */
static bool is_to_go(const char *image, const struct kept_disk *k, int fd)
{
        const char *slash = strrchr(image, '/'), *name = slash ? slash + 1 : image;
        size_t n = strlen(name);
        bool itself;

        return !strncmp(k->identity.path, name, n) && k->identity.path[n] == '-' &&
               disk_identity_check(&k->identity, fd, k->identity.path, &itself, NULL) == 0 &&
               disk_lock(fd, false, NULL) == 0;
}

static void remove_one(const char *image, const struct image_folder *folder,
                       const struct kept_disk *k)
{
        AUTO_FD found = -1;
        AUTO_FD fd = -1;
        struct stat st;

        if (k->kept && disk_file_find(folder->fd, k->identity.path, false, &found, &st) == 0 &&
            S_ISREG(st.st_mode) && disk_file_open(found, O_RDONLY, &fd) == 0 &&
            is_to_go(image, k, fd))
                unlinkat(folder->fd, k->identity.path, 0);
}

void kept_disks_remove(const char *image, const struct kept_disks *k, size_t n)
{
        struct image_folder folder;

        if (n == 0 || image_folder_open(image, -1, &folder, NULL) < 0)
                return;
        for (size_t i = 0; i < n; i++) {
                for (unsigned j = 0; j < k[i].n; j++)
                        remove_one(image, &folder, &k[i].disk[j]);
        }
        image_folder_close(&folder);
}
