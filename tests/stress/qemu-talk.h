/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-talk.h - qemu_revert() in a thread, with two pipes or a socket to its QEMU. */
#ifndef TESTS_STRESS_QEMU_TALK_H
#define TESTS_STRESS_QEMU_TALK_H

#include <pthread.h>
#include <stdbool.h>

#include "pageserver/adapters/qemu/revert.h"

struct talk {
        struct revert_options options;
        struct transport transport;
        int in, out;                    /* QEMU's ends; the caller's */
        pthread_t thread;
        int rc;
        struct err err;
};

void talk_start(struct talk *t, const struct revert_options *o, bool socket);
/* Waits for the end; returns what qemu_revert() did. */
int talk_end(struct talk *t);

#endif
