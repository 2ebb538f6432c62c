/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rundir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

/* Another process may be removing the lock file while we open it. */
#define CLAIM_TRIES 16

static const char *const suffixes[] = { "sock", "console", "lock" };

int rundir_check_name(const char *name, struct err *e)
{
        size_t n = strlen(name);

        if (n == 0 || n > VM_NAME_MAX)
                return err_msg(e, EINVAL, "VM name '%s' must have 1 to %d characters", name,
                               VM_NAME_MAX);
        for (size_t i = 0; i < n; i++) {
                bool punct = strchr("._-", name[i]) != NULL;

                if (!isalnum((unsigned char)name[i]) && !(punct && i > 0))
                        return err_msg(e, EINVAL, "VM name '%s' may hold only letters, digits and, "
                                       "not first, '.', '_' and '-'", name);
        }
        if (!strcmp(name, RUNDIR_SERVE))
                return err_msg(e, EINVAL, "VM name '%s' is taken: the socket of 'vmm serve' has "
                               "it", name);
        return 0;
}

static int folder(char *buf, size_t room, struct err *e)
{
        const char *own = getenv("VMM_RUNTIME_DIR");
        const char *xdg = getenv("XDG_RUNTIME_DIR");
        int n;

        if (own && *own)
                n = snprintf(buf, room, "%s", own);
        else if (xdg && *xdg)
                n = snprintf(buf, room, "%s/vmm", xdg);
        else
                n = snprintf(buf, room, "/run/vmm");
        if ((size_t)n >= room)
                return err_msg(e, ENAMETOOLONG, "the runtime folder's path is too long for a "
                               "socket: set VMM_RUNTIME_DIR to a shorter one");
        return 0;
}

int rundir_path(struct rundir_path *ret, const char *name, const char *suffix, struct err *e)
{
        char dir[sizeof(ret->text)];
        int rc = folder(dir, sizeof(dir), e);

        if (rc < 0)
                return rc;

        int n = snprintf(ret->text, sizeof(ret->text), "%s/%s.%s", dir, name, suffix);

        if ((size_t)n >= sizeof(ret->text))
                return err_msg(e, ENAMETOOLONG, "'%s/%s.%s' is too long for a socket: use a "
                               "shorter name or set VMM_RUNTIME_DIR to a shorter folder", dir,
                               name, suffix);
        return 0;
}

int rundir_make(struct err *e)
{
        char dir[sizeof(struct rundir_path)];
        int rc = folder(dir, sizeof(dir), e);

        if (rc < 0)
                return rc;
        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
                return err_set(e, errno, "make runtime folder '%s' (or set VMM_RUNTIME_DIR)", dir);
        return 0;
}

/* 1 when fd is still the file of that path, 0 when it was removed meanwhile */
static int still_named(int fd, const char *path)
{
        struct stat a, b;

        return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino &&
               a.st_dev == b.st_dev;
}

/* Locks of the open file (fcntl(2), "Open file description locks"): a command
 * that only looks takes none, so that it is never in the way of a claim. */
static bool lock(int fd, int command, short type, struct flock *ret)
{
        *ret = (struct flock){ .l_type = type, .l_whence = SEEK_SET };
        return fcntl(fd, command, ret) == 0;
}

static bool is_held(int fd)
{
        struct flock l;

        return lock(fd, F_OFD_GETLK, F_WRLCK, &l) && l.l_type == F_WRLCK;
}

static int lock_path(const char *path, const char *name, int *ret_fd, struct err *e)
{
        for (int i = 0; i < CLAIM_TRIES; i++) {
                AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                struct flock l;

                if (fd < 0)
                        return err_set(e, errno, "open '%s'", path);
                if (!lock(fd, F_OFD_SETLK, F_WRLCK, &l)) {
                        if (errno != EAGAIN && errno != EACCES)
                                return err_set(e, errno, "lock '%s'", path);
                        if (is_held(fd))
                                return err_msg(e, EEXIST, "a VM named '%s' is already running: "
                                               "choose another name or stop it", name);
                        sched_yield();  /* who waited for its end is just leaving */
                        continue;
                }
                if (still_named(fd, path)) {
                        *ret_fd = fd_take(&fd);
                        return 0;
                }
        }
        return err_msg(e, EAGAIN, "'%s' keeps changing: try again", path);
}

