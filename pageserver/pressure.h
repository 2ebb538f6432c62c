/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.h - told by the kernel when the host is short of something.
 *
 * A trigger of pressure stall information (PSI): readable when tasks have waited
 * for PRESSURE_STALL_MS out of PRESSURE_WINDOW_MS. Kernels without PSI, containers
 * without /proc/pressure, and unprivileged users before Linux 6.4 have none.
 *
 * Ownership: the descriptor pair is the caller's, from open to close.
 * Threads:   one.
 */
#ifndef PAGESERVER_PRESSURE_H
#define PAGESERVER_PRESSURE_H

#include "common/err.h"

#define PRESSURE_MEMORY "/proc/pressure/memory"

/* A host that makes its tasks wait for memory 5 % of the time has too little of it;
 * the reclaim of an ordinary busy one is well below. The window is the shortest
 * that an unprivileged user gets; told at most once in a window. */
#define PRESSURE_STALL_MS 100
#define PRESSURE_WINDOW_MS 2000

struct pressure {
        int poll_fd;                    /* to poll for reading; -1 = there is none */
        int trigger_fd;
};

int pressure_open(struct pressure *p, const char *path, struct err *e);
/* poll_fd was readable: makes it quiet again */
void pressure_taken(struct pressure *p);
void pressure_close(struct pressure *p);

#endif
