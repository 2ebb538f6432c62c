/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/job.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static_assert(ARRAY_SIZE(signals) == JOB_SIGNALS, "each one's action is kept");

/* The signal that came, 0 = none. At file scope because a handler has no other
 * context; job.h allows one job at a time. */
static volatile sig_atomic_t came;

static void on_signal(int signo)
{
        came = signo;
}

void job_start(struct job *job, const char *what, bool json)
{
        struct sigaction cancel = { .sa_handler = on_signal,
                                    .sa_flags = SA_RESTART | (int)SA_RESETHAND };

        came = 0;
        for (unsigned i = 0; i < JOB_SIGNALS; i++) {
                sigaction(signals[i], NULL, &job->before[i]);
                if (job->before[i].sa_handler != SIG_IGN)
                        sigaction(signals[i], &cancel, NULL);
        }
        progress_init(&job->bar, what, STDERR_FILENO, !json);
}

bool job_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        struct job *job = ctx;

        progress_show(&job->bar, done_bytes, total_bytes);
        return came == 0;
}

int job_end(struct job *job, int rc)
{
        progress_fini(&job->bar);
        for (unsigned i = 0; i < JOB_SIGNALS; i++)
                sigaction(signals[i], &job->before[i], NULL);
        if (rc == -ECANCELED && came)
                raise(came);
        return rc;
}
