/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - processes that wait, prepared, for a VM to be made.
 *
 * What they prepare is a guess: vCPUs, memory and image of the VM that was made last, unless
 * somebody said. A wrong guess costs the VM what it would have cost without a pool. What was
 * prepared for an image that is changed or deleted is put away, and made anew.
 *
 * They are made one after the other, with low priority, and only while no VM is being made:
 * never in the way of a request.
 *
 * Threads: the loop's.
 */
#ifndef VMM_SERVE_POOL_H
#define VMM_SERVE_POOL_H

#include <event2/event.h>
#include <stdbool.h>

#include "common/err.h"
#include "vmm/prepared.h"
#include "vmm/serve/child.h"

/* each is a VM of KVM's, and a page server */
#define POOL_SIZE_MAX 64

struct pool_options {
        struct event_base *base;
        unsigned size;                  /* 0 = there is no pool */
        struct shape shape;             /* to begin with */
        bool fixed;                     /* it stays that */
        const char *expected;           /* the same of the image, expect_of(); NULL = none */
        bool expected_fixed;
        enum sandbox_mode sandbox;
        const struct confine *confine;
};

struct pool;

int pool_new(const struct pool_options *options, struct pool **ret, struct err *e);
void pool_free(struct pool *p);

/* One that is ready, the caller's (child_hand_over()); NULL = none is. */
struct child *pool_take(struct pool *p);
/* A VM is being made, and is made. The pool rests in between. */
void pool_pause(struct pool *p);
void pool_resume(struct pool *p);
/* A VM that was made out of a snapshot had this shape; expected: expect_of() its request,
 * NULL = no process can be ready for the like. */
void pool_learn(struct pool *p, const struct shape *shape, const char *expected);

struct pool_stats {
        unsigned size, ready;
        struct shape shape;
        uint64_t taken;
        uint64_t missed;                /* none was ready */
};
struct pool_stats pool_stats(const struct pool *p);

#endif
