/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - long work of a command in the foreground: a bar on its terminal, and
 * an end by Ctrl-C that leaves nothing behind.
 *
 * Between job_start() and job_end(), SIGINT, SIGTERM and SIGHUP, unless they
 * are ignored, let the next job_progress() cancel the work; a second one ends
 * the process at once, as do all while the work is in its last step and does
 * not ask any more, but for the first.
 *
 * Ownership: in place; one at a time in a process.
 * Threads:   job_progress() and progress_say() from any.
 */
#ifndef VMM_JOB_H
#define VMM_JOB_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/progress.h"

#define JOB_SIGNALS 3

struct job {
        struct progress bar;
        struct sigaction before[JOB_SIGNALS];
};

/* what: one word for the bar; there is none when the command prints JSON */
void job_start(struct job *job, const char *what, bool json);
/* a qs_progress_fn; ctx is the job */
bool job_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
/* rc of the work, which has cleaned up. Does not return when a signal cancelled
 * it: the process ends by that signal, as its caller expects. */
int job_end(struct job *job, int rc);

#endif
