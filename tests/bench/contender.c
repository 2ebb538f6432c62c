/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/contender.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"

const char *const placement_name[PLACEMENTS] = {
        "free", "pinned", "together", "apart",
};

/* The CPUs that we could use before anything was placed. */
static void allowed(cpu_set_t *ret)
{
        CPU_ZERO(ret);
        /* an affinity that was set is ours, that of process 1 is the machine's */
        if (sched_getaffinity(1, sizeof(*ret), ret) < 0 || CPU_COUNT(ret) == 0)
                CPU_SET(0, ret);
}

static void only(cpu_set_t *set, bool last)
{
        int found = -1;

        for (int i = 0; i < CPU_SETSIZE; i++) {
                if (CPU_ISSET(i, set) && (last || found < 0))
                        found = i;
        }
        CPU_ZERO(set);
        CPU_SET(found, set);
}

bool contender_can_part(void)
{
        cpu_set_t set;

        allowed(&set);
        return CPU_COUNT(&set) > 1;
}

/* every thread of the process */
static int place_process(pid_t pid, const cpu_set_t *set, struct err *e)
{
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);

        DIR *tasks = opendir(path);
        int rc = 0;

        if (!tasks)
                return err_set(e, errno, "open '%s'", path);
        for (struct dirent *d; (d = readdir(tasks));) {
                int tid = atoi(d->d_name);

                if (tid > 0 && sched_setaffinity(tid, sizeof(*set), set) < 0)
                        rc = err_set(e, errno, "cannot place thread %d", tid);
        }
        closedir(tasks);
        return rc;
}

static int place(const struct contender *c, enum placement p, struct err *e)
{
        cpu_set_t ours, theirs;

        allowed(&ours);
        allowed(&theirs);
        if (p == PLACE_FREE)
                return 0;
        only(&ours, false);
        only(&theirs, p == PLACE_APART);
        if (sched_setaffinity(0, sizeof(ours), &ours) < 0)
                return err_set(e, errno, "cannot place this thread");
        return p == PLACE_PINNED || c->server <= 0 ? 0 : place_process(c->server, &theirs, e);
}

/* A process inherits where its parent may run. */
static void unplace(void)
{
        cpu_set_t all;

        allowed(&all);
        sched_setaffinity(0, sizeof(all), &all);
}

int contender_open(struct contender *c, enum placement p, struct err *e)
{
        unplace();

        int rc = c->ops->open(c, e);

        if (rc < 0)
                return err_in(e, rc, "%s", c->name);
        rc = place(c, p, e);
        if (rc < 0)
                contender_close(c);
        return rc;
}

void contender_close(struct contender *c)
{
        c->ops->close(c);
        unplace();
}
