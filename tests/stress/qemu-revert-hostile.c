/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever comes on the return path, a revert ends with a sentence, soon after its
 *       QEMU did, and never waits for one that does not read, write or answer.
 * Method: the far ends of both directions are in this program's hands: it reads the stream
 *       up to RUN, says one thing, and looks how qemu_revert() ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "common/rate.h"
#include "common/wire/qemurp.h"
#include "tests/stress/qemu-image.h"
#include "tests/stress/qemu-talk.h"

#define IMAGE "qemu-revert-hostile.qcow2"
#define RAM (16ull << 20)
/* For the whole; each case takes some milliseconds. */
#define PATIENCE_S 300

#define TEST(cond) must((cond), #cond, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "qemu-revert-hostile.c:%d: failed: %s\n", line, what);
        abort();
}

/* ---- QEMU's side ------------------------------------------------------------------- */

/* The stream up to and with RUN, behind which nothing comes before a PONG. */
static void read_to_run(int fd)
{
        static const uint8_t run[] = "\10\0\2\0\4\0\0\0\3\10\0\5\0\0";
        uint8_t last[sizeof(run) - 1] = { 0 };

        while (memcmp(last, run, sizeof(last))) {
                memmove(last, last + 1, sizeof(last) - 1);
                TEST(read(fd, &last[sizeof(last) - 1], 1) == 1);
        }
}

static void *drain(void *ctx)
{
        const int *fd = ctx;
        char buf[65536];

        while (read(*fd, buf, sizeof(buf)) > 0)
                ;
        return NULL;
}

static void say(int fd, const void *data, size_t bytes)
{
        io_write_full(fd, data, bytes);         /* who has gone does not hear it */
}

static void ask(int fd, const char *name, uint64_t offset, uint32_t bytes)
{
        uint8_t buf[QEMURP_BYTES_MAX];

        say(fd, buf, qemurp_request(buf, name, offset, bytes));
}

/* ---- what is said ------------------------------------------------------------------ */

static void say_garbage(int fd)
{
        uint8_t buf[65536];

        memset(buf, 0xff, sizeof(buf));
        say(fd, buf, sizeof(buf));
}

static void say_type(int fd)
{
        say(fd, "\0\143\0\0", 4);
}

static void say_long(int fd)
{
        say(fd, "\0\2\377\377\0\0\0\1", 8);
}

static void ask_nameless(int fd)
{
        ask(fd, NULL, 0, 4096);
}

static void ask_unknown(int fd)
{
        ask(fd, "pc.rom", 0, 4096);
}

static void ask_behind(int fd)
{
        ask(fd, "pc.ram", RAM, 4096);
}

static void ask_far(int fd)
{
        ask(fd, "pc.ram", UINT64_MAX - 4095, 4096);
}

static void ask_across(int fd)
{
        ask(fd, "pc.ram", RAM - 4096, 8192);
}

static void ask_nothing(int fd)
{
        ask(fd, "pc.ram", 0, 0);
}

static void ask_crooked(int fd)
{
        ask(fd, "pc.ram", 512, 4096);
}

static void ask_huge(int fd)
{
        ask(fd, "pc.ram", 0, UINT32_MAX);
}

static void say_bitmap(int fd)
{
        uint8_t buf[QEMURP_BYTES_MAX];

        say(fd, buf, qemurp_bitmap(buf, "pc.ram", 1ull << 62));
}

static void say_bitmap_twice(int fd)
{
        uint8_t map[QEMURP_BYTES_MAX] = { 0 };
        uint8_t buf[QEMURP_BYTES_MAX];

        for (int i = 0; i < 2; i++) {
                say(fd, buf, qemurp_bitmap(buf, "pc.ram", sizeof(map)));
                say(fd, map, sizeof(map));
                say(fd, buf, qemurp_bitmap_end(buf));
        }
}

static void say_failed(int fd)
{
        uint8_t buf[QEMURP_BYTES_MAX];

        say(fd, buf, qemurp_shut(buf, 1));
}

static void say_done(int fd)
{
        uint8_t buf[QEMURP_BYTES_MAX];

        say(fd, buf, qemurp_shut(buf, 0));
}

static void say_nothing(int fd)
{
        (void)fd;
}

/* Legal, and too much: every page many times, one by one and all at once. */
static void ask_all(int fd)
{
        for (unsigned i = 0; i < 20000; i++)
                ask(fd, "pc.ram", (uint64_t)i * 4096 % RAM, 4096);
        for (unsigned i = 0; i < 100; i++)
                ask(fd, "pc.ram", 0, RAM);
}

