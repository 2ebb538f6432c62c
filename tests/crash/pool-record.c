/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/pool-record.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define SECTOR 512
#define STEPS_MAX 4096                  /* of one change, with room to spare */

struct file {
        uint8_t *bytes;
        size_t n;
};

static struct {
        pthread_mutex_t lock;
        bool on;
        dev_t dev;
        ino_t ino;
        struct file base;               /* what can be lost no more */
        struct step step[STEPS_MAX];
        size_t n;
        void (*hook)(void *ctx);
        void *hook_ctx;
} record = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* data is taken over */
static void note(int fd, struct step s)
{
        struct stat st;

        pthread_mutex_lock(&record.lock);
        if (record.on && fstat(fd, &st) == 0 && st.st_dev == record.dev &&
            st.st_ino == record.ino) {
                ASSERT(record.n < STEPS_MAX);
                record.step[record.n++] = s;
                s.data = NULL;
        }
        pthread_mutex_unlock(&record.lock);
        free(s.data);
}

static void note_write(int fd, const struct iovec *v, int n, off_t at, ssize_t done)
{
        struct step s = { STEP_WRITE, (uint64_t)at, 0, NULL };
        size_t left = done > 0 ? (size_t)done : 0;

        if (!left)
                return;
        s.data = malloc(left);
        ASSERT(s.data);
        for (int i = 0; i < n && left; i++) {
                size_t part = left < v[i].iov_len ? left : v[i].iov_len;

                memcpy(s.data + s.bytes, v[i].iov_base, part);
                s.bytes += part;
                left -= part;
        }
        note(fd, s);
}

/* ---- in the place of the library's; off_t has 64 bits --------------------- */

#define WRAP(type, name, ...)                                                   \
        type __real_##name(__VA_ARGS__);                                        \
        type __wrap_##name(__VA_ARGS__);                                        \
        type __wrap_##name(__VA_ARGS__)

/* The first sector, and not with what it holds already. */
static bool is_switch(int fd, const void *buf, size_t n, off_t at)
{
        uint8_t now[SECTOR];

        return at == 0 && n == SECTOR && pread(fd, now, sizeof(now), 0) == sizeof(now) &&
               memcmp(now, buf, sizeof(now)) != 0;
}

WRAP(ssize_t, pwrite64, int fd, const void *buf, size_t n, off_t at)
{
        void (*hook)(void *ctx) = is_switch(fd, buf, n, at) ? record.hook : NULL;

        if (hook) {
                record.hook = NULL;
                hook(record.hook_ctx);
        }

        ssize_t done = __real_pwrite64(fd, buf, n, at);

        note_write(fd, &(struct iovec){ (void *)(uintptr_t)buf, n }, 1, at, done);
        return done;
}

WRAP(ssize_t, pwritev64, int fd, const struct iovec *v, int n, off_t at)
{
        ssize_t done = __real_pwritev64(fd, v, n, at);

        note_write(fd, v, n, at, done);
        return done;
}

WRAP(int, ftruncate64, int fd, off_t n)
{
        int rc = __real_ftruncate64(fd, n);

        if (rc == 0)
                note(fd, (struct step){ STEP_CUT, (uint64_t)n, 0, NULL });
        return rc;
}

WRAP(int, fallocate64, int fd, int mode, off_t at, off_t n)
{
        int rc = __real_fallocate64(fd, mode, at, n);

        ASSERT(mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
        if (rc == 0)
                note(fd, (struct step){ STEP_PUNCH, (uint64_t)at, (uint64_t)n, NULL });
        return rc;
}

WRAP(int, fdatasync, int fd)
{
        int rc = __real_fdatasync(fd);

        if (rc == 0)
                note(fd, (struct step){ STEP_SYNC, 0, 0, NULL });
        return rc;
}

/* ---- what is left --------------------------------------------------------- */

static void resize(struct file *f, size_t n)
{
        if (n > f->n) {
                f->bytes = realloc(f->bytes, n);
                ASSERT(f->bytes);
                memset(f->bytes + f->n, 0, n - f->n);
        }
        f->n = n;
}

/* state NULL = all of it */
static void apply_write(struct file *f, const struct step *s, uint64_t *state)
{
        /* most tear at one place, some at many */
        bool many = state && store_random(state) >> 40 & 1;
        bool there = !state || store_random(state) >> 40 & 1;

        for (uint64_t at = 0, n; at < s->bytes; at += n) {
                n = SECTOR - (s->at + at) % SECTOR;
                n = n < s->bytes - at ? n : s->bytes - at;
                if (state && at && (many || (store_random(state) >> 32) % 64 == 0))
                        there = store_random(state) >> 40 & 1;
                if (!there)
                        continue;
                if (s->at + at + n > f->n)
                        resize(f, s->at + at + n);
                memcpy(f->bytes + s->at + at, s->data + at, n);
        }
}

static void apply(struct file *f, const struct step *s, uint64_t *state)
{
        uint64_t end = s->at + s->bytes < f->n ? s->at + s->bytes : f->n;

        if (s->kind == STEP_WRITE)
                apply_write(f, s, state);
        else if (state && store_random(state) >> 40 & 1)
                return;
        else if (s->kind == STEP_CUT)
                resize(f, s->at);
        else if (s->kind == STEP_PUNCH && s->at < end)
                memset(f->bytes + s->at, 0, end - s->at);
}

/* how many of the first steps can be lost no more */
static size_t durable_of(size_t steps)
{
        while (steps > 0 && record.step[steps - 1].kind != STEP_SYNC)
                steps--;
        return steps;
}

void record_start(const char *path)
{
        struct stat st;
        int rc = stat(path, &st);

        ASSERT(rc == 0 && !record.on);
        record.dev = st.st_dev;
        record.ino = st.st_ino;
        record.base.bytes = kit_load(path, &record.base.n);
        record.on = true;
}

void record_settle(void)
{
        size_t n = durable_of(record.n);

        for (size_t i = 0; i < n; i++) {
                apply(&record.base, &record.step[i], NULL);
                free(record.step[i].data);
        }
        record.n -= n;
        memmove(record.step, record.step + n, record.n * sizeof(record.step[0]));
}

void record_before_switch(void (*hook)(void *ctx), void *ctx)
{
        record.hook = hook;
        record.hook_ctx = ctx;
}

size_t record_steps(void)
{
        return record.n;
}

const struct step *record_step(size_t i)
{
        ASSERT(i < record.n);
        return &record.step[i];
}

uint8_t *record_lost(size_t steps, uint64_t *random_state, size_t *ret_bytes)
{
        struct file f = { malloc(record.base.n), record.base.n };
        size_t durable = durable_of(steps);

        ASSERT(f.bytes && steps <= record.n);
        memcpy(f.bytes, record.base.bytes, f.n);
        for (size_t i = 0; i < steps; i++)
                apply(&f, &record.step[i], i < durable ? NULL : random_state);
        *ret_bytes = f.n;
        return f.bytes;
}

void record_end(void)
{
        for (size_t i = 0; i < record.n; i++)
                free(record.step[i].data);
        free(record.base.bytes);
        record.on = false;
}
