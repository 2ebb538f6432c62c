/* SPDX-License-Identifier: Apache-2.0 */
/* gate.h - a new VM that stands still until the command that made it says how to go on, and
 * ends when that command ends without a word. So of several VMs that belong together all
 * run, or none.
 *
 * The pipe is shared by all of them: the command writes one word for each, in one write.
 * Threads: event loop only.
 */
#ifndef VMM_GATE_H
#define VMM_GATE_H

#include "common/err.h"

struct gate;
struct vm;

/* A byte of the pipe. */
enum gate_word { GATE_RUN = 'r', GATE_STAY_PAUSED = 'p' };

/* fd: the pipe's end for reading, non-blocking, and nobody of this process has the other.
 * It is taken, also when this fails. vm->gate is set until the word has come. */
int gate_new(struct vm *vm, int fd, struct err *e);
void gate_free(struct gate *g);

#endif
