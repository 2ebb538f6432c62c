/* SPDX-License-Identifier: Apache-2.0 */
/* save-kit.h - QEMU's side of a save, for its tests: streams of a machine with two RAM
 * blocks of which each page has a stamp, a thread that feeds them, qemu_save() in a process
 * of its own, and what must be there afterwards. Setup that fails ends the test. */
#ifndef TESTS_STRESS_SAVE_KIT_H
#define TESTS_STRESS_SAVE_KIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/save.h"
#include "pageserver/adapters/qemu/status.h"
#include "tests/unit/qemu-kit.h"
#include "tests/unit/store-kit.h"

#define TEST(cond) must((cond), #cond, __FILE__, __LINE__)
void must(bool ok, const char *what, const char *file, int line);

#define PAGE 4096u
#define RAM_PAGES 6000u                 /* 23 MiB and a part */
#define ROM_PAGES 3u
#define PAGES (RAM_PAGES + ROM_PAGES)

/* what an image of it must hold; 0 = zeros */
struct model {
        uint64_t stamp[PAGES];
};

/* All pages once, in order; then so many of them again. */
void make_stream(const struct qemu_kit *k, uint64_t seed, unsigned again, struct qemubuf *b,
                 struct model *m);
/* The end of a section of RAM. */
void put_end(struct qemubuf *b);
/* Every page of the image is as the model says. */
void compare(const char *path, const char *tag, const struct model *m);

struct feed {
        int fd;
        const uint8_t *at;
        size_t bytes;
        size_t step;                    /* of each write */
        bool close;                     /* the end of the stream is the end of the pipe */
        /* of the thread, until it was joined */
        pthread_t thread;
        size_t done;
};

void *feeder(void *feed);

/* A save in a process of its own, as QEMU starts it. */
struct run {
        struct save_options o;
        pid_t pid;
        int in, out;                    /* QEMU's ends: to the tool, from it */
        int said;                       /* the tool's error */
        struct feed feed;
};

void start(struct run *r);
void feed(struct run *r, const struct qemubuf *b, size_t bytes, size_t step, bool end);
/* how the process that QEMU waits for ended; -1: it was killed */
int ended(struct run *r, char text[ERR_TEXT_MAX]);
/* as --wait does, but for what it prints */
enum status_answer wait_for(const char *image);

struct scene {
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];        /* of the image */
        char status[KIT_PATH_MAX];
        struct qemubuf b;
        struct model *m;
        struct run r;
};

void set(struct scene *s);
/* Nothing is left but image and status. */
void strike(struct scene *s);
bool is_there(const char *path);

#endif
