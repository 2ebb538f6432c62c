/* SPDX-License-Identifier: Apache-2.0 */
/* prepared.h - the parts of a VM that can be made before it is known what it will be: KVM's
 * part of it, address space for its RAM, a private page server; and all of a revert that its
 * image decides, if somebody guesses which it will be.
 *
 * Ownership: what was not given out by prepared_give_*() ends with prepared_free().
 * Threads:   one; making uses another of low priority, so as not to be in the way of VMs
 *            that have something to do.
 */
#ifndef VMM_PREPARED_H
#define VMM_PREPARED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct ps_client;
struct revert;
struct revert_options;
struct vm;

/* What is to be guessed right. Memory that is not known is given to KVM when it is, which
 * makes it wait for some milliseconds (kvm.h). */
struct shape {
        unsigned cpus;                  /* 0 = nothing is guessed, nothing is prepared */
        uint64_t memory_bytes;          /* 0 = not known */
};

struct prepared;

/* -EINVAL: no VM has that shape. */
int shape_check(const struct shape *shape, struct err *e);
int prepared_make(const struct shape *shape, struct prepared **ret, struct err *e);
void prepared_free(struct prepared *p);

/* Of a guess that has the shape of what is prepared: it is begun (revert_ahead()). Without it
 * when that cannot be done. r is taken. */
void prepared_foresee(struct prepared *p, struct revert *r);
/* The revert that was begun, if it is this one, as if revert_open() had returned it; but p
 * keeps it. NULL: there is none, and nothing is left of another. p may be NULL. */
struct revert *prepared_claim(struct prepared *p, const struct revert_options *options);

/* vm->ram is laid out (ram_init()). *ret_given: vm has KVM's part, with memory slots for
 * its RAM, whose address space is reserved, or mapped if a revert was claimed; else nothing
 * was changed. p NULL: false. */
int prepared_give_kvm(struct prepared *p, struct vm *vm, unsigned cpus, bool *ret_given,
                      struct err *e);
/* A private page server that was told nothing yet, and may have died. NULL: there is none;
 * p may be. */
struct ps_client *prepared_give_server(struct prepared *p);

#endif
