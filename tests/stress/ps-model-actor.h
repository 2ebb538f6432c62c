/* SPDX-License-Identifier: Apache-2.0 */
/* ps-model-actor.h - threads that use a guest's memory at random and know what every
 * word of it must be.
 *
 * A page belongs to one actor for good: what is in it is known without a lock, and
 * after each step. Clusters and userfaultfds are shared: that is where the bugs are.
 *
 * Actors return results; only the test's main thread judges.
 */
#ifndef TESTS_STRESS_PS_MODEL_ACTOR_H
#define TESTS_STRESS_PS_MODEL_ACTOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/stress/ps-guest.h"

#define ACTORS_MAX 40
/* They fault in whatever page there is, just when its actor may give it back. */
#define BYSTANDERS 2

/* What a page holds, beside one word that may have been written since.
 * IMAGE   what the image has there, whether it came already or not
 *         -> FILLED   its actor writes all of it
 *         -> GIVEN    its actor gives it back to a guest that reports it
 * FILLED  words made of the page's value
 *         -> GIVEN, or -> IMAGE where nobody hears of what is given back
 * GIVEN   zeros, for ever or until it is FILLED
 * LOST    it is not mapped any more; for ever                                      */
enum page_is { PAGE_IMAGE, PAGE_FILLED, PAGE_GIVEN, PAGE_LOST };

struct model_page {
        enum page_is is;
        uint16_t actor;
        bool patched;           /* the word at patch_of() was written since: */
        uint64_t patch;
        uint64_t value;         /* FILLED */
};

struct actor;

struct model {
        struct guest *guest;
        uint64_t seed;
        uint64_t pages;
        unsigned actors;
        struct actor *actor;    /* the caller's array of them, bystanders behind */
        bool unmaps;            /* actors also unmap */
        struct model_page *page;
        _Atomic uint64_t lost;  /* pages */
        _Atomic bool stop;      /* no more steps; bystanders end */
        _Atomic bool sweep;     /* actors look at all their pages, then end */
};

struct wrong {
        uint64_t page;
        unsigned word;
        uint64_t want, got;
        uint64_t later;         /* the same word a moment after */
        enum page_is is;
        const char *after;      /* what the actor had done to it */
};

struct actor {
        struct model *model;
        unsigned index;
        pthread_t thread;
        uint64_t random;
        _Atomic(const char *) doing;
        _Atomic uint64_t at_page;
        _Atomic uint64_t steps;
        bool is_wrong;          /* results, once joined */
        struct wrong wrong;
};

/* the guest is mapped */
void model_init(struct model *m, struct guest *g, uint64_t seed, struct actor *actor,
                unsigned actors, bool unmaps);
/* unmaps what is left of the guest's memory */
void model_fini(struct model *m);

/* From index model.actors on they are bystanders. */
void actor_start(struct actor *a, struct model *m, unsigned index);

const char *page_is_name(enum page_is is);
uint64_t model_random(uint64_t *state);

#endif
