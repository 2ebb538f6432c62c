/* SPDX-License-Identifier: Apache-2.0 */
/* Where the disks of a saved VM are. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/disk/disk-file.h"
#include "vmm/image-folder.h"
#include "vmm/kept-disks.h"

/* Theory of operation
 *
 * Which file is a disk is said by whoever reverts (--disk), or else by the image, which may be
 * anybody's: somebody else's, or one that was brought here from elsewhere and belongs to the
 * caller since. It must not show files of the caller's to a guest.
 *
 * - A file that was kept with the image is looked for where the image lies, under a name such
 *   as saves give. It is a regular file, no link, has the image's owner, and nobody may write
 *   to it who may not write to the image.
 * - A disk elsewhere is taken unasked if the image is the caller's own and the disk is the very
 *   regular file of then: its number and its time, which a save sets to nanoseconds of its own
 *   (INV-STAMP), are known on this host alone. A block device has neither.
 * - A disk that the machine has already (a rollback) was named by whoever started it.
 *
 * INV-ONCE: a file is found once. What is asked of it, its owner and its identity, is asked of
 *           the descriptor by which it is opened for the guest later.
 */
#define TRUST ",trust"
#define OTHERS_WRITE (S_IWGRP | S_IWOTH)

struct search {
        const struct kept_disks *kept;
        const struct kept_disks_image *image;
        const struct disks_wish *wish;
        struct stat image_stat;         /* of the file that was opened */
        struct image_folder folder;     /* fd -1 = not asked for yet */
};

/* A disk that was found. */
struct found {
        char *path;                     /* what it is called */
        int fd;                         /* open for reading */
};

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

static bool is_present(const struct disks_wish *w, const struct kept_disk *k)
{
        const struct machine_config *c = w->present;

        for (unsigned i = 0; c && i < c->ndisks; i++) {
                if (!strcmp(c->disk[i].id, k->id) && !strcmp(c->disk[i].path, k->identity.path))
                        return true;
        }
        return false;
}

/* ---- the file ------------------------------------------------------------- */

static int not_there(const char *path, int rc, struct err *e)
{
        return err_set(e, -rc, "open disk '%s', which belongs to the saved RAM (bring it back, or "
                       "name its present place with --disk ID=PATH)", path);
}

static int open_found(int found, struct found *ret, struct err *e)
{
        int rc = disk_file_open(found, O_RDONLY, &ret->fd);

        return rc < 0 ? not_there(ret->path, rc, e) : 0;
}

static int set_name(struct found *ret, const char *path, struct err *e)
{
        ret->path = strdup(path);
        return ret->path ? 0 : err_msg(e, ENOMEM, "no memory for the path of a disk");
}

static int not_unasked(const struct kept_disk *k, const char *why, struct err *e)
{
        return err_msg(e, EACCES, "disk '%s' is not opened unasked, as %s: say that it is meant "
                       "by --disk %s=PATH", k->identity.path, why, k->id);
}

/* One that somebody named. */
static int find_named(const char *path, struct found *ret, struct err *e)
{
        AUTO_FREE char *real = realpath(path, NULL);
        AUTO_FD found = -1;
        struct stat st;
        int rc = disk_file_find(AT_FDCWD, real ? real : path, true, &found, &st);

        if (rc < 0)
                return not_there(path, rc, e);
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                return err_msg(e, EINVAL, "disk '%s' is neither a file nor a block device", path);
        rc = set_name(ret, real ? real : path, e);
        return rc == 0 ? open_found(found, ret, e) : rc;
}

static int check_beside(const struct search *s, const struct kept_disk *k, const struct stat *st,
                        struct err *e)
{
        if (!S_ISREG(st->st_mode))
                return err_msg(e, EINVAL, "disk '%s' beside the image is no regular file: use "
                               "--disk %s=PATH", k->identity.path, k->id);
        if (st->st_uid != s->image_stat.st_uid)
                return not_unasked(k, "it has another owner than the image", e);
        if (st->st_mode & ~s->image_stat.st_mode & OTHERS_WRITE)
                return not_unasked(k, "more users may write to it than to the image", e);
        return 0;
}

/* One that was kept. */
static int find_beside(struct search *s, const struct kept_disk *k, struct found *ret,
                       struct err *e)
{
        AUTO_FD found = -1;
        struct stat st;
        int rc = 0;