static const struct {
        const char *name;
        void (*say)(int fd);
        const char *sentence;           /* has this in it */
} words[] = {
        { "garbage", say_garbage, "" },
        { "an unknown type", say_type, "" },
        { "a wrong length", say_long, "" },
        { "no block before", ask_nameless, "" },
        { "a block that is not there", ask_unknown, "" },
        { "behind the block", ask_behind, "" },
        { "far behind it", ask_far, "" },
        { "across its end", ask_across, "" },
        { "no bytes", ask_nothing, "" },
        { "no page", ask_crooked, "" },
        { "4 GiB", ask_huge, "" },
        { "a map of 2^62 bytes", say_bitmap, "" },
        { "a map twice", say_bitmap_twice, "twice" },
        { "failure", say_failed, "could not load" },
        { "an early end", say_done, "before all was there" },
        { "nothing", say_nothing, "QEMU has gone" },
        { "everything", ask_all, "QEMU has gone" },
};

static const struct revert_options options = {
        .image = IMAGE, .postcopy = true, .prefetch_rate = RATE_UNLIMITED,
};

static void hang_up(struct talk *t)
{
        if (t->out != t->in)
                fd_close(&t->out);
        fd_close(&t->in);
}

/* Said when RUN is there, while all else of the stream is read. */
static void case_words(void)
{
        for (size_t i = 0; i < 2 * ARRAY_SIZE(words); i++) {
                bool socket = i % 2;
                struct talk t;
                pthread_t reader;

                printf("  %s\n", words[i / 2].name);
                talk_start(&t, &options, socket);
                read_to_run(t.in);
                TEST(pthread_create(&reader, NULL, drain, &t.in) == 0);
                words[i / 2].say(t.out);
                if (socket)
                        shutdown(t.out, SHUT_WR);
                else
                        close(t.out);
                t.out = t.in;
                TEST(talk_end(&t) < 0);
                pthread_join(reader, NULL);
                hang_up(&t);
                TEST(strstr(t.err.text, words[i / 2].sentence));
                TEST(strstr(t.err.text, "--recover"));
        }
}

/* Before anything was read: QEMU exits, and nothing is said of recovering. */
static void case_early(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                struct talk t;

                talk_start(&t, &options, true);
                words[i].say(t.out);
                shutdown(t.out, SHUT_RDWR);
                TEST(talk_end(&t) < 0);
                hang_up(&t);
                TEST(t.err.text[0]);
        }
}

/* It has all it needs to go on, but does not read; its end must be ours. */
static void case_stuck(void)
{
        for (int kind = 0; kind < 4; kind++) {
                uint8_t buf[QEMURP_BYTES_MAX];
                struct talk t;

                talk_start(&t, &options, kind & 1);
                read_to_run(t.in);
                say(t.out, buf, qemurp_pong(buf, 3));
                ask(t.out, "pc.ram", 0, RAM);
                usleep(50000);
                if (kind & 2) {         /* only says no more */
                        if (kind & 1)
                                shutdown(t.out, SHUT_WR);
                        else
                                fd_close(&t.out);
                        TEST(talk_end(&t) < 0);
                        hang_up(&t);
                } else {
                        hang_up(&t);
                        TEST(talk_end(&t) < 0);
                }
                TEST(strstr(t.err.text, "--recover"));
        }
}

/* Both ways are full: it asks without end and reads nothing. */
static void case_full(void)
{
        struct talk t;

        talk_start(&t, &options, false);
        read_to_run(t.in);
        TEST(fcntl(t.out, F_SETFL, O_NONBLOCK) == 0);
        for (unsigned i = 0; i < 200000; i++) {
                uint8_t buf[QEMURP_BYTES_MAX];
                size_t n = qemurp_request(buf, "pc.ram", (uint64_t)i * 4096 % RAM, 4096);

                if (write(t.out, buf, n) < 0)
                        break;
        }
        hang_up(&t);
        TEST(talk_end(&t) < 0);
}

/* A recovery whose QEMU does not answer as it should. */
static void case_recover(void)
{
        struct revert_options o = options;

        o.recover = true;
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                struct talk t;

                talk_start(&t, &o, true);
                words[i].say(t.out);
                shutdown(t.out, SHUT_WR);
                TEST(talk_end(&t) < 0);
                hang_up(&t);
                TEST(strstr(t.err.text, "--recover"));
        }
}

static const struct {
        const char *name;
        void (*run)(void);
} cases[] = {
        { "words", case_words },
        { "early", case_early },
        { "stuck", case_stuck },
        { "both ways full", case_full },
        { "recovery", case_recover },
};

int main(int argc, char **argv)
{
        struct qemu_image_options image = { .ram_bytes = RAM, .cluster_bits = 14, .seed = 5 };
        struct qemu_image m;

        signal(SIGPIPE, SIG_IGN);
        setvbuf(stdout, NULL, _IOLBF, 0);
        alarm(PATIENCE_S);
        qemu_image_make(&m, IMAGE, &image);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (argc > 1 && strcmp(argv[1], cases[i].name))
                        continue;
                printf("%s\n", cases[i].name);
                cases[i].run();
        }
        qemu_image_fini(&m);
        unlink(IMAGE);
        return 0;
}
