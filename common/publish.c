/* SPDX-License-Identifier: Apache-2.0 */
#include "common/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"

#define MODE 0600
/* names tried before we believe that the folder, not chance, is at fault */
#define TEMP_TRIES 16

struct publish {
        char *path;             /* for messages */
        char *name;             /* within the folder */
        char *temp;             /* the file's present name, to be removed; NULL = none */
        int folder;
        int fd;
        bool force;
};

static int split(struct publish *p, const char *path, struct err *e)
{
        const char *slash = strrchr(path, '/');
        AUTO_FREE char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

        p->path = strdup(path);
        p->name = strdup(slash ? slash + 1 : path);
        if (!folder || !p->path || !p->name)
                return err_set(e, ENOMEM, "create '%s'", path);
        if (p->name[0] == '\0')
                return err_msg(e, EINVAL, "'%s' names a folder, not a file", path);
        p->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (p->folder < 0)
                return err_set(e, errno, "create '%s': open its folder", path);
        return 0;
}

static int exists_error(const struct publish *p, struct err *e)
{
        return err_msg(e, EEXIST, "'%s' exists already: choose another name or use --force",
                       p->path);
}

static int check_target(const struct publish *p, struct err *e)
{
        struct stat st;

        if (fstatat(p->folder, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : err_set(e, errno, "create '%s'", p->path);
        if (!S_ISREG(st.st_mode))
                return err_msg(e, EEXIST, "'%s' exists and is not a regular file: choose another "
                               "name", p->path);
        return p->force ? 0 : exists_error(p, e);
}

static char *temp_name(const struct publish *p)
{
        uint32_t r = 0;
        char *name = NULL;

        if (getrandom(&r, sizeof(r), 0) != sizeof(r) ||
            asprintf(&name, ".%.200s.%06x.tmp", p->name, r & 0xffffff) < 0)
                return NULL;
        return name;
}

/* Gives the file a temporary name by `make`, which returns 0 or -1 and errno. */
static int with_temp_name(struct publish *p, int (*make)(struct publish *p, const char *temp),
                          struct err *e)
{
        for (int i = 0; i < TEMP_TRIES; i++) {
                AUTO_FREE char *temp = temp_name(p);

                if (!temp)
                        return err_set(e, ENOMEM, "create '%s'", p->path);
                if (make(p, temp) == 0) {
                        p->temp = ptr_take(&temp);
                        return 0;
                }
                if (errno != EEXIST)
                        break;
        }
        return err_set(e, errno, "create a temporary file beside '%s'", p->path);
}

static int make_by_open(struct publish *p, const char *temp)
{
        p->fd = openat(p->folder, temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, MODE);
        return p->fd < 0 ? -1 : 0;
}

static int link_as(struct publish *p, const char *name)
{
        char self[32];

        snprintf(self, sizeof(self), "/proc/self/fd/%d", p->fd);
        return linkat(AT_FDCWD, self, p->folder, name, AT_SYMLINK_FOLLOW);
}

static int open_file(struct publish *p, struct err *e)
{
        p->fd = openat(p->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, MODE);
        if (p->fd < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
                return err_set(e, errno, "create '%s'", p->path);
        if (p->fd < 0)
                return with_temp_name(p, make_by_open, e);
        return 0;
}

int publish_new(const char *path, bool force, struct publish **ret, struct err *e)
{
        struct publish *p = calloc(1, sizeof(*p));

        if (!p)
                return err_set(e, ENOMEM, "create '%s'", path);
        p->folder = p->fd = -1;
        p->force = force;

        int rc = split(p, path, e);

        if (rc == 0)
                rc = check_target(p, e);
        if (rc == 0)
                rc = open_file(p, e);
        if (rc == 0 && fchmod(p->fd, MODE) < 0)
                rc = err_set(e, errno, "create '%s': set its mode", path);
        if (rc < 0) {
                publish_free(p);
                return rc;
        }
        *ret = p;
        return 0;
}

int publish_fd(const struct publish *p)
{
        return p->fd;
}

const char *publish_path(const struct publish *p)
{
        return p->path;
}

void publish_free(struct publish *p)
{
        if (!p)
                return;
        if (p->temp)
                unlinkat(p->folder, p->temp, 0);
        fd_close(&p->fd);
        fd_close(&p->folder);
        free(p->temp);
        free(p->name);
        free(p->path);
        free(p);
}

/* 0 or -1 and errno */
static int rename_new(struct publish *p)
{
        if (renameat2(p->folder, p->temp, p->folder, p->name, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -1;
        /* file systems without that flag have hard links */
        if (linkat(p->folder, p->temp, p->folder, p->name, 0) < 0)
                return -1;
        unlinkat(p->folder, p->temp, 0);
        return 0;
}

static int give_name(struct publish *p, struct err *e)
{
        int rc;

        if (!p->temp && p->force) {
                rc = with_temp_name(p, link_as, e);
                if (rc < 0)
                        return rc;
        }
        if (!p->temp)
                rc = link_as(p, p->name);
        else if (p->force)
                rc = renameat(p->folder, p->temp, p->folder, p->name);
        else
                rc = rename_new(p);
        if (rc < 0 && errno == EEXIST)
                return exists_error(p, e);
        if (rc < 0)
                return err_set(e, errno, "give '%s' its name", p->path);
        free(ptr_take(&p->temp));
        return 0;
}

int publish_write_error(const struct publish *p, int rc, struct err *e)
{
        const char *remedy = rc == -ENOSPC || rc == -EDQUOT ? " (free some space or write "
                                                              "elsewhere; nothing was left)"
                             : rc == -EFBIG ? " (the file size limit is too low; nothing was "
                                              "left)" : "";

        return err_set(e, -rc, "write '%s'%s", p->path, remedy);
}

int publish_settle(struct publish *p, struct err *e)
{
        ASSERT(p->fd >= 0);
        return fdatasync(p->fd) < 0 ? publish_write_error(p, -errno, e) : 0;
}

int publish_commit(struct publish *p, struct err *e)
{
        int rc = publish_settle(p, e);

        if (rc == 0)
                rc = give_name(p, e);
        if (rc < 0)
                return rc;
        if (fsync(p->folder) < 0)
                return err_set(e, errno, "'%s' is complete, but its folder could not be made "
                               "durable (run 'sync')", p->path);
        return 0;
}

void publish_retract(struct publish *p)
{
        struct stat ours, there;

        if (fstat(p->fd, &ours) == 0 &&
            fstatat(p->folder, p->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
                unlinkat(p->folder, p->name, 0);
}