int rundir_claim(const char *name, int *ret_fd, struct err *e)
{
        struct rundir_path path;
        AUTO_FD fd = -1;
        int rc = rundir_check_name(name, e);

        if (rc == 0)
                rc = rundir_make(e);
        if (rc == 0)
                rc = rundir_path(&path, name, "lock", e);
        if (rc == 0)
                rc = lock_path(path.text, name, &fd, e);
        if (rc < 0)
                return rc;

        char pid[32];
        int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());

        if (ftruncate(fd, 0) < 0 || io_pwrite_full(fd, pid, (size_t)n, 0) < 0)
                return err_set(e, EIO, "write '%s'", path.text);
        for (size_t i = 0; i < 2; i++) {
                rc = rundir_path(&path, name, suffixes[i], e);
                if (rc < 0)
                        return rc;
                unlink(path.text);
        }
        *ret_fd = fd_take(&fd);
        return 0;
}

void rundir_release(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
                struct rundir_path path;

                if (rundir_path(&path, name, suffixes[i], NULL) == 0)
                        unlink(path.text);
        }
}

/* 1 or 0; or it cannot be found out: -errno, and no "no" */
static int is_running(const char *lock_path_text, struct err *e)
{
        AUTO_FD fd = open(lock_path_text, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return errno == ENOENT ? 0 : err_set(e, errno, "find out whether a VM holds '%s'",
                                                     lock_path_text);
        return is_held(fd);
}

int rundir_find(const char *name, struct err *e)
{
        struct rundir_path path;
        int rc = rundir_check_name(name, e);

        if (rc == 0)
                rc = rundir_path(&path, name, "lock", e);
        if (rc < 0)
                return rc;
        rc = is_running(path.text, e);
        if (rc < 0)
                return rc;
        if (rc == 0)
                return err_msg(e, ENOENT, "no VM named '%s' is running: 'vmm list' shows those "
                               "that are", name);
        return 0;
}

int rundir_pid(const char *name, pid_t *ret, struct err *e)
{
        char text[32];
        AUTO_FD fd = -1;
        int rc = rundir_watch(name, &fd, e);

        if (rc < 0)
                return rc;

        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        long pid;

        text[MAX(n, 0)] = '\0';
        pid = strtol(text, NULL, 10);
        /* written right after the lock was taken */
        if (pid <= 0 || pid > INT32_MAX)
                return err_msg(e, EBUSY, "VM '%s' is just starting: try again", name);
        *ret = (pid_t)pid;
        return 0;
}

int rundir_watch(const char *name, int *ret_fd, struct err *e)
{
        struct rundir_path path;
        int rc = rundir_find(name, e);

        if (rc == 0)
                rc = rundir_path(&path, name, "lock", e);
        if (rc < 0)
                return rc;
        *ret_fd = open(path.text, O_RDONLY | O_CLOEXEC);
        return *ret_fd < 0 ? err_set(e, errno, "open '%s'", path.text) : 0;
}

void rundir_wait_free(int fd)
{
        struct flock l;

        while (!lock(fd, F_OFD_SETLKW, F_RDLCK, &l) && errno == EINTR)
                ;
}

static int is_lock(const struct dirent *d)
{
        size_t n = strlen(d->d_name);

        return n > 5 && !strcmp(d->d_name + n - 5, ".lock");
}

static int visit_running(const char *name, int (*visit)(void *ctx, const char *name), void *ctx,
                         struct err *e)
{
        struct rundir_path path;

        if (rundir_path(&path, name, "lock", NULL) < 0)
                return 0;               /* no VM of ours has that name */

        int rc = is_running(path.text, e);

        return rc == 1 ? visit(ctx, name) : rc;
}

int rundir_each(int (*visit)(void *ctx, const char *name), void *ctx, struct err *e)
{
        char dir[sizeof(struct rundir_path)];
        struct dirent **found;
        int rc = folder(dir, sizeof(dir), e);

        if (rc < 0)
                return rc;

        int n = scandir(dir, &found, is_lock, alphasort);

        if (n < 0)
                return errno == ENOENT ? 0 : err_set(e, errno, "read folder '%s'", dir);
        for (int i = 0; i < n; i++) {
                char *name = found[i]->d_name;

                name[strlen(name) - 5] = '\0';
                if (rc == 0)
                        rc = visit_running(name, visit, ctx, e);
                free(found[i]);
        }
        free(found);
        return rc;
}
