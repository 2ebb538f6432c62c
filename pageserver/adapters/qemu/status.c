/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "pageserver/adapters/qemu/said.h"
#include "pageserver/adapters/qemu/statusfile.h"

/* of the number of bytes: often enough for people, and nothing beside a save */
#define EVERY_NS NS_PER_SEC

/* Another saver begins or ends at the same time: how often we may lose to one before
 * something else must be wrong. */
#define TRIES_MAX 100

/* not yet named, in the same folder */
#define TEMPORARY ".XXXXXX"

struct status {
        char *image;
        char path[PATH_MAX];
        int fd;                         /* what has the name, locked */
        uint64_t written_ns;
        struct said said;
};

/* ---- files ----------------------------------------------------------------------- */

static int write_said(const struct status *s, int fd)
{
        AUTO_JSON *o = said_encode(&s->said, s->image);
        const char *text = o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE) :
                               NULL;
        size_t bytes;
        int rc;

        if (!text)
                return -ENOMEM;
        bytes = strlen(text);
        rc = io_pwrite_full(fd, text, bytes, 0);
        if (rc == 0)
                rc = io_pwrite_full(fd, "\n", 1, bytes);
        if (rc == 0 && ftruncate(fd, (off_t)bytes + 1) < 0)
                rc = -errno;
        return rc;
}

/* a file with what is to be said, locked, under a temporary name */
static int make_file(const struct status *s, char name[PATH_MAX], int *ret_fd)
{
        if (snprintf(name, PATH_MAX, "%s" TEMPORARY, s->path) >= PATH_MAX)
                return -ENAMETOOLONG;

        AUTO_FD fd = mkostemp(name, O_CLOEXEC);

        if (fd < 0)
                return -errno;

        int rc = statusfile_lock(fd, STATUSFILE_ALIVE);

        if (rc == 0)
                rc = write_said(s, fd);
        /* INV-SAID: one without content says that nothing is known to be done */
        if ((rc == -ENOSPC || rc == -EDQUOT) && s->fd < 0)
                rc = 0;
        if (rc < 0) {
                unlink(name);
                return rc;
        }
        *ret_fd = fd_take(&fd);
        return 0;
}

/* A new file, and only then is the old one closed; INV-SAID if it cannot be made. */
static void say(struct status *s)
{
        char name[PATH_MAX];
        AUTO_FD fd = -1;

        s->written_ns = clock_now_ns();
        if (make_file(s, name, &fd) < 0) {
                write_said(s, s->fd);
                return;
        }
        if (rename(name, s->path) < 0) {
                unlink(name);
                write_said(s, s->fd);
                return;
        }
        fd_close(&s->fd);
        s->fd = fd_take(&fd);
}

/* It goes to terminals, and said_parse() refuses what should not. */
static void set_text(char *ret, size_t room, const char *text)
{
        snprintf(ret, room, "%s", text);
        for (char *p = ret; *p; p++) {
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        *p = '?';
        }
}

/* ---- beginning ------------------------------------------------------------------- */

static int busy(const char *image, int fd, struct err *e)
{
        char text[SAID_BYTES_MAX];
        ssize_t n = pread(fd, text, sizeof(text), 0);
        struct said said;

        if (n > 0 && said_parse(text, (size_t)n, &said, NULL) == 0)
                return err_msg(e, EBUSY, "'%s' is being saved just now, by process %llu", image,
                               (unsigned long long)said.pid);
        return err_msg(e, EBUSY, "'%s' is being saved just now", image);
}

/* The file of one who is dead makes room for ours. 1 = look again. */
static int inherit(const struct status *s, const char *name, struct err *e)
{
        AUTO_FD old = -1;
        int rc = statusfile_open(s->path, O_RDWR, &old, e);

        if (rc == -ENOENT)
                return 1;
        if (rc < 0)
                return rc;
        if (statusfile_is_alive(old))
                return statusfile_is_named(old, s->path) ? busy(s->image, old, e) : 1;
        rc = statusfile_lock(old, STATUSFILE_HEIR);
        if (rc == -EAGAIN)
                return busy(s->image, old, e);
        if (rc < 0)
                return err_set(e, -rc, "cannot lock '%s'", s->path);
        if (!statusfile_is_named(old, s->path))
                return 1;
        return rename(name, s->path) < 0 ? err_set(e, errno, "cannot replace '%s'", s->path) : 0;
}

/* 0 or -errno: -EEXIST when it is not */
static int name_if_free(const char *temporary, const char *name)
{
        if (renameat2(AT_FDCWD, temporary, AT_FDCWD, name, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;
        /* file systems without that flag have hard links */
        if (link(temporary, name) < 0)
                return -errno;
        unlink(temporary);
        return 0;
}

/* INV-ONESAVER */
static int take_name(const struct status *s, const char *name, struct err *e)
{
        for (int i = 0; i < TRIES_MAX; i++) {
                int rc = name_if_free(name, s->path);

                if (rc == 0)
                        return 0;
                if (rc != -EEXIST)
                        return err_set(e, -rc, "cannot make '%s'", s->path);
                rc = inherit(s, name, e);
                if (rc <= 0)
                        return rc;
        }
        return err_msg(e, EBUSY, "'%s' changes all the time", s->path);
}

static int begin(struct status *s, struct err *e)
{
        char name[PATH_MAX];
        int rc = statusfile_path(s->image, s->path, e);

        if (rc < 0)
                return rc;
        rc = make_file(s, name, &s->fd);
        if (rc < 0)
                return err_set(e, -rc, "cannot make a file beside '%s'", s->image);
        s->written_ns = clock_now_ns();
        rc = take_name(s, name, e);
        if (rc < 0)
                unlink(name);
        return rc;
}

static void end(struct status *s)
{
        fd_close(&s->fd);
        free(s->image);
        free(s);
}

int status_begin(const char *image, const char *tag, struct status **ret, struct err *e)
{
        struct status *s = calloc(1, sizeof(*s));
        int rc;

        if (!s)
                return err_set(e, ENOMEM, "status file");
        s->fd = -1;
        s->image = strdup(image);
        s->said = (struct said){ .state = STATUS_READING, .pid = (uint64_t)getpid() };
        if (tag)
                set_text(s->said.tag, sizeof(s->said.tag), tag);
        rc = s->image ? begin(s, e) : err_set(e, ENOMEM, "status file");
        if (rc < 0)
                end(s);
        else
                *ret = s;
        return rc;
}

/* ---- going on, and the end ------------------------------------------------------- */

void status_set(struct status *s, enum status_state state, uint64_t bytes)
{
        bool changed = state != s->said.state;

        s->said.state = state;
        s->said.bytes = bytes;
        if (changed || clock_now_ns() - s->written_ns >= EVERY_NS)
                say(s);
}

void status_done(struct status *s)
{
        if (!s)
                return;
        unlink(s->path);
        end(s);
}

void status_failed(struct status *s, const struct err *why)
{
        if (!s)
                return;
        s->said.state = STATUS_FAILED;
        set_text(s->said.error, sizeof(s->said.error), why->text[0] ? why->text : "unknown");
        say(s);
        end(s);
}
