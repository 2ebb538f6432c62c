/* SPDX-License-Identifier: Apache-2.0 */
/* placement.h - where the server's threads run.
 *
 * On a virtual machine a fault costs two to five times as much when it is served from
 * another CPU: waking one that is halted is an interrupt through the hypervisor. We
 * cannot know where a foreign guest's thread will fault next. So, as long as there
 * are few CPUs, each has a demand worker and all are woken for each fault: the one on
 * the faulting thread's CPU runs as soon as that thread sleeps, the others find
 * nothing. On many CPUs waking them all would cost more than it saves: there workers
 * run where the scheduler likes and feeds are dealt.
 *
 * Threads: place_thread() by the thread itself.
 */
#ifndef PAGESERVER_PLACEMENT_H
#define PAGESERVER_PLACEMENT_H

#include <stdbool.h>

enum placement { PLACEMENT_AUTO, PLACEMENT_PINNED, PLACEMENT_FREE };

/* The CPUs this process may use. */
unsigned placement_cpus(void);
/* whether workers are pinned */
bool placement_pins(enum placement asked, unsigned cpus);

/* A demand worker: pinned to the CPU whose turn it is, or not. */
void place_demand(unsigned index, bool pinned);
/* One that works ahead: behind all that is urgent. */
void place_ahead(void);

#endif
