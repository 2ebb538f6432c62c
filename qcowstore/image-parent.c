/* SPDX-License-Identifier: Apache-2.0 */
/* opening an image with all its layers
 *
 * The name of a parent in an image of unknown origin is a trap: whoever follows
 * it reads a file of the image's choice. So parents are handed over as open files,
 * or lie in one of two folders that the caller names; and they are what they are
 * said to be, and their format is never guessed: any file would pass as raw. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/legacy.h"
#include "qcowstore/sum.h"

#define NO_FOLDER (-1)

/* Where the files come from; borrows everything. */
struct origin {
        const int *fds;                 /* of all layers; NULL: they are looked for */
        size_t n;
        int folder_fd;                  /* of the layer whose parent is wanted */
        int allowed_fd;                 /* or NO_FOLDER */
        bool later;                     /* parents are only found */
};

/* Which folder a name with '/' leads to is only compared: the file is opened in the
 * allowed one that we hold. */
static bool leads_to_allowed(const struct origin *o, const char *name, const char *slash)
{
        struct stat named, allowed;
        AUTO_FREE char *folder = strndup(name, (size_t)(slash - name) + 1);

        if (!folder || o->allowed_fd < 0)
                return false;

        AUTO_FD fd = openat(o->folder_fd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && fstat(fd, &named) == 0 && fstat(o->allowed_fd, &allowed) == 0 &&
               named.st_dev == allowed.st_dev && named.st_ino == allowed.st_ino;
}

static int check_name(const struct origin *o, const char *name, struct err *e)
{
        const char *slash = strrchr(name, '/');
        const char *file = slash ? slash + 1 : name;

        if (strchr(name, ':'))
                return err_msg(e, EPERM, "its backing file '%s' is not a plain file name", name);
        if (!file[0] || strcmp(file, ".") == 0 || strcmp(file, "..") == 0 ||
            (slash && !leads_to_allowed(o, name, slash)))
                return err_msg(e, EPERM, "its backing file '%s' is not in the folder of the "
                               "image, nor directly in one that was allowed: allow its folder "
                               "with --allow-parent, or move it and use 'qemu-img rebase -u'",
                               name);
        return 0;
}

static int open_in(int folder_fd, const char *file)
{
        return openat(folder_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
}

/* The parent's own parent is then looked for beside it. */
static int find_parent(struct origin *o, const struct qs_image *child, int *ret_fd, struct err *e)
{
        const char *name = child->parent_name;
        const char *slash = strrchr(name, '/');
        const char *file = slash ? slash + 1 : name;
        int folder_fd = slash ? o->allowed_fd : o->folder_fd;
        struct stat st;
        int rc = check_name(o, name, e);

        if (rc < 0)
                return rc;

        AUTO_FD fd = open_in(folder_fd, file);

        if (fd < 0 && errno == ENOENT && o->allowed_fd >= 0) {
                folder_fd = o->allowed_fd;
                fd = open_in(folder_fd, file);
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open its backing file '%s'", name);
        if (!S_ISREG(st.st_mode))
                return err_msg(e, EPERM, "its backing file '%s' is not a regular file", name);
        o->folder_fd = folder_fd;
        *ret_fd = fd_take(&fd);
        return 0;
}

static int open_found(struct origin *o, const struct qs_image *child, struct qs_image **ret,
                      struct err *e)
{
        AUTO_FD fd = -1;
        int rc = find_parent(o, child, &fd, e);

        if (rc < 0)
                return rc;
        rc = o->later ? image_find_layer(&fd, child->parent_name, ret, e)
                      : image_open_layer(fd, child->parent_name, NULL, ret, e);
        return rc < 0 ? err_in(e, rc, "parent '%s'", child->parent_name) : 0;
}

static int open_parent(struct origin *o, struct qs_image *child, unsigned layers, struct err *e)
{
        const char *name = child->parent_name;

        if (o->fds ? layers == o->n : o->folder_fd < 0)
                return err_msg(e, ENOTSUP, "it has a backing file, '%s', which cannot be reached "
                               "from here: flatten it with 'qemu-img convert'", name);
        if (!child->hdr.backing_qcow2)
                return err_msg(e, ENOTSUP, "its backing file '%s' is not declared to be qcow2: if "
                               "it is, say so with 'qemu-img rebase -u -F qcow2'", name);
        if (!o->fds)
                return open_found(o, child, &child->parent, e);

        int rc = image_open_layer(o->fds[layers], name, NULL, &child->parent, e);

        return rc < 0 ? err_in(e, rc, "parent '%s'", name) : 0;
}

/* A delta of ours says nothing without the state it was made from. */
int image_check_kin(const struct qs_image *child, const struct qs_image *parent, struct err *e)
{
        const struct imghdr *c = &child->hdr;
        const struct imghdr *p = &parent->hdr;

        if (!c->format_version)
                return 0;
        if (parent->found_only && p->changed)   /* who opens it says more */
                return 0;
        if (!p->format_version || memcmp(c->parent_uuid, p->uuid, sizeof(p->uuid)) != 0)
                return err_msg(e, EBADMSG, "its backing file '%s' is not the image it was made "
                               "from: put that one back under this name", child->parent_name);
        if (p->changed || c->parent_state != p->snaptable_sum)
                return err_msg(e, EBADMSG, "its backing file '%s' was changed since this image "
                               "was made from it: put back the file as it was",
                               child->parent_name);
        return 0;
}

/* INV-CHAIN */
static int check_chain(const struct qs_image *top, const struct qs_image *last, unsigned layers,
                       struct err *e)
{
        if (layers > QS_LAYERS_MAX)
                return err_msg(e, EMLINK, "it has more than %d parents: flatten it with "
                               "'qemu-img convert'", QS_LAYERS_MAX - 1);
        for (const struct qs_image *m = top; m != last; m = m->parent) {
                if (m->dev == last->dev && m->ino == last->ino)
                        return err_msg(e, ELOOP, "its chain of backing files comes back to '%s'",
                                       last->path);
        }
        return 0;
}

/* The last layer has no parent that was forgotten. */
static int check_end(const struct qs_image *last, struct err *e)
{
        if (!sum_all_zero(last->hdr.parent_uuid, sizeof(last->hdr.parent_uuid)))
                return err_msg(e, EBADMSG, "the name of its parent is missing");
        return 0;
}

static int open_parents(struct qs_image *top, struct origin *o, struct err *e)
{
        struct qs_image *m = top;
        unsigned layers = 1;
        int rc = 0;

        while (m->parent_name) {
                rc = open_parent(o, m, layers, e);
                if (rc < 0)
                        break;
                rc = image_check_kin(m, m->parent, e);
                if (rc == 0)
                        rc = check_chain(top, m->parent, ++layers, e);
                if (rc < 0)
                        return rc;
                m = m->parent;
        }
        if (rc == 0)
                rc = check_end(m, e);
        top->info.layers = layers;
        return rc < 0 && m != top ? err_in(e, rc, "parent '%s'", m->path) : rc;
}

static int open_layers(int fd, const char *path, const char *tag, struct origin *o,
                       struct qs_image **ret, struct err *e)
{
        struct qs_image *m;
        int rc = image_open_layer(fd, path, tag, &m, e);

        if (rc < 0)
                return rc;
        rc = open_parents(m, o, e);
        if (rc == 0 && o->fds && m->info.layers != o->n)
                rc = err_msg(e, EINVAL, "%zu files were handed over, but it consists of %u",
                             o->n, m->info.layers);
        if (rc == 0)
                rc = o->later && m->parent ? image_open_later(m, e) : image_identify(m, e);
        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        *ret = m;
        return 0;
}

int qs_image_open(int fd, const char *path, const char *tag, struct qs_image **ret,
                  struct err *e)
{
        return qs_image_open_chain(&fd, 1, path, tag, ret, e);
}

int qs_image_open_chain(const int *fds, size_t n, const char *path, const char *tag,
                        struct qs_image **ret, struct err *e)
{
        struct origin o = { .fds = fds, .n = n, .folder_fd = NO_FOLDER, .allowed_fd = NO_FOLDER };

        ASSERT(n >= 1 && n <= QS_LAYERS_MAX);

        int rc = open_layers(fds[0], path, tag, &o, ret, e);

        return rc < 0 ? err_in(e, rc, "image '%s'", path) : 0;
}

static int open_at(int fd, const char *path, const char *tag, struct origin *o,
                   struct qs_image **ret, struct err *e)
{
        int rc = open_layers(fd, path, tag, o, ret, e);

        return rc < 0 ? err_in(e, rc, "image '%s'", path) : 0;
}

int qs_image_open_at(int fd, const char *path, const char *tag, int folder_fd, int allowed_fd,
                     struct qs_image **ret, struct err *e)
{
        struct origin o = { .folder_fd = folder_fd, .allowed_fd = allowed_fd };

        return open_at(fd, path, tag, &o, ret, e);
}

/* The folder that path names its last part in. */
static int open_folder(const char *path)
{
        const char *slash = strrchr(path, '/');
        AUTO_FREE char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

        return folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

static int open_legacy(int fd, const char *path, const struct qs_open_options *o,
                       struct qs_image **ret, struct err *e)
{
        struct qs_image *m;
        int rc = legacy_open_image(fd, path, o->tag, o->passphrase, &m, e);

        if (rc < 0)
                return err_in(e, rc, "image '%s'", path);
        rc = image_identify(m, e);
        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        *ret = m;
        return 0;
}

int qs_image_open_path(const char *path, const struct qs_open_options *options,
                       struct qs_image **ret, struct err *e)
{
        const struct qs_open_options o = options ? *options : (struct qs_open_options){ 0 };
        AUTO_FD folder_fd = open_folder(path);
        AUTO_FD allowed_fd = NO_FOLDER;
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return err_set(e, errno, "open '%s'", path);
        if (o.allow_parent) {
                allowed_fd = open(o.allow_parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (allowed_fd < 0)
                        return err_set(e, errno, "open the folder '%s'", o.allow_parent);
        }
        if (legacy_wanted(fd))
                return open_legacy(fd, path, &o, ret, e);

        struct origin from = {
                .folder_fd = folder_fd, .allowed_fd = allowed_fd, .later = o.parents_later,
        };

        return open_at(fd, path, o.tag, &from, ret, e);
}
