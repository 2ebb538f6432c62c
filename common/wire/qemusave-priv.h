/* SPDX-License-Identifier: Apache-2.0 */
/* qemusave-priv.h - the steps of qemusave.h's parser: those of ram, and the others.
 *
 * A step takes one thing from the beginning of the input, or nothing. It returns what
 * follows, or a negative errno and its sentence; ITEM: *item is set, all zero before.
 */
#ifndef COMMON_WIRE_QEMUSAVE_PRIV_H
#define COMMON_WIRE_QEMUSAVE_PRIV_H

#include "common/wire/qemusave.h"

/* Theory of operation
 *
 * A stream is a head and records; the records of `ram` are taken apart, what belongs to
 * devices has no length and cannot be. So everything before the devices must be ram or a
 * command, and the first SECTION_FULL behind a PART or END of ram begins the rest.
 *
 * A step takes one thing (a word with its page, a block of the list, a record's head) or
 * nothing: what is cut by the window's end is looked at again with more bytes. That costs
 * a second look at 8 bytes, and no copy of a page.
 *
 * INV-STEP: a step that returns MORE has left the input and the parser as they were.
 * INV-WITHIN: a page is reported only with a block of the list and an offset within it. */

enum qemusave_state {
        STATE_HEAD,
        STATE_RECORD,                   /* between records */
        STATE_WORDS,                    /* in a body of ram */
        STATE_LIST,                     /* in the list of blocks: list_left bytes to name */
        STATE_FOOTER,                   /* behind a body of ram */
        STATE_DEVICES,
        STATE_REFUSED,
        STATES
};

/* what a step returns */
enum { QEMUSAVE_STEP_MORE, QEMUSAVE_STEP_ITEM, QEMUSAVE_STEP_ON };

struct qemusave_in {
        const uint8_t *at;
        size_t left;
};

struct qemusave {
        enum qemusave_state state;
        bool started, has_parts, ended;         /* sections of ram: START, PART or END, END */
        bool footers_known;
        unsigned nblocks;
        unsigned last_block;                    /* CONTINUE's, + 1; 0 = none yet */
        uint64_t list_left;
        uint64_t taken_bytes;                   /* of the stream, in all steps */
        struct qemusave_ram ram;
        struct qemuhead head;
        struct qemu_ramblock blocks[QEMU_BLOCKS_MAX];
};

static inline void qemusave_advance(struct qemusave_in *in, size_t bytes)
{
        in->at += bytes;
        in->left -= bytes;
}

typedef int qemusave_step(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                          struct err *e);

qemusave_step qemusave_word;            /* STATE_WORDS */
qemusave_step qemusave_listed;          /* STATE_LIST */
qemusave_step qemusave_footer;          /* STATE_FOOTER */

#endif
