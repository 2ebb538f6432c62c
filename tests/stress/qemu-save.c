/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a stream becomes an image with the last content of each page, whoever reads it and
 *       in whatever pieces it comes; anything that is not a whole stream becomes none
 *       (INV-NOHALF), and is read to its end all the same (INV-DRAIN), also when the
 *       process that saves is killed; with a return path QEMU learns what became of it.
 * Method: streams made here, fed through pipes by a thread as QEMU would; qemu_save() in a
 *         process of its own, as under exec:. Each wait ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/stress/save-kit.h"
#include "tests/unit/store-ram.h"

#define SECONDS_MAX 300                 /* then something waits for ever */
#define ANSWER_MS 30000

/* nothing but the status file is left, which says why */
static void judge_failed(struct scene *s, const char *why)
{
        TEST(wait_for(s->path) == STATUS_ANSWER_FAILED);
        TEST(!is_there(s->path) && is_there(s->status));
        if (why) {
                AUTO_FREE uint8_t *text = NULL;
                size_t n;

                text = kit_load(s->status, &n);
                TEST(memmem(text, n, why, strlen(why)));
        }
}

/* ---- cases --------------------------------------------------------------- */

static const struct {
        const char *name;
        unsigned again;
        size_t step;
        bool sync;
        struct qemu_kit k;
} wholes[] = {
        { "at once", 0, 1 << 20, false, { .background = true } },
        { "in odd pieces", 3000, 4099, false, { .no_desc = true } },
        { "with --sync", 20000, 1 << 16, true, { .flush = true } },
};

static void whole_streams(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(wholes); i++) {
                struct scene s;
                char text[ERR_TEXT_MAX];

                set(&s);
                make_stream(&wholes[i].k, i + 1, wholes[i].again, &s.b, s.m);
                s.r.o.sync = wholes[i].sync;
                start(&s.r);
                feed(&s.r, &s.b, s.b.bytes, wholes[i].step, true);
                TEST(ended(&s.r, text) == 0);
                if (wholes[i].sync)
                        TEST(is_there(s.path));
                pthread_join(s.r.feed.thread, NULL);
                TEST(s.r.feed.done == s.b.bytes);
                TEST(wait_for(s.path) == STATUS_ANSWER_DONE);
                TEST(!is_there(s.status));
                compare(s.path, NULL, s.m);
                strike(&s);
        }
}

/* What is wrong lies at half of the stream; the rest must be taken all the same. */
static void wrong_streams_are_drained(void)
{
        struct scene s;
        char text[ERR_TEXT_MAX];

        set(&s);
        make_stream(&(struct qemu_kit){ 0 }, 1, 0, &s.b, s.m);

        uint8_t *half = memmem(s.b.data + s.b.bytes / 2, s.b.bytes / 2, "\006pc.ram", 7);

        TEST(half);
        half[-1] ^= 0x40;               /* XBZRLE */
        start(&s.r);
        feed(&s.r, &s.b, s.b.bytes, 1 << 16, true);
        TEST(ended(&s.r, text) == 1 && strstr(text, "xbzrle"));
        pthread_join(s.r.feed.thread, NULL);
        TEST(s.r.feed.done == s.b.bytes);       /* INV-DRAIN */
        judge_failed(&s, "xbzrle");
        strike(&s);
}

static void cut_streams_are_none(void)
{
        struct scene s;
        char text[ERR_TEXT_MAX];

        set(&s);
        make_stream(&(struct qemu_kit){ .no_desc = true }, 1, 100, &s.b, s.m);
        for (unsigned i = 0; i < 24; i++) {
                /* from the head to the last byte */
                size_t bytes = i < 12 ? 1 + 7 * i : s.b.bytes - 1 - (23 - i) * (23 - i);

                start(&s.r);
                feed(&s.r, &s.b, bytes, 1 << 16, true);
                TEST(ended(&s.r, text) == 1 && strstr(text, "ends "));
                pthread_join(s.r.feed.thread, NULL);
                judge_failed(&s, "ends ");
        }
        strike(&s);
}

