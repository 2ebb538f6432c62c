/* SPDX-License-Identifier: Apache-2.0 */
/* fc-doors.h - a page server in a thread of this process with doors for Firecracker, one
 * for each plan, over images of the fake store; and one for our own protocol. */
#ifndef TESTS_STRESS_FC_DOORS_H
#define TESTS_STRESS_FC_DOORS_H

#include "tests/stress/fc-client.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define FC_DOORS_MAX 16

struct fc_doors {
        struct test_server server;      /* its options may be changed before the first */
        unsigned n;
        int image_fd[FC_DOORS_MAX];
        char image_path[FC_DOORS_MAX][64];
};

/* The plan's image becomes one that holds its memory, and with_table says where. */
void fc_image_of(struct fc_plan *plan, bool with_table);

/* Gives the plans their sockets and starts the server; it listens when this returns. */
void fc_doors_open(struct fc_doors *d, struct fc_plan *plan, unsigned n, unsigned workers);
void fc_doors_close(struct fc_doors *d);

/* how many descriptors this process has */
unsigned fc_open_files(void);
/* ends the test unless the server closes all but so many, in its own time */
void fc_files_come_back_to(unsigned n);

#endif
