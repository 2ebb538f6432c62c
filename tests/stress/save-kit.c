/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/save-kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "pageserver/adapters/qemu/state.h"
#include "tests/unit/store-ram.h"

void must(bool ok, const char *what, const char *file, int line)
{
        if (ok)
                return;
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
        exit(1);
}

/* ---- streams ------------------------------------------------------------- */

static void fill_page(uint8_t *page, uint64_t stamp)
{
        for (unsigned i = 0; i < PAGE / 8; i++) {
                uint64_t word = stamp * (i / 8 + 1);

                memcpy(page + i * 8, &word, 8);
        }
}

static void put_page(struct qemubuf *b, struct model *m, unsigned page, uint64_t stamp)
{
        bool rom = page >= RAM_PAGES;
        uint8_t bytes[PAGE];

        kit_u64(b, (uint64_t)(rom ? page - RAM_PAGES : page) * PAGE | (stamp ? 8 : 2));
        kit_text(b, rom ? QEMU_KIT_ROM : QEMU_KIT_RAM);
        if (stamp) {
                fill_page(bytes, stamp);
                qemubuf_put(b, bytes, PAGE);
        } else {
                kit_u8(b, 0);
        }
        m->stamp[page] = stamp;
}

void put_end(struct qemubuf *b)
{
        kit_u64(b, 0x10);
        kit_u8(b, 0x7e);
        kit_u32(b, 2);
}

static void put_head(const struct qemu_kit *k, struct qemubuf *b)
{
        qemu_kit_head(k, b);
        if (k->return_path)
                qemubuf_put(b, "\10\0\1\0\0", 5);
        kit_u8(b, 1);
        kit_u32(b, 2);
        kit_text(b, "ram");
        kit_u32(b, 0);
        kit_u32(b, 4);
        kit_u64(b, (uint64_t)PAGES * PAGE | 4);
        kit_text(b, QEMU_KIT_RAM);
        kit_u64(b, (uint64_t)RAM_PAGES * PAGE);
        kit_text(b, QEMU_KIT_ROM);
        kit_u64(b, (uint64_t)ROM_PAGES * PAGE);
        put_end(b);
}

void make_stream(const struct qemu_kit *k, uint64_t seed, unsigned again,
                        struct qemubuf *b, struct model *m)
{
        uint64_t random = seed;

        put_head(k, b);
        kit_u8(b, 2);
        kit_u32(b, 2);
        for (unsigned i = 0; i < PAGES + again; i++) {
                unsigned page = i < PAGES ? i : (unsigned)(store_random(&random) % PAGES);
                uint64_t stamp = store_random(&random);

                put_page(b, m, page, stamp % 3 ? stamp | 1 : 0);
        }
        put_end(b);
        qemu_kit_tail(k, b);
        TEST(!b->failed);
}

/* ---- QEMU's side --------------------------------------------------------- */

void *feeder(void *ctx)
{
        struct feed *f = ctx;

        while (f->done < f->bytes) {
                size_t n = MIN(f->step, f->bytes - f->done);
                ssize_t got = write(f->fd, f->at + f->done, n);

                if (got < 0)
                        break;
                f->done += (size_t)got;
        }
        if (f->close)
                fd_close(&f->fd);
        return NULL;
}

static _Noreturn void tool(const struct save_options *o, int in, int out, int said)
{
        struct transport t = { .in = in, .out = out };
        struct err e = { 0 };
        int rc = qemu_save(o, &t, &e);

        io_write_full(said, e.text, strlen(e.text));
        _exit(rc < 0);
}

void start(struct run *r)
{
        int in[2], out[2], said[2];

        TEST(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
             pipe2(said, O_CLOEXEC) == 0);
        r->pid = fork();
        TEST(r->pid >= 0);
        if (r->pid == 0) {
                close(in[1]);
                close(out[0]);
                tool(&r->o, in[0], out[1], said[1]);
        }
        close(in[0]);
        close(out[1]);
        close(said[1]);
        r->in = in[1];
        r->out = out[0];
        r->said = said[0];
}

void feed(struct run *r, const struct qemubuf *b, size_t bytes, size_t step, bool end)
{
        r->feed = (struct feed){ .fd = r->in, .at = b->data, .bytes = bytes, .step = step,
                                 .close = end };
        TEST(pthread_create(&r->feed.thread, NULL, feeder, &r->feed) == 0);
}

int ended(struct run *r, char text[ERR_TEXT_MAX])
{
        AUTO_FREE char *said = NULL;
        size_t n;
        int status;

        TEST(waitpid(r->pid, &status, 0) == r->pid);
        TEST(io_read_all(r->said, ERR_TEXT_MAX - 1, &said, &n) == 0);
        snprintf(text, ERR_TEXT_MAX, "%s", said);
        close(r->said);
        close(r->out);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

enum status_answer wait_for(const char *image)
{
        const struct status_query q = { .image = image, .wait = true, .timeout_s = 60 };
        struct err e = { 0 };
        pid_t pid = fork();
        int status;

        TEST(pid >= 0);
        if (pid == 0) {
                TEST(freopen("/dev/null", "w", stdout));
                _exit((int)status_ask(&q, &e));
        }
        TEST(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        return (enum status_answer)WEXITSTATUS(status);
}

/* ---- judging ------------------------------------------------------------- */

void compare(const char *path, const char *tag, const struct model *m)
{
        const struct qs_open_options o = { .tag = tag };
        struct qs_image *image;
        struct qs_reader *reader;
        struct qemu_state s;
        uint8_t want[PAGE], got[PAGE];

        TEST(qs_image_open_path(path, &o, &image, NULL) == 0);
        TEST(qs_reader_new(image, &reader, NULL) == 0);
        TEST(qemu_state_load(image, reader, &s, NULL) == 0);
        TEST(s.blocks.n == 2 && !strcmp(s.machine, "pc-i440fx-7.2"));
        for (unsigned i = 0; i < PAGES; i++) {
                bool rom = i >= RAM_PAGES, zero = false;
                uint64_t gpa, run;

                TEST(qemu_blocks_gpa(&s.blocks, rom, (uint64_t)(rom ? i - RAM_PAGES : i) * PAGE,
                                     &gpa, &run));
                TEST(qs_span_read(reader, gpa, PAGE, got, &zero, NULL) == 0);
                if (zero)
                        memset(got, 0, PAGE);
                fill_page(want, m->stamp[i]);
                TEST(!memcmp(got, want, PAGE));
        }
        qemu_state_fini(&s);
        qs_reader_free(reader);
        qs_image_close(image);
}

void set(struct scene *s)
{
        memset(s, 0, sizeof(*s));
        kit_folder(s->folder);
        kit_path(s->folder, "a", s->path);
        kit_path(s->folder, "a.status", s->status);
        s->m = calloc(1, sizeof(*s->m));
        TEST(s->m);
        s->r.o = (struct save_options){
                .image = s->path, .memory_bytes = 16 << 20,
                .writer = { .cluster_bits = 14, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1 },
        };
}

bool is_there(const char *path)
{
        return access(path, F_OK) == 0;
}

void strike(struct scene *s)
{
        unlink(s->path);
        unlink(s->status);
        TEST(kit_gone(s->folder));
        qemubuf_fini(&s->b);
        free(s->m);
}
