/* SPDX-License-Identifier: Apache-2.0 */
/* ps-guest.h - a monitor without a VM: maps guest memory as client.h demands and
 * touches it from threads that look at every byte.
 *
 * Threads that touch return results; only the test's main thread judges.
 */
#ifndef TESTS_STRESS_PS_GUEST_H
#define TESTS_STRESS_PS_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pageserver/client.h"
#include "tests/stress/fake-store.h"

#define GUEST_UFFDS 3
#define GUEST_TOUCHERS_MAX 4

/* prints the sentence and ends the test */
#define MUST(rc, e) guest_must((rc) >= 0, (e)->text, __FILE__, __LINE__)
#define TEST(cond) guest_must((cond), #cond, __FILE__, __LINE__)
void guest_must(bool ok, const char *what, const char *file, int line);

struct guest {
        struct fake_image image;
        int image_fd;
        uint32_t page_bytes;            /* of its memory; 0 = 4 KiB */
        bool removes;                   /* reports what it gives back: UFFD_EVENT_REMOVE */
        struct ps_client *client;
        struct ps_welcome welcome;
        char *ram;                      /* at gpa 0 */
        int uffd[GUEST_UFFDS];
        struct ps_region region[8];
        size_t regions;
};

struct toucher {
        struct guest *guest;
        uint64_t seed;
        unsigned pages;                 /* to touch, at random; 0 = every page once */
        pthread_t thread;
        _Atomic unsigned touched;
        uint64_t wrong;                 /* result: pages with wrong bytes */
};

/* exits with 77 and the reason where there is no full userfaultfd */
void guest_need_uffd(void);

/* hello and mapping, but no attach yet. The client is connected already. */
void guest_map(struct guest *g, enum ps_lane lane, uint64_t prefetch, unsigned hold_percent);
void guest_attach(struct guest *g, bool reattach);
void guest_free(struct guest *g);

/* Lets the dead or leaving server's client go, keeps memory and descriptors. */
void guest_lose_server(struct guest *g);
/* hello to a new server with the descriptors of the old one, attach again */
void guest_reattach(struct guest *g, enum ps_lane lane, uint64_t prefetch);

bool guest_has(const struct guest *g, uint64_t gpa);
void toucher_start(struct toucher *t);
/* false: still waiting for a page after ms */
bool toucher_join(struct toucher *t, unsigned ms);

/* reads events until one of the type comes; others are dropped */
void guest_wait(struct guest *g, enum ps_event_type type, struct ps_event *ret);
void guest_stats(struct guest *g, struct ps_stats *ret);

/* starts this program anew with the arguments; only stderr and keep_fd go along,
 * keep_fd as descriptor 4 */
pid_t guest_run_self(const char *role, const char *arg, int keep_fd);

#endif
