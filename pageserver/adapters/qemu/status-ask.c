/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "common/json.h"
#include "common/size.h"
#include "common/utf8.h"
#include "pageserver/adapters/qemu/said.h"
#include "pageserver/adapters/qemu/status.h"
#include "pageserver/adapters/qemu/statusfile.h"
#include "qcowstore/store.h"

/* A signal that comes before the wait that it shall end is followed by others. */
#define ALARM_AGAIN_US 50000

/* what was found; said is of the file, if there is one */
enum found { FOUND_NOTHING, FOUND_IMAGE, FOUND_ALIVE, FOUND_DEAD };

/* ---- waiting for a lock, until a time -------------------------------------------- */

static void on_alarm(int signum)
{
        (void)signum;                   /* that it came ends fcntl() */
}

struct alarm {
        struct sigaction before;
        bool is_set;
};

static void alarm_start(struct alarm *a, unsigned time_s)
{
        const struct sigaction act = { .sa_handler = on_alarm };
        const struct itimerval t = {
                .it_value = { .tv_sec = time_s }, .it_interval = { .tv_usec = ALARM_AGAIN_US },
        };

        a->is_set = time_s > 0;
        if (!a->is_set)
                return;
        sigaction(SIGALRM, &act, &a->before);
        setitimer(ITIMER_REAL, &t, NULL);
}

static void alarm_stop(struct alarm *a)
{
        const struct itimerval none = { .it_value = { .tv_sec = 0 } };

        if (!a->is_set)
                return;
        setitimer(ITIMER_REAL, &none, NULL);
        sigaction(SIGALRM, &a->before, NULL);
}

/* until whoever saves into this file has closed it; -EINTR: the time is over */
static int wait_for_end(int fd)
{
        struct flock l = {
                .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = STATUSFILE_ALIVE, .l_len = 1,
        };

        return fcntl(fd, F_OFD_SETLKW, &l) < 0 ? -errno : 0;
}

/* ---- looking --------------------------------------------------------------------- */

static int read_said(int fd, const char *path, struct said *ret, struct err *e)
{
        AUTO_FREE char *text = NULL;
        size_t bytes;
        int rc = io_read_all(fd, SAID_BYTES_MAX, &text, &bytes);

        if (rc < 0)
                return err_set(e, -rc, "read '%s'", path);
        rc = said_parse(text, bytes, ret, e);
        return rc < 0 ? err_in(e, rc, "'%s' is no status file", path) : 0;
}

