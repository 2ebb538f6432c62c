/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-dest-priv.h - what qemu-dest.c (memory, threads) and qemu-dest-read.c (the stream)
 * share. */
#ifndef TESTS_STRESS_QEMU_DEST_PRIV_H
#define TESTS_STRESS_QEMU_DEST_PRIV_H

#include <pthread.h>

#include "common/lock.h"
#include "tests/stress/qemu-dest.h"

#define DEST_TARGET 4096u
#define DEST_BLOCKS_MAX 8u
#define DEST_READ_BYTES 32768u          /* as QEMU reads */

#define DEST_MUST(cond) dest_must((cond), #cond, __FILE__, __LINE__)

struct dest_block {
        uint64_t bytes;
        uint64_t page_bytes;
        uint64_t pages;
        uint8_t *data;
        uint8_t *present;               /* a byte per page of the host */
        uint8_t *asked;
        uint8_t *ahead;                 /* came before LISTEN */
        uint64_t discarded_bytes;
};

struct dest_word {
        unsigned block;
        uint64_t offset;
};

struct dest {
        const struct qemu_image *image;
        unsigned nblocks;

        struct lock lock;
        struct cond changed;
        struct dest_block block[DEST_BLOCKS_MAX];       /* guarded, but for the sizes */
        struct dest_word *order;
        uint64_t placed, asked, pages;
        bool listening;
        bool loaded;                    /* the PONG of the devices was sent */
        bool running;
        bool over;                      /* the stream has ended, however */

        /* of the present conversation */
        struct dest_plan plan;
        int in, out;
        struct lock say_lock;           /* one message at a time; inside of lock */
        unsigned say_block;             /* of the last request, + 1 */
        uint64_t run_placed;            /* after RUN */
        pthread_t devices_thread;
        bool devices_started;
        pthread_t vcpu[DEST_VCPUS_MAX];
        unsigned vcpus;
        unsigned seed;
        uint8_t *package;
        uint32_t package_bytes;

        /* the reader's */
        uint8_t window[DEST_READ_BYTES];
        size_t have, at;
        bool cut;                       /* end of file, or death as planned */
        unsigned last_block;            /* of the words, + 1 */
        bool part_open;                 /* a huge page has begun */
        struct dest_word part;          /* its next piece */
};

void dest_must(bool ok, const char *what, const char *file, int line);
void dest_say(struct dest *d, const void *data, size_t bytes);
/* One page of the target has come; NULL = zeros. false: the plan says to die now. */
bool dest_page(struct dest *d, unsigned block, uint64_t offset, const uint8_t *data);
void dest_discard(struct dest *d, unsigned block, uint64_t offset, uint64_t bytes);
void dest_listen(struct dest *d);
/* The devices' thread works on d->package. */
void dest_package(struct dest *d);
void dest_bitmap(struct dest *d, unsigned block);
void dest_resume(struct dest *d);
void dest_check_end(struct dest *d);

/* The stream up to its end; true: it ended with EOF. */
bool dest_read_stream(struct dest *d, bool head);

#endif