        if (s->folder.fd < 0)
                rc = image_folder_open(s->image->path, s->image->fd, &s->folder, e);
        if (rc < 0)
                return rc;
        if (asprintf(&ret->path, "%s/%s", s->folder.path, k->identity.path) < 0) {
                ret->path = NULL;
                return err_msg(e, ENOMEM, "no memory for the path of a disk");
        }
        rc = disk_file_find(s->folder.fd, k->identity.path, false, &found, &st);
        if (rc < 0)
                return not_there(ret->path, rc, e);
        rc = check_beside(s, k, &st, e);
        return rc == 0 ? open_found(found, ret, e) : rc;
}

/* One that is elsewhere. */
static int find_unasked(const struct search *s, const struct kept_disk *k, struct found *ret,
                        struct err *e)
{
        AUTO_FD found = -1;
        struct stat st;
        int rc;

        if (s->image_stat.st_uid != geteuid())
                return not_unasked(k, "the image is somebody else's", e);
        rc = disk_file_find(AT_FDCWD, k->identity.path, false, &found, &st);
        if (rc < 0)
                return not_there(k->identity.path, rc, e);
        if (!S_ISREG(st.st_mode))
                return not_unasked(k, "it is no regular file", e);
        rc = set_name(ret, k->identity.path, e);
        return rc == 0 ? open_found(found, ret, e) : rc;
}

/* Whatever it is that the guest would see: is it what was saved? */
static int check(const struct search *s, const struct kept_disk *k, const struct found *f,
                 bool named, struct err *e)
{
        bool itself;
        int rc;

        if (!k)
                return err_msg(e, EBADMSG, "'%s' does not say which disk belongs to it: use --disk "
                               "ID=PATH,trust", s->image->path);
        rc = disk_identity_check(&k->identity, f->fd, f->path, &itself, e);
        if (rc == 0 && !named && !k->kept && !itself)
                rc = not_unasked(k, "it is another file than that of then", e);
        return rc;
}

static int find_file(struct search *s, const char *id, struct found *ret, struct err *e)
{
        const struct kept_disk *k = find(s->kept, id);
        bool trust;
        AUTO_FREE char *path = wished_path(s->wish, id, &trust);
        bool named = path || (k && !k->kept && is_present(s->wish, k));
        int rc = 0;

        if (path)
                rc = find_named(path, ret, e);
        else if (named)
                rc = find_named(k->identity.path, ret, e);
        else if (k)
                rc = k->kept ? find_beside(s, k, ret, e) : find_unasked(s, k, ret, e);
        return rc < 0 || trust ? rc : check(s, k, ret, named, e);
}

static int find_one(struct search *s, struct disk_config *d, int *ret_fd, struct err *e)
{
        if (*ret_fd >= 0) {             /* lent */
                d->overlay = true;
                return 0;
        }

        struct found f = { NULL, -1 };
        int rc = find_file(s, d->id, &f, e);

        if (rc == 0 && strlen(f.path) >= sizeof(d->path))
                rc = err_msg(e, ENAMETOOLONG, "the path of disk '%s' is too long", f.path);
        if (rc == 0) {
                strcpy(d->path, f.path);
                d->overlay = !s->wish->in_place && !d->read_only;
                *ret_fd = fd_take(&f.fd);
        }
        free(f.path);
        fd_close(&f.fd);
        return rc < 0 ? err_in(e, rc, "%s", d->id) : 0;
}

int kept_disks_find(const struct kept_disks *k, const struct kept_disks_image *image,
                    const struct disks_wish *w, struct machine_config *c,
                    struct disk_files *ret, struct err *e)
{
        struct search s = { .kept = k, .image = image, .wish = w, .folder = { .fd = -1 } };
        int rc = check_wishes(w, c, e);

        if (rc == 0 && fstat(image->fd, &s.image_stat) < 0)
                rc = err_set(e, errno, "look at '%s'", image->path);
        for (unsigned i = 0; i < c->ndisks && rc == 0; i++)
                rc = find_one(&s, &c->disk[i], &ret->fd[i], e);
        image_folder_close(&s.folder);
        if (rc < 0)
                disk_files_fini(ret);
        return rc;
}
