/* SPDX-License-Identifier: Apache-2.0 */
/* pool-record.h - what a program does to one file, and what a loss of power may
 * leave of it.
 *
 * Method: the linker's --wrap puts our functions before pwrite, pwritev,
 * ftruncate, fallocate and fdatasync; calls for other files are not recorded.
 *
 * What was done before the last completed fdatasync is there. Of what was done
 * behind it each step may be there or not, whatever their order; of a write each
 * sector, but a write of one sector is there as a whole or not at all.
 *
 * Threads: the recorded program may have any number.
 */
#ifndef TESTS_CRASH_POOL_RECORD_H
#define TESTS_CRASH_POOL_RECORD_H

#include <stddef.h>
#include <stdint.h>

enum step_kind { STEP_WRITE, STEP_CUT, STEP_PUNCH, STEP_SYNC };

struct step {
        enum step_kind kind;
        uint64_t at;                    /* CUT: the new size */
        uint64_t bytes;
        uint8_t *data;                  /* WRITE */
};

/* The file, as it is now, is durable. Once. */
void record_start(const char *path);
/* Forgets what can be lost no more. */
void record_settle(void);
/* called once, before the next write that changes the file's first sector */
void record_before_switch(void (*hook)(void *ctx), void *ctx);
size_t record_steps(void);
const struct step *record_step(size_t i);
/* the file when the power fails after so many steps; the caller frees */
uint8_t *record_lost(size_t steps, uint64_t *random_state, size_t *ret_bytes);
void record_end(void);

#endif