/* There is such a file already: QEMU cannot be told, but whoever asks is. */
static void early_errors_are_drained(void)
{
        struct scene s;
        char text[ERR_TEXT_MAX];

        set(&s);
        make_stream(&(struct qemu_kit){ 0 }, 1, 0, &s.b, s.m);
        TEST(close(open(s.path, O_CREAT | O_WRONLY, 0600)) == 0);
        start(&s.r);
        feed(&s.r, &s.b, s.b.bytes, 1 << 16, true);
        TEST(ended(&s.r, text) == 1);
        pthread_join(s.r.feed.thread, NULL);
        TEST(s.r.feed.done == s.b.bytes);       /* INV-DRAIN */
        TEST(strstr(text, "exists") && strstr(text, s.path));
        TEST(wait_for(s.path) == STATUS_ANSWER_FAILED);
        strike(&s);
}

/* SHUT's status; -1: none comes */
static long answer(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };
        uint8_t shut[8];

        if (poll(&p, 1, ANSWER_MS) != 1 || io_read_full(fd, shut, 8) < 0)
                return -1;
        TEST(get_be16(shut) == 1 && get_be16(shut + 2) == 4);
        return get_be32(shut + 4);
}

/* QEMU does not close before it has its answer. */
static void return_path(bool desc, bool wrong, bool early)
{
        struct scene s;
        char text[ERR_TEXT_MAX];

        set(&s);
        make_stream(&(struct qemu_kit){ .return_path = true, .no_desc = !desc }, 5, 50, &s.b,
                    s.m);
        if (wrong && !early)
                memset(s.b.data + s.b.bytes / 2, 0xff, 2 * PAGE);
        if (early)
                s.r.o.writer.backing = "nowhere";
        start(&s.r);
        feed(&s.r, &s.b, s.b.bytes, 1 << 16, false);
        TEST(answer(s.r.out) == wrong);
        TEST(is_there(s.path) == !wrong);
        pthread_join(s.r.feed.thread, NULL);
        close(s.r.in);
        TEST(ended(&s.r, text) == wrong);
        if (wrong)
                judge_failed(&s, NULL);
        else
                compare(s.path, NULL, s.m);
        strike(&s);
}

static void return_paths(void)
{
        return_path(true, false, false);
        return_path(false, false, false);
        return_path(true, true, false);
        return_path(true, true, true);
}

/* the process that saves, by what it says of itself */
static pid_t saver_of(struct scene *s)
{
        AUTO_FREE uint8_t *text = NULL;
        AUTO_JSON *o = NULL;
        uint64_t pid = 0;
        size_t n;

        while (!is_there(s->status))
                usleep(1000);
        text = kit_load(s->status, &n);
        TEST(json_parse((char *)text, n - 1, &o, NULL) == 0);
        TEST(json_take_u64(o, "pid", INT32_MAX, &pid, NULL) == 0);
        return (pid_t)pid;
}

static void killed(bool saver)
{
        struct scene s;
        char text[ERR_TEXT_MAX];
        struct feed rest;

        set(&s);
        make_stream(&(struct qemu_kit){ .background = true }, 9, 0, &s.b, s.m);
        start(&s.r);
        feed(&s.r, &s.b, s.b.bytes / 2, 1 << 16, false);
        pthread_join(s.r.feed.thread, NULL);
        TEST(kill(saver ? saver_of(&s) : s.r.pid, SIGKILL) == 0);
        rest = (struct feed){ .fd = s.r.in, .at = s.b.data + s.b.bytes / 2,
                              .bytes = s.b.bytes - s.b.bytes / 2, .step = 1 << 16, .close = true };
        feeder(&rest);
        TEST(rest.done == rest.bytes);          /* INV-DRAIN */
        TEST(ended(&s.r, text) == (saver ? 1 : -1));
        if (saver) {
                TEST(strstr(text, "killed"));
                judge_failed(&s, NULL);
        } else {
                TEST(wait_for(s.path) == STATUS_ANSWER_DONE);
                compare(s.path, NULL, s.m);
        }
        strike(&s);
}

static void whoever_is_killed(void)
{
        killed(true);
        killed(false);
}

/* The disk is full, in the middle: files may not be larger than that. */
static void full_disks(void)
{
        struct scene s;
        char text[ERR_TEXT_MAX];
        struct rlimit all, few = { 2 << 20, RLIM_INFINITY };

        set(&s);
        make_stream(&(struct qemu_kit){ .background = true }, 2, 5000, &s.b, s.m);
        s.r.o.writer.compress = QS_COMPRESS_NONE;
        TEST(getrlimit(RLIMIT_FSIZE, &all) == 0);
        few.rlim_max = all.rlim_max;
        TEST(setrlimit(RLIMIT_FSIZE, &few) == 0);
        start(&s.r);
        TEST(setrlimit(RLIMIT_FSIZE, &all) == 0);
        feed(&s.r, &s.b, s.b.bytes, 1 << 16, true);
        TEST(ended(&s.r, text) == 1 || !text[0]);
        pthread_join(s.r.feed.thread, NULL);
        TEST(s.r.feed.done == s.b.bytes);       /* INV-DRAIN */
        judge_failed(&s, s.path);
        strike(&s);
}

