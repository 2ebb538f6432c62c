/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/save.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "pageserver/adapters/qemu/imager.h"
#include "pageserver/adapters/qemu/saver.h"
#include "pageserver/adapters/qemu/status.h"

/* Theory of operation
 *
 * QEMU waits for the program that it started, with its main loop, and does not look how it
 * ended. So we fork at once. The child, in a session of its own, does all of the save.
 * The parent ends when QEMU's stream was read to its end, while the child still
 * compresses, writes and makes durable; with --sync, or when QEMU waits for an answer
 * anyway, when the image is there. How it ended then stands in the status file, in
 * syslog and on standard error.
 *
 *     an error, at any time      the stream is taken to its end (INV-DRAIN of saver.c)
 *     the child is killed        the parent has the input too, and drains it
 *     the parent is killed       the child goes on
 *
 * So QEMU says "completed" of a save that has failed, unless it opened a return path. That
 * cannot be helped: a live snapshot is not told from other saves by its beginning.
 */

#define PROGRAM "qemu-snapshot"

/* from the child to the parent, in a pipe; the end of the pipe: it was killed */
struct note {
        enum note_kind {
                NOTE_RETURN_PATH,       /* QEMU's stream may be broken */
                NOTE_READ,              /* the stream was read to its end */
                NOTE_DONE,              /* the image is there */
                NOTE_FAILED,            /* why says it */
        } kind;
        struct err why;
};

/* ---- the child ----------------------------------------------------------- */

struct child {
        const struct save_options *options;
        int notes;
        bool alone;                     /* the parent has ended */
};

static void tell(struct child *c, enum note_kind kind, const struct err *why)
{
        struct note note = { .kind = kind };

        if (why)
                note.why = *why;
        io_write_full(c->notes, &note, sizeof(note));
}

static void on_return_path(void *ctx)
{
        tell(ctx, NOTE_RETURN_PATH, NULL);
}

static void on_all_read(void *ctx)
{
        struct child *c = ctx;

        tell(c, NOTE_READ, NULL);
        c->alone = !c->options->sync;
        /* QEMU has all but forgotten its guest: whoever ends it, and all that it started, must
         * not end what is left of it */
        signal(SIGTERM, SIG_IGN);
        signal(SIGINT, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
}

static void say_failed(void *ctx, const struct err *why)
{
        struct child *c = ctx;

        openlog(PROGRAM, LOG_PID, LOG_DAEMON);
        syslog(LOG_ERR, "%s", why->text);
        closelog();
        if (c->alone)
                err_print(PROGRAM, why);
        else
                tell(c, NOTE_FAILED, why);
}

static int by_number(const void *a, const void *b)
{
        return *(const int *)a - *(const int *)b;
}

/* What QEMU, or who started it, had open: locks of files among it. */
static void close_others(const struct transport *t, int notes)
{
        int keep[] = { STDERR_FILENO, t->in, t->out, notes };

        qsort(keep, ARRAY_SIZE(keep), sizeof(keep[0]), by_number);
        for (size_t i = 0; i < ARRAY_SIZE(keep); i++) {
                int first = MAX(keep[i], STDERR_FILENO) + 1;
                int next = i + 1 < ARRAY_SIZE(keep) ? keep[i + 1] : INT_MAX;

                if (first < next)
                        close_range((unsigned)first, (unsigned)next - 1, 0);
        }
}

/* Whoever reads the parent's standard output must not wait for us. Standard error stays, for
 * what is to be said when the parent has ended. */
static void leave_terminal(const struct transport *t, int notes)
{
        close_others(t, notes);

        AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);

        setsid();
        for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++) {
                if (null >= 0 && fd != t->in && fd != t->out)
                        dup2(null, fd);
        }
}

static int save_as_child(struct child *c, struct transport *t, struct err *e)
{
        const struct saver_hooks hooks = { on_return_path, on_all_read, say_failed, c };
        const struct save_options *o = c->options;
        struct status *status = NULL;
        int rc = status_begin(o->image, o->writer.append ? o->writer.tag : NULL, &status, e);

        if (rc == 0)
                rc = imager_probe(o, e);
        if (rc < 0) {
                status_failed(status, e);
                say_failed(c, e);
                saver_refuse(t);
                return rc;
        }
        rc = saver_run(o, t, status, &hooks, e);
        if (rc < 0)
                status_failed(status, e);
        else
                status_done(status);
        return rc;
}

static _Noreturn void child(const struct save_options *o, struct transport *t, int notes)
{
        struct child c = { .options = o, .notes = notes };
        struct err e = { 0 };

        leave_terminal(t, notes);
        signal(SIGXFSZ, SIG_IGN);       /* a file that may not be larger: an error of write() */
        if (save_as_child(&c, t, &e) == 0)
                tell(&c, NOTE_DONE, NULL);
        _exit(EXIT_SUCCESS);
}

/* ---- the parent ---------------------------------------------------------- */

/* INV-DRAIN: QEMU's stream must not break, though nobody wants it any more. */
static void drain(struct transport *t)
{
        char buf[64 << 10];
        ssize_t n = 1;

        transport_end(t);
        while (n > 0 || (n < 0 && errno == EINTR))
                n = read(t->in, buf, sizeof(buf));
}

static int child_was_killed(const struct save_options *o, struct transport *t,
                            bool return_path, struct err *e)
{
        if (!return_path)
                drain(t);
        return err_msg(e, ECHILD, "the process that saved to '%s' was killed: nothing was saved",
                       o->image);
}

static int parent(const struct save_options *o, struct transport *t, int notes,
                  struct err *e)
{
        bool return_path = false;
        struct note note;

        while (io_read_full(notes, &note, sizeof(note)) == 0) {
                switch (note.kind) {
                case NOTE_RETURN_PATH:
                        return_path = true;
                        break;
                case NOTE_READ:
                        if (!o->sync)
                                return 0;
                        break;
                case NOTE_DONE:
                        return 0;
                case NOTE_FAILED:
                        if (e)
                                *e = note.why;
                        return note.why.code;
                }
        }
        return child_was_killed(o, t, return_path, e);
}

/* ---- both ---------------------------------------------------------------- */

static int save_here(const struct save_options *o, struct transport *t, struct err *e)
{
        int rc = imager_probe(o, e);

        return rc < 0 ? rc : saver_run(o, t, NULL, &saver_no_hooks, e);
}

int qemu_save(const struct save_options *o, struct transport *t, struct err *e)
{
        int notes[2];

        if (o->foreground)
                return save_here(o, t, e);
        if (pipe2(notes, O_CLOEXEC) < 0) {
                int rc = err_set(e, errno, "save to '%s'", o->image);

                qemu_save_refuse(t);
                return rc;
        }

        AUTO_FD from = notes[0];
        AUTO_FD to = notes[1];
        pid_t pid = fork();

        if (pid < 0) {
                int rc = err_set(e, errno, "save to '%s': start a process", o->image);

                saver_refuse(t);
                return rc;
        }
        if (pid == 0) {
                fd_close(&from);
                child(o, t, fd_take(&to));
        }
        fd_close(&to);
        if (t->out != t->in)
                fd_close(&t->out);      /* its end is the child's to say */
        return parent(o, t, from, e);
}

void qemu_save_refuse(struct transport *t)
{
        pid_t pid = fork();

        if (pid == 0)
                leave_terminal(t, -1);
        if (pid <= 0)
                saver_refuse(t);
        if (pid == 0)
                _exit(EXIT_SUCCESS);
}
