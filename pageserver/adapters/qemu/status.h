/* SPDX-License-Identifier: Apache-2.0 */
/* status.h - what a save says of itself in a file beside its image, IMAGE.status.
 *
 * QEMU does not see how a program that it started ends, and an image is written after
 * QEMU has ended its part; so this file says how far a save is. It is there from the
 * save's first byte until the image has its name, and stays after a failure, until the
 * next save.
 *
 * Theory of operation
 *
 * Who saves write-locks byte 0 of the file (OFD lock), for as long as its process lives:
 * a killed saver leaves the file but not the lock. Each change of the content is a new
 * file that is locked before it gets the name, and only then is the old one closed; so
 * whoever waits for the lock of the one that he read looks again.
 *
 * INV-ONESAVER: of two savers of one image the second is refused. A name that is free is
 *               taken in one step that fails if it is not; one that a dead saver left,
 *               only by who has the lock of its byte 1.
 * INV-SAID:     a failure is said also on a full disk: then into the file that is there,
 *               which is as large as any.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_STATUS_H
#define PAGESERVER_ADAPTERS_QEMU_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

enum status_state {
        STATUS_READING,                 /* QEMU's stream */
        STATUS_WRITING,                 /* it ended, the image is not complete */
        STATUS_FAILED,
};

/* ---- by who saves: one thread at a time ------------------------------------------ */

struct status;

/* For the process that will save: the lock goes with what it forks too. tag: NULL = none.
 * -EBUSY when another process saves this image. */
int status_begin(const char *image, const char *tag, struct status **ret, struct err *e);
/* Cheap when only bytes changed: that is written once a second. */
void status_set(struct status *s, enum status_state state, uint64_t bytes);
/* The image is there: the file goes. s is freed; may be NULL. */
void status_done(struct status *s);
/* The sentence is what --status and --wait say from now on. s is freed; may be NULL. */
void status_failed(struct status *s, const struct err *why);

/* ---- by who asks ----------------------------------------------------------------- */

enum status_answer {
        STATUS_ANSWER_DONE = 0,         /* exit statuses */
        STATUS_ANSWER_FAILED = 1,       /* also: killed; or there is nothing */
        STATUS_ANSWER_AT_WORK = 3,
};

struct status_query {
        const char *image;
        const char *tag;                /* that the image must have; NULL = any */
        bool wait;                      /* until the save has ended */
        unsigned timeout_s;             /* 0 = no end */
        bool json;
};

/* Prints the answer and returns it; a failure is in *e, as a sentence, unless json. */
enum status_answer status_ask(const struct status_query *q, struct err *e);

#endif