/* without a status file: is the image there, and has it the tag? */
static int look_for_image(const struct status_query *q, enum found *ret, struct err *e)
{
        AUTO_FREE struct qs_snapshot_info *list = NULL;
        AUTO_FD fd = open(q->image, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        size_t n = 0;
        int rc = 0;

        *ret = FOUND_NOTHING;
        if (fd < 0)
                return errno == ENOENT ? 0 : err_set(e, errno, "open '%s'", q->image);
        if (q->tag)
                rc = qs_snapshot_list(fd, q->image, &list, &n, e);
        if (rc == 0 && !q->tag)
                *ret = FOUND_IMAGE;
        for (size_t i = 0; i < n; i++) {
                if (!strcmp(list[i].tag, q->tag))
                        *ret = FOUND_IMAGE;
        }
        return rc;
}

/* The file of a saver that lives may be between two contents: then it is only known
 * that he lives. What was read of a dead one holds if the name is still its. */
static int look(const struct status_query *q, const char *path, int *ret_fd, enum found *ret,
                struct said *said, struct err *e)
{
        for (;;) {
                AUTO_FD fd = -1;
                int rc = statusfile_open(path, O_RDONLY, &fd, e);

                *said = (struct said){ .state = STATUS_READING };
                if (rc == -ENOENT)
                        return look_for_image(q, ret, e);
                if (rc < 0)
                        return rc;

                bool alive = statusfile_is_alive(fd);

                rc = read_said(fd, path, said, e);
                if (!alive && !statusfile_is_named(fd, path))
                        continue;
                /* of another snapshot in the same file */
                if (rc == 0 && q->tag && said->tag[0] && strcmp(q->tag, said->tag) != 0)
                        return look_for_image(q, ret, e);
                *ret = alive ? FOUND_ALIVE : FOUND_DEAD;
                *ret_fd = fd_take(&fd);
                return alive ? 0 : rc;
        }
}

static int look_until_end(const struct status_query *q, const char *path, enum found *ret,
                          struct said *said, struct err *e)
{
        struct alarm alarm;
        int rc;

        alarm_start(&alarm, q->timeout_s);
        for (;;) {
                AUTO_FD fd = -1;

                rc = look(q, path, &fd, ret, said, e);
                if (rc < 0 || *ret != FOUND_ALIVE)
                        break;
                rc = wait_for_end(fd);
                if (rc == -EINTR && q->timeout_s) {
                        rc = 0;                 /* said as it is: at work */
                        break;
                }
                if (rc < 0 && rc != -EINTR) {
                        err_set(e, -rc, "cannot wait for the save of '%s'", q->image);
                        break;
                }
        }
        alarm_stop(&alarm);
        return rc;
}

/* ---- answering ------------------------------------------------------------------- */

static const char *state_name(enum found found, const struct said *s)
{
        switch (found) {
        case FOUND_NOTHING:
                return "none";
        case FOUND_IMAGE:
                return "done";
        case FOUND_ALIVE:
                /* it has failed but still holds the file */
                return said_name(s->state == STATUS_FAILED ? STATUS_WRITING : s->state);
        default:
                return s->state == STATUS_FAILED ? "failed" : "killed";
        }
}

static enum status_answer judge(const struct status_query *q, enum found found,
                                const struct said *s, struct err *e)
{
        switch (found) {
        case FOUND_IMAGE:
                return STATUS_ANSWER_DONE;
        case FOUND_ALIVE:
                return STATUS_ANSWER_AT_WORK;
        case FOUND_NOTHING:
                err_msg(e, ENOENT, "'%s': there is no such %s, and nobody saves it", q->image,
                        q->tag ? "snapshot" : "image");
                break;
        default:
                if (s->state == STATUS_FAILED)
                        err_msg(e, EIO, "the save of '%s' failed: %s", q->image, s->error);
                else
                        err_msg(e, EIO, "the save of '%s' was killed while it was %s: process "
                                "%llu is gone", q->image, said_name(s->state),
                                (unsigned long long)s->pid);
        }
        return STATUS_ANSWER_FAILED;
}

static void print_json(const struct status_query *q, enum found found, const struct said *s,
                       const struct err *why)
{
        AUTO_JSON *o = json_object_new_object();
        char mended[PATH_MAX];

        json_put_u64(o, "version", SAID_VERSION);
        json_put_str(o, "image", utf8_mend(q->image, mended, sizeof(mended)));
        json_put_str(o, "state", state_name(found, s));
        if (found >= FOUND_ALIVE) {
                json_put_u64(o, "pid", s->pid);
                json_put_u64(o, "bytes", s->bytes);
        }
        if (found >= FOUND_ALIVE && s->tag[0])
                json_put_str(o, "tag", s->tag);
        if (why->code)
                json_put_str(o, "error", utf8_mend(why->text, mended, sizeof(mended)));
        puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
                                            JSON_C_TO_STRING_SPACED |
                                            JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void print_text(const struct status_query *q, enum found found, const struct said *s)
{
        char size[SIZE_TEXT_MAX];

        if (found == FOUND_IMAGE)
                printf("'%s' is done\n", q->image);
        else if (found == FOUND_ALIVE)
                printf("'%s' is being saved: %s, %s so far, by process %llu\n", q->image,
                       state_name(found, s), size_text(s->bytes, size),
                       (unsigned long long)s->pid);
}

enum status_answer status_ask(const struct status_query *q, struct err *e)
{
        enum found found = FOUND_NOTHING;
        enum status_answer answer;
        char path[PATH_MAX];
        struct said said;
        AUTO_FD fd = -1;
        struct err why = { 0 };
        int rc = statusfile_path(q->image, path, e);

        if (rc == 0)
                rc = q->wait ? look_until_end(q, path, &found, &said, e) :
                               look(q, path, &fd, &found, &said, e);
        if (rc < 0)
                return STATUS_ANSWER_FAILED;
        answer = judge(q, found, &said, &why);
        if (q->json)
                print_json(q, found, &said, &why);
        else
                print_text(q, found, &said);
        *e = q->json ? (struct err){ 0 } : why;
        return answer;
}
