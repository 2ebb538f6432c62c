/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: who asks hears what became of a save: at work, done, failed or killed; whoever
 *       waits is woken by each of these ends and by its time; of two savers one is
 *       refused (INV-ONESAVER); a failure is said on a full disk too (INV-SAID).
 * Method: savers are children that are told by a pipe when to go on, or are killed. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/adapters/qemu/status.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

/* a test that waits longer has failed */
#define TEST_SECONDS 120

/* ---- a folder with an image's name ------------------------------------------------ */

struct box {
        char folder[PATH_MAX / 2];
        char image[PATH_MAX];
        char status[PATH_MAX];
};

static void box_open(struct box *b)
{
        const char *tmp = getenv("TMPDIR");

        snprintf(b->folder, sizeof(b->folder), "%s/qemu-status.XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(b->folder))
                abort();
        snprintf(b->image, sizeof(b->image), "%s/i.qcow2", b->folder);
        snprintf(b->status, sizeof(b->status), "%s/i.qcow2.status", b->folder);
}

/* nothing else was left in the folder */
static void box_close(struct box *b)
{
        unlink(b->image);
        unlink(b->status);
        EXPECT_EQUAL("nothing is left", rmdir(b->folder), 0);
}

static void put(const char *path, const char *text)
{
        AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        ssize_t n = write(fd, text, strlen(text));

        ASSERT(n == (ssize_t)strlen(text));
}

/* ---- savers ------------------------------------------------------------------------ */

enum step { STEP_BEGUN, STEP_WRITING, STEP_FAIL, STEP_DONE, STEP_HALT };

struct saver {
        pid_t pid;
        int order;                      /* a byte: the next step */
        int told;                       /* a byte: it was done */
};

static void saver_run(const char *image, int order, int told)
{
        struct status *s = NULL;
        struct err e;
        uint8_t step;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(TEST_SECONDS);
        if (status_begin(image, NULL, &s, &e) < 0)
                _exit(-e.code);
        step = STEP_BEGUN;
        while (write(told, &step, 1) == 1 && read(order, &step, 1) == 1) {
                if (step == STEP_WRITING)
                        status_set(s, STATUS_WRITING, 12345);
                else if (step == STEP_FAIL)
                        status_failed(s, &(struct err){ -ENOSPC, "the disk\nis full" });
                else if (step == STEP_DONE)
                        status_done(s);
                if (step == STEP_FAIL || step == STEP_DONE)
                        break;
        }
        _exit(0);
}

static void saver_start(struct saver *v, const char *image)
{
        int order[2], told[2];
        uint8_t step;

        if (pipe2(order, O_CLOEXEC) < 0 || pipe2(told, O_CLOEXEC) < 0)
                abort();
        v->pid = fork();
        if (v->pid == 0)
                saver_run(image, order[0], told[1]);
        close(order[0]);
        close(told[1]);
        v->order = order[1];
        v->told = told[0];

        ssize_t n = read(v->told, &step, 1);

        ASSERT(n == 1);
}

static void saver_step(const struct saver *v, uint8_t step)
{
        ssize_t n = write(v->order, &step, 1);

        ASSERT(n == 1);
        if (step == STEP_WRITING) {
                n = read(v->told, &step, 1);
                ASSERT(n == 1);
        }
}

/* how it ended */
static int saver_end(struct saver *v)
{
        int status = 0;

        waitpid(v->pid, &status, 0);
        close(v->order);
        close(v->told);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void saver_kill(struct saver *v)
{
        kill(v->pid, SIGKILL);
        saver_end(v);
}

/* ---- asking ------------------------------------------------------------------------ */

static char said_out[4096];             /* what was printed */

static int ask_query(const struct status_query *q, struct err *e)
{
        FILE *out = tmpfile();
        int before = dup(STDOUT_FILENO);

        fflush(stdout);
        dup2(fileno(out), STDOUT_FILENO);
        *e = (struct err){ 0 };

        int answer = status_ask(q, e);

        fflush(stdout);
        dup2(before, STDOUT_FILENO);
        close(before);
        rewind(out);
        said_out[fread(said_out, 1, sizeof(said_out) - 1, out)] = '\0';
        fclose(out);
        return answer;
}

static int ask(const char *image, struct err *e)
{
        return ask_query(&(struct status_query){ .image = image }, e);
}

static int ask_wait(const char *image, unsigned time_s, struct err *e)
{
        return ask_query(&(struct status_query){
                .image = image, .wait = true, .timeout_s = time_s,
        }, e);
}

#define EXPECT_SAYS(e, words) EXPECT_TRUE((e)->text, strstr((e)->text, words))
#define EXPECT_PRINTS(words) EXPECT_TRUE(said_out, strstr(said_out, words))

/* ---- cases ------------------------------------------------------------------------- */

static void nothing(void)
{
        struct box b;
        struct err e;

        box_open(&b);
        EXPECT_EQUAL("nothing", ask(b.image, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "nobody saves it");
        EXPECT_EQUAL("waiting for nothing", ask_wait(b.image, 0, &e), STATUS_ANSWER_FAILED);
        put(b.image, "");
        EXPECT_EQUAL("an image", ask(b.image, &e), STATUS_ANSWER_DONE);
        EXPECT_PRINTS("is done");
        EXPECT_EQUAL("no such tag in it", ask_query(&(struct status_query){
                .image = b.image, .tag = "monday" }, &e), STATUS_ANSWER_FAILED);
        box_close(&b);
}

static void finished(void)
{
        struct saver v;
        struct box b;
        struct err e;

        box_open(&b);
        saver_start(&v, b.image);
        EXPECT_EQUAL("reading", ask(b.image, &e), STATUS_ANSWER_AT_WORK);
        EXPECT_PRINTS("reading, 0 bytes");
        saver_step(&v, STEP_WRITING);
        EXPECT_EQUAL("writing", ask(b.image, &e), STATUS_ANSWER_AT_WORK);
        EXPECT_PRINTS("writing, 12");
        put(b.image, "");
        EXPECT_EQUAL("an image, but a save too", ask(b.image, &e), STATUS_ANSWER_AT_WORK);
        saver_step(&v, STEP_DONE);
        EXPECT_EQUAL("done", ask_wait(b.image, 0, &e), STATUS_ANSWER_DONE);
        saver_end(&v);
        EXPECT_EQUAL("the file is gone", access(b.status, F_OK), -1);
        box_close(&b);
}

static void failed(void)
{
        struct saver v;
        struct box b;
        struct err e;

        box_open(&b);
        saver_start(&v, b.image);
        saver_step(&v, STEP_FAIL);
        EXPECT_EQUAL("failed", ask_wait(b.image, 0, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "failed: the disk?is full");
        saver_end(&v);
        EXPECT_EQUAL("it is still said", ask(b.image, &e), STATUS_ANSWER_FAILED);
        EXPECT_EQUAL("as JSON", ask_query(&(struct status_query){
                .image = b.image, .json = true }, &e), STATUS_ANSWER_FAILED);
        EXPECT_PRINTS("\"state\": \"failed\"");
        EXPECT_EQUAL("JSON says it all", e.code, 0);
        box_close(&b);
}

static void killed(void)
{
        struct saver v;
        struct box b;
        struct err e;

        box_open(&b);
        saver_start(&v, b.image);
        saver_step(&v, STEP_WRITING);
        saver_kill(&v);
        EXPECT_EQUAL("killed", ask(b.image, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "was killed while it was writing");
        EXPECT_EQUAL("nobody to wait for", ask_wait(b.image, 0, &e), STATUS_ANSWER_FAILED);
        box_close(&b);
}

/* whoever waits is in the kernel when the end comes */
static void woken(void)
{
        static const struct {
                const char *name;
                int step;               /* STEP_HALT: killed */
                int answer;
        } rows[] = {
                { "by success", STEP_DONE, STATUS_ANSWER_DONE },
                { "by failure", STEP_FAIL, STATUS_ANSWER_FAILED },
                { "by death", STEP_HALT, STATUS_ANSWER_FAILED },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct timespec moment = { .tv_nsec = 50 * NS_PER_MS };
                struct saver v;
                struct box b;
                int status = 0;
                struct err e;

                box_open(&b);
                put(b.image, "");
                saver_start(&v, b.image);

                pid_t waiter = fork();

                if (waiter == 0) {
                        alarm(TEST_SECONDS);
                        _exit(ask_wait(b.image, 0, &e));
                }
                nanosleep(&moment, NULL);
                saver_step(&v, STEP_WRITING);   /* another file, of which he cannot know */
                nanosleep(&moment, NULL);
                EXPECT_EQUAL(rows[i].name, waitpid(waiter, &status, WNOHANG), 0);
                if (rows[i].step == STEP_HALT)
                        kill(v.pid, SIGKILL);
                else
                        saver_step(&v, (uint8_t)rows[i].step);
                waitpid(waiter, &status, 0);
                EXPECT_EQUAL(rows[i].name, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                             rows[i].answer);
                saver_end(&v);
                box_close(&b);
        }
}

static void waited_enough(void)
{
        uint64_t start_ns = clock_now_ns();
        struct saver v;
        struct box b;
        struct err e;

        box_open(&b);
        saver_start(&v, b.image);
        EXPECT_EQUAL("still at work", ask_wait(b.image, 1, &e), STATUS_ANSWER_AT_WORK);
        EXPECT_TRUE("a second", clock_now_ns() - start_ns >= NS_PER_SEC);
        saver_kill(&v);
        box_close(&b);
}

static void one_saver(void)
{
        struct status *s;
        struct saver v;
        struct box b;
        struct err e;

        box_open(&b);
        saver_start(&v, b.image);
        EXPECT_EQUAL("the second is refused", status_begin(b.image, NULL, &s, &e), -EBUSY);
        EXPECT_SAYS(&e, "by process");
        EXPECT_EQUAL("the first goes on", ask(b.image, &e), STATUS_ANSWER_AT_WORK);
        saver_kill(&v);

        EXPECT_EQUAL("a dead one's place is free", status_begin(b.image, "monday", &s, &e), 0);
        EXPECT_EQUAL("and taken", ask(b.image, &e), STATUS_ANSWER_AT_WORK);
        status_failed(s, &(struct err){ -EIO, "no reason" });
        EXPECT_EQUAL("of its tag", ask_query(&(struct status_query){
                .image = b.image, .tag = "monday" }, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "no reason");
        EXPECT_EQUAL("not of another", ask_query(&(struct status_query){
                .image = b.image, .tag = "tuesday" }, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "nobody saves it");
        EXPECT_EQUAL("a failed one's too", status_begin(b.image, NULL, &s, &e), 0);
        put(b.image, "");
        status_done(s);
        EXPECT_EQUAL("its failure is forgotten", ask(b.image, &e), STATUS_ANSWER_DONE);
        box_close(&b);
}

/* Children that all begin at once, over and over: never two at a time. Most leave a
 * file behind, and each holds its own long enough for others to meet it. */
static void many_savers(void)
{
        enum { SAVERS = 8, ROUNDS = 2000 };
        pid_t pids[SAVERS];
        unsigned refused = 0;
        struct box b;

        box_open(&b);
        for (int i = 0; i < SAVERS; i++) {
                pids[i] = fork();
                if (pids[i] > 0)
                        continue;
                alarm(TEST_SECONDS);
                for (int n = 0; n < ROUNDS; n++) {
                        struct status *s;
                        int rc = status_begin(b.image, NULL, &s, NULL);

                        if (rc < 0 && rc != -EBUSY)
                                _exit(1);
                        if (rc < 0)
                                continue;

                        int mark = open(b.image, O_CREAT | O_EXCL | O_CLOEXEC, 0600);

                        if (mark < 0)
                                _exit(2);       /* INV-ONESAVER is broken */
                        close(mark);
                        for (int k = 0; k < 3; k++)
                                sched_yield();
                        unlink(b.image);
                        if (n % 8)
                                status_failed(s, &(struct err){ -EIO, "on purpose" });
                        else
                                status_done(s);
                }
                _exit(0);
        }
        for (int i = 0; i < SAVERS; i++) {
                int status = 0;

                waitpid(pids[i], &status, 0);
                refused += status != 0;
                EXPECT_EQUAL("a saver's end", status, 0);
        }
        EXPECT_EQUAL("all were in order", refused, 0);
        box_close(&b);
}

/* INV-SAID: no new file can be written, as on a full disk */
static void full_disk(void)
{
        struct rlimit before;
        struct status *s;
        struct box b;
        struct err e;

        box_open(&b);
        getrlimit(RLIMIT_NOFILE, &before);
        EXPECT_EQUAL("begun", status_begin(b.image, NULL, &s, &e), 0);
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){ .rlim_cur = 0, .rlim_max = before.rlim_max });
        status_set(s, STATUS_WRITING, 1);
        status_failed(s, &(struct err){ -ENOSPC, "the disk is full" });
        setrlimit(RLIMIT_NOFILE, &before);
        EXPECT_EQUAL("failed", ask(b.image, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "the disk is full");
        box_close(&b);
}

/* what stands where the status file should be is left alone */
static void in_the_way(void)
{
        struct status *s;
        struct box b;
        struct err e;

        box_open(&b);
        if (mkdir(b.status, 0700) < 0)
                abort();
        EXPECT_TRUE("a folder", status_begin(b.image, NULL, &s, &e) < 0);
        rmdir(b.status);
        if (symlink("/etc/passwd", b.status) < 0)
                abort();
        EXPECT_TRUE("a link", status_begin(b.image, NULL, &s, &e) < 0);
        EXPECT_EQUAL("is not followed", ask(b.image, &e), STATUS_ANSWER_FAILED);
        unlink(b.status);
        if (mkfifo(b.status, 0600) < 0)
                abort();
        EXPECT_EQUAL("nor is a pipe waited for", ask(b.image, &e), STATUS_ANSWER_FAILED);
        box_close(&b);
}

/* what is in the folder may be anybody's */
static void damaged(void)
{
        struct box b;
        struct err e;

        box_open(&b);
        put(b.status, "{\"version\":1");
        EXPECT_EQUAL("half a file", ask(b.image, &e), STATUS_ANSWER_FAILED);
        EXPECT_SAYS(&e, "is no status file");
        box_close(&b);
}

static const CU_TestInfo cases[] = {
        { "nothing, or an image alone", nothing },
        { "a save that is done", finished },
        { "a save that failed", failed },
        { "a save that was killed", killed },
        { "whoever waits is woken", woken },
        { "but not longer than he wants", waited_enough },
        { "a second saver is refused, a stale file replaced", one_saver },
        { "many savers at once", many_savers },
        { "a failure is said on a full disk", full_disk },
        { "other things in the way", in_the_way },
        { "a damaged file", damaged },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        alarm(TEST_SECONDS);
        return suite_main("qemu-status", cases);
}