static void tags_and_deltas(void)
{
        struct scene s;
        struct model *first = calloc(1, sizeof(*first));
        char text[ERR_TEXT_MAX], delta[KIT_PATH_MAX];

        TEST(first);
        set(&s);
        for (unsigned i = 0; i < 3; i++) {
                s.b.bytes = 0;
                make_stream(&(struct qemu_kit){ .background = true }, 20 + i, i * 1000, &s.b, s.m);
                if (i == 0)
                        *first = *s.m;
                s.r.o.sync = true;
                s.r.o.writer.append = true;
                snprintf(s.r.o.writer.tag, sizeof(s.r.o.writer.tag), "t%u", i);
                if (i == 2) {
                        /* of one that has only one tag */
                        s.r.o.writer.append = false;
                        s.r.o.writer.backing = s.path;
                        s.r.o.image = kit_path(s.folder, "d", delta);
                        TEST(qs_snapshot_delete(s.path, "t1", NULL) == 0);
                }
                start(&s.r);
                feed(&s.r, &s.b, s.b.bytes, 1 << 20, true);
                TEST(ended(&s.r, text) == 0);
                pthread_join(s.r.feed.thread, NULL);
                compare(i == 2 ? delta : s.path, s.r.o.writer.tag, s.m);
        }
        compare(s.path, "t0", first);
        unlink(delta);
        free(first);
        strike(&s);
}

/* Bytes that are not QEMU's, at random: an image or none, never anything else. */
static void mutants(void)
{
        struct scene s;
        uint64_t random = 77;
        unsigned saved = 0;

        set(&s);
        qemu_kit_head(&(struct qemu_kit){ 0 }, &s.b);
        qemu_kit_start(&(struct qemu_kit){ 0 }, &s.b);
        kit_u8(&s.b, 2);
        kit_u32(&s.b, 2);
        for (unsigned i = 5; i < 7; i++) {      /* that the kit leaves out */
                kit_u64(&s.b, i * PAGE | 2);
                kit_text(&s.b, QEMU_KIT_RAM);
                kit_u8(&s.b, 0);
        }
        put_end(&s.b);
        qemu_kit_pages(&(struct qemu_kit){ 0 }, &s.b);
        qemu_kit_tail(&(struct qemu_kit){ 0 }, &s.b);
        s.r.o.foreground = true;
        for (unsigned i = 0; i < 400; i++) {
                AUTO_FREE uint8_t *mutant = malloc(s.b.bytes);
                struct err e = { 0 };
                int fds[2];

                TEST(mutant);
                memcpy(mutant, s.b.data, s.b.bytes);
                for (unsigned k = 0; i > 0 && k < 2; k++) {
                        size_t at = store_random(&random) % 300;

                        mutant[k ? s.b.bytes - 1 - at : at] ^= 1 << store_random(&random) % 8;
                }
                TEST(pipe2(fds, O_CLOEXEC) == 0);

                struct transport t = { .in = fds[0], .out = open("/dev/null", O_WRONLY) };

                TEST(io_write_full(fds[1], mutant, s.b.bytes) == 0);
                close(fds[1]);

                int rc = qemu_save(&s.r.o, &t, &e);

                TEST(rc == 0 || (rc == e.code && e.text[0]));
                TEST((rc == 0) == is_there(s.path));
                TEST(i > 0 || rc == 0);
                saved += rc == 0;
                transport_close(&t);
                unlink(s.path);
        }
        printf("mutants: %u of 400 were streams\n", saved);
        strike(&s);
}

int main(void)
{
        alarm(SECONDS_MAX);
        signal(SIGPIPE, SIG_IGN);
        setbuf(stdout, NULL);
        whole_streams();
        wrong_streams_are_drained();
        cut_streams_are_none();
        early_errors_are_drained();
        return_paths();
        whoever_is_killed();
        full_disks();
        tags_and_deltas();
        mutants();
        return 0;
}
