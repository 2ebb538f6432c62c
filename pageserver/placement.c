/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/placement.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/check.h"

/* so many wake-ups for one fault still cost less than one across CPUs */
#define PINNED_CPUS_MAX 4u
/* A tenth of an urgent thread's share: enough to get on where all CPUs are busy. */
#define AHEAD_NICE 10

unsigned placement_cpus(void)
{
        cpu_set_t set;

        if (sched_getaffinity(0, sizeof(set), &set) < 0)
                return (unsigned)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1);
        return (unsigned)CPU_COUNT(&set);
}

bool placement_pins(enum placement asked, unsigned cpus)
{
        return asked == PLACEMENT_AUTO ? cpus <= PINNED_CPUS_MAX : asked == PLACEMENT_PINNED;
}

/* the n-th CPU of the set, counted round */
static unsigned cpu_at(const cpu_set_t *set, unsigned n)
{
        unsigned left = n % (unsigned)CPU_COUNT(set);

        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                if (CPU_ISSET(cpu, set) && left-- == 0)
                        return cpu;
        }
        ASSERT(!"a set has as many CPUs as it counts");
        return 0;
}

/* Where it is refused the thread runs somewhere, only slower. */
void place_demand(unsigned index, bool pinned)
{
        cpu_set_t all, one;

        if (!pinned || sched_getaffinity(0, sizeof(all), &all) < 0)
                return;
        CPU_ZERO(&one);
        CPU_SET(cpu_at(&all, index), &one);
        (void)sched_setaffinity(0, sizeof(one), &one);
}

void place_ahead(void)
{
        (void)setpriority(PRIO_PROCESS, 0, AHEAD_NICE);         /* 0 = this thread */
}
