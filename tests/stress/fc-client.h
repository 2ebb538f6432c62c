/* SPDX-License-Identifier: Apache-2.0 */
/* fc-client.h - Firecracker as a page-fault handler meets it, made from its
 * specification: a process with anonymous guest memory and a userfaultfd
 * (EVENT_REMOVE only, MISSING over all of it), that sends one message and then touches
 * its memory from several threads; its balloon gives pages back (MADV_DONTNEED).
 *
 * Each page is judged by every thread that reads it: bytes of the image before it was
 * given back, zeros or what the guest wrote there itself afterwards.
 */
#ifndef TESTS_STRESS_FC_CLIENT_H
#define TESTS_STRESS_FC_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/wire/fcregions.h"
#include "tests/stress/fake-store.h"

enum fc_version {
        FC_V1_1,                        /* no page size; closes its socket at once */
        FC_V1_7,                        /* page_size_kib; the same                 */
        FC_V1_12,                       /* both; keeps the socket until it ends    */
};

/* how the message and the userfaultfd are sent */
enum fc_sending {
        FC_AT_ONCE,                     /* as Firecracker does                    */
        FC_BYTES_FD_FIRST,              /* byte by byte, the descriptor with the  */
        FC_BYTES_FD_MIDDLE,             /* first, one in the middle, or the last  */
        FC_BYTES_FD_LAST,
        FC_FD_BEHIND,                   /* the message, then it with a newline    */
        FC_AND_MORE,                    /* at once, and then what nobody expects  */
};

#define FC_PAGE 4096u
#define FC_THREADS_MAX 4

/* What a client does; goes to its process as it is. */
struct fc_plan {
        char socket_path[108];
        enum fc_version version;
        enum fc_sending sending;
        /* guest memory; page_bytes is that of the host */
        struct fc_regions memory;
        struct fake_image image;        /* whose bytes it expects; seed 0 = raw_path's */
        char raw_path[256];             /* RAM at guest-physical offsets */
        unsigned threads;               /* that read every page, */
        unsigned one_of;                /* or one of so many, scattered; 0 = every */
        bool balloon;
        bool stays;                     /* when all was read it waits to be killed */
        bool expects_sigbus;            /* at least once */
        bool lies;                      /* its last region is too long: no image has it */
};

/* One region per n bytes, from guest-physical 0 on, each but the first behind a gap as
 * large as a page. */
void fc_plan_regions(struct fc_plan *plan, const uint64_t *bytes, unsigned n);

/* A process of its own, this program started anew. It ends with 0 when every byte was
 * right and, with expects_sigbus, somebody was told so. */
pid_t fc_client_start(const struct fc_plan *plan);
/* the same; it has got its first page when this returns */
pid_t fc_client_start_served(const struct fc_plan *plan);
/* ends the test unless it ends with status 0 */
void fc_client_good(pid_t pid);
/* ends the test unless it is ended by SIGKILL, which somebody sends */
void fc_client_killed(pid_t pid);
/* that somebody */
void fc_client_kill(pid_t pid);

/* To be called first in main(): if this process was started as a client it does not
 * return. */
void fc_client_role(int argc, char **argv);
/* The same for a plan; the exit status. told_fd: gets a byte behind the plan when the
 * first page has been read; -1 = nobody wants to know. */
int fc_client_run(const struct fc_plan *plan, int told_fd);

/* The message of that version. Returns its length. */
size_t fc_message(enum fc_version version, const struct fc_region *r, size_t n, char *buf,
                  size_t room);
/* a connected stream socket; the second: -1 when nobody listens */
int fc_dial(const char *path);
int fc_try_dial(const char *path);

#endif
