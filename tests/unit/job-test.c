/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a signal cancels work, which cleans up and then ends the process by
 *       that signal; what was ignored stays ignored, a second one kills.
 * Method: the work in children of our own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/suite.h"
#include "vmm/job.h"

/* what a child ends with when it should not have come there */
#define WRONG 99

/* status of a child that does `work` */
static int child(int (*work)(void))
{
        int status = 0;

        fflush(NULL);

        pid_t pid = fork();

        if (pid == 0) {
                /* as in a shell, whoever runs us in the background or by nohup */
                signal(SIGINT, SIG_DFL);
                signal(SIGTERM, SIG_DFL);
                signal(SIGHUP, SIG_DFL);
                _exit(work());
        }
        CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
        return status;
}

static int cancel_by(int signo)
{
        struct job job;

        job_start(&job, "work", false);
        if (!job_progress(&job, 1, 2))
                return WRONG;
        raise(signo);
        if (job_progress(&job, 2, 2))
                return WRONG;
        job_end(&job, -ECANCELED);
        return WRONG;
}

static int by_int(void)
{
        return cancel_by(SIGINT);
}

static int by_term(void)
{
        return cancel_by(SIGTERM);
}

static int by_hup(void)
{
        return cancel_by(SIGHUP);
}

static void cancelled(void)
{
        static const struct {
                int (*work)(void);
                int signo;
        } rows[] = { { by_int, SIGINT }, { by_term, SIGTERM }, { by_hup, SIGHUP } };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                int status = child(rows[i].work);

                CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == rows[i].signo);
        }
}

static int twice(void)
{
        struct job job;

        job_start(&job, "work", false);
        raise(SIGINT);
        raise(SIGINT);
        return WRONG;
}

static void second_kills(void)
{
        int status = child(twice);

        CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static int ignored(void)
{
        struct job job;

        signal(SIGHUP, SIG_IGN);        /* nohup */
        job_start(&job, "work", false);
        raise(SIGHUP);
        if (!job_progress(&job, 1, 1) || job_end(&job, 0) != 0)
                return WRONG;
        raise(SIGHUP);
        return 0;
}

/* work that was done when the signal came, or failed otherwise */
static int late(void)
{
        struct job job;

        job_start(&job, "work", true);
        raise(SIGTERM);
        if (job_end(&job, 0) != 0)
                return WRONG;
        job_start(&job, "work", true);
        if (!job_progress(&job, 0, 1) || job_end(&job, -EIO) != -EIO)
                return WRONG;
        raise(SIGTERM);                 /* its action is back */
        return WRONG;
}

static void others(void)
{
        int status = child(ignored);

        CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        status = child(late);
        CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static const CU_TestInfo cases[] = {
        { "a signal cancels", cancelled },
        { "a second one kills", second_kills },
        { "ignored ones, late ones", others },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("job", cases);
}
