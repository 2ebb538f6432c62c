/* SPDX-License-Identifier: Apache-2.0 */
/* starter.h - starts the threads of a VM, each named and in the sandbox of its role before
 * it does anything else (INV-ROLE, sandbox.h).
 *
 * What a thread has entered those that it starts inherit. So a starter has a thread of its
 * own, in SANDBOX_STARTER, which starts them for who has entered. Until then the thread that
 * made the starter starts its own, which is quicker: those lie on the way to a guest's first
 * instruction.
 *
 * A thread that cannot enter ends the process: better no VM than one that is not confined.
 *
 * Threads: starter_start() from any, the others from the one that made it.
 */
#ifndef VMM_STARTER_H
#define VMM_STARTER_H

#include <pthread.h>

#include "common/err.h"
#include "vmm/sandbox.h"

struct starter;

struct starter_thread {
        enum sandbox_role role;
        const char *name;               /* cut off after 15 bytes */
        void *(*run)(void *ctx);
        void *ctx;
};

int starter_new(enum sandbox_mode mode, struct starter **ret, struct err *e);
/* Nobody starts threads any more; those that were started may still run. NULL is allowed. */
void starter_free(struct starter *s);

/* As pthread_create(): 0 or an errno. The thread has the caller's signal mask.
 * NULL: one without a sandbox, as in programs that have no VM (tests). */
int starter_start(struct starter *s, const struct starter_thread *t, pthread_t *ret);

/* sandbox_confine(), sandbox_settle(); what is settled is the starter's too. Before the
 * thread that made it enters a narrower role. */
void starter_confine(struct starter *s, const struct confine *confine);
int starter_settle(struct starter *s, const struct vm *vm, struct err *e);

/* The thread that made it enters; again to narrow what it has. */
int starter_enter(struct starter *s, enum sandbox_role role, struct err *e);

#endif
