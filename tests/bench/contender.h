/* SPDX-License-Identifier: Apache-2.0 */
/* contender.h - somebody who fills an area of memory when it is touched, to be
 * timed against others who do the same.
 *
 *   contender-bare.c   a process with nothing but a userfaultfd loop: the floor,
 *                      and the usual example of a handler
 *   contender-lane.c   our page server, private or daemon, either lane
 *   contender-file.c   a plain private mapping of the file: the kernel alone
 *
 * Each opens an area of which nothing has been touched, is touched by the caller,
 * and closes it again, many times over: so the memory of one round is that of
 * the round before (the first touch of memory that the host has not given yet
 * would be timed otherwise), and contenders can take turns.
 *
 * Threads: one.
 */
#ifndef TESTS_BENCH_CONTENDER_H
#define TESTS_BENCH_CONTENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/* FREE      nobody is placed by us: the server may place itself
 * PINNED    only the thread that faults is, on the first CPU
 * TOGETHER  and all threads that serve, on the same
 * APART     and they, on the last CPU                              */
enum placement { PLACE_FREE, PLACE_PINNED, PLACE_TOGETHER, PLACE_APART, PLACEMENTS };

extern const char *const placement_name[PLACEMENTS];

struct contender;

struct contender_ops {
        int (*open)(struct contender *c, struct err *e);
        void (*close)(struct contender *c);
};

struct contender {
        const struct contender_ops *ops;
        const char *name;
        size_t bytes;                   /* of the area; set by whoever makes it */
        /* between open and close */
        char *ram;
        pid_t server;                   /* the process that serves; 0 = the kernel */
};

/* Opens it, its server as free as it likes to be, then puts the calling thread and
 * the server where the placement says. */
int contender_open(struct contender *c, enum placement p, struct err *e);
void contender_close(struct contender *c);
/* whether a second CPU is there to be apart on */
bool contender_can_part(void);

/* Served by a loop of read, one UFFDIO_COPY of `step` bytes (a power of two), and
 * nothing else. from: a file's mapping as large as the area, or NULL for one hot
 * buffer. poll: asks poll() before each read, as the usual example does. */
struct bare {
        struct contender c;
        size_t step;
        const char *from;
        bool poll;
        int uffd;
};

extern const struct contender_ops contender_bare;

/* Served by the program `pageserver`: a private one, started anew each time, or the
 * daemon at `socket`. */
struct lane {
        struct contender c;
        const char *program;
        const char *image;
        const char *socket;             /* of a daemon, or NULL */
        bool copy;                      /* the copy lane, else the shared one */
        uint64_t prefetch;              /* bytes per second */
        unsigned hold_percent;          /* loaded before it counts as open */
        bool record;                    /* first touches are noted */
        struct ps_client *client;
        int image_fd;
        int map_fd;
        int uffd[2];
};

extern const struct contender_ops contender_lane;
/* Blocks until nothing is missing any more. */
int lane_wait_resident(struct lane *l, struct err *e);
/* A daemon of the program that listens at the socket; kill and bury it. */
int lane_daemon(const char *program, const char *socket, pid_t *ret_pid, struct err *e);

struct file {
        struct contender c;
        const char *path;
        bool cold;                      /* dropped from the page cache first */
        int fd;
};

extern const struct contender_ops contender_file;

#endif
