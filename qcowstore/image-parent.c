/* SPDX-License-Identifier: Apache-2.0 */
/* opening an image with all its layers
 *
 * The name of a parent in an image of unknown origin is a trap: whoever follows
 * it reads a file of the image's choice. So it must lie in the folder that the
 * caller names, be what it is said to be, and its format is never guessed: any
 * file would pass as raw. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "common/auto.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/legacy.h"

#define NO_FOLDER (-1)

static int check_name(const char *name, struct err *e)
{
        if (strncmp(name, "json:", 5) == 0 || strchr(name, ':'))
                return err_msg(e, EPERM, "its backing file '%s' is not a plain file name", name);
        if (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return err_msg(e, EPERM, "its backing file '%s' must lie in the folder of the "
                               "image and be named without one: move it there and use 'qemu-img "
                               "rebase -u'", name);
        return 0;
}

static int open_parent_file(const struct qs_image *child, int folder_fd, int *ret_fd,
                            struct err *e)
{
        const char *name = child->parent_name;
        struct stat st;
        int rc = check_name(name, e);

        if (rc < 0)
                return rc;
        if (!child->hdr.backing_qcow2)
                return err_msg(e, ENOTSUP, "its backing file '%s' is not declared to be qcow2: if "
                               "it is, say so with 'qemu-img rebase -u -F qcow2'", name);

        AUTO_FD fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                            O_NOCTTY);

        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open its backing file '%s'", name);
        if (!S_ISREG(st.st_mode))
                return err_msg(e, EPERM, "its backing file '%s' is not a regular file", name);
        *ret_fd = fd_take(&fd);
        return 0;
}

/* A delta of ours says nothing without the state it was made from. */
static int check_kin(const struct qs_image *child, const struct qs_image *parent, struct err *e)
{
        const struct imghdr *c = &child->hdr;
        const struct imghdr *p = &parent->hdr;

        if (!c->format_version)
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
        if (layers > IMAGE_LAYERS_MAX)
                return err_msg(e, EMLINK, "it has more than %d parents: flatten it with "
                               "'qemu-img convert'", IMAGE_LAYERS_MAX - 1);
        for (const struct qs_image *m = top; m != last; m = m->parent) {
                if (m->dev == last->dev && m->ino == last->ino)
                        return err_msg(e, ELOOP, "its chain of backing files comes back to '%s'",
                                       last->path);
        }
        return 0;
}

static int open_chain(struct qs_image *top, int folder_fd, struct err *e)
{
        unsigned layers = 1;

        for (struct qs_image *m = top; m->parent_name; m = m->parent) {
                AUTO_FD fd = -1;

                if (folder_fd < 0)
                        return err_msg(e, ENOTSUP, "it has a backing file, '%s', which cannot be "
                                       "reached from here: flatten it with 'qemu-img convert'",
                                       m->parent_name);

                int rc = open_parent_file(m, folder_fd, &fd, e);

                if (rc == 0)
                        rc = image_open_layer(fd, m->parent_name, NULL, &m->parent, e);
                if (rc < 0)
                        return m == top ? rc : err_in(e, rc, "parent '%s'", m->path);
                rc = check_kin(m, m->parent, e);
                if (rc == 0)
                        rc = check_chain(top, m->parent, ++layers, e);
                if (rc < 0)
                        return rc;
        }
        top->info.layers = layers;
        return 0;
}

static bool all_zero(const uint8_t *p, size_t n)
{
        while (n > 0 && *p == 0) {
                p++;
                n--;
        }
        return n == 0;
}

/* Whoever keeps what was read tells by it whether it still is the same. */
static int make_identity(struct qs_image *top, struct err *e)
{
        XXH128_hash_t id = { 0, 0 };

        if (top->hdr.format_version)
                return 0;
        for (const struct qs_image *m = top; m; m = m->parent) {
                struct stat st;

                if (fstat(m->fd, &st) < 0)
                        return err_set(e, errno, "look at '%s'", m->path);

                const uint64_t facts[] = {
                        st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                        (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec,
                        (uint64_t)st.st_ctim.tv_nsec, id.low64, id.high64,
                };

                id = XXH3_128bits(facts, sizeof(facts));
        }
        static_assert(sizeof(id) == sizeof(top->info.uuid), "an identity fills a uuid");
        memcpy(top->info.uuid, &id, sizeof(id));
        return 0;
}

static int open_layers(int fd, const char *path, const char *tag, int folder_fd,
                       struct qs_image **ret, struct err *e)
{
        struct qs_image *m;
        int rc = image_open_layer(fd, path, tag, &m, e);

        if (rc < 0)
                return rc;
        if (!m->parent_name && !all_zero(m->hdr.parent_uuid, sizeof(m->hdr.parent_uuid)))
                rc = err_msg(e, EBADMSG, "the name of its parent is missing");
        if (rc == 0)
                rc = open_chain(m, folder_fd, e);
        if (rc == 0)
                rc = make_identity(m, e);
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
        return qs_image_open_at(fd, path, tag, NO_FOLDER, ret, e);
}

int qs_image_open_at(int fd, const char *path, const char *tag, int folder_fd,
                     struct qs_image **ret, struct err *e)
{
        int rc = open_layers(fd, path, tag, folder_fd, ret, e);

        return rc < 0 ? err_in(e, rc, "image '%s'", path) : 0;
}

/* The folder that path names its last part in. */
static int open_folder(const char *path)
{
        const char *slash = strrchr(path, '/');
        AUTO_FREE char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

        return folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

int qs_image_open_path(const char *path, const char *tag, const char *passphrase,
                       struct qs_image **ret, struct err *e)
{
        AUTO_FD folder_fd = open_folder(path);
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return err_set(e, errno, "open '%s'", path);
        if (legacy_wanted(fd)) {
                int rc = legacy_open_image(fd, path, tag, passphrase, ret, e);

                return rc < 0 ? err_in(e, rc, "image '%s'", path) : 0;
        }
        return qs_image_open_at(fd, path, tag, folder_fd, ret, e);
}
