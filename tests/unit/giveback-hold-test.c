/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: who holds memory (a save that begins) waits for what is going back just then, and for no
 *       more, however fast guests go on giving back.
 * Method: threads that give the same page back without pause; how often they did between a call
 *         of giveback_hold() and its return. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/suite.h"
#include "vmm/giveback.h"

#define PAGE_BYTES 4096u
#define GPA (4u << 20)
#define GUESTS 2
#define HOLDS 2000
/* one page that each is at, and one that it has begun and not counted */
#define MEANWHILE (2 * GUESTS)
/* The main thread may be put off its CPU right before it counts itself in. */
#define LATE_MAX (HOLDS / 400)

struct race {
        struct giveback *giveback;
        _Atomic bool quit;
        _Atomic uint64_t given;         /* pages */
};

static void *guest_thread(void *ctx)
{
        struct race *r = ctx;

        while (!r->quit)
                r->given += giveback_pages(r->giveback, GPA, PAGE_BYTES) / PAGE_BYTES;
        return NULL;
}

static void waits_for_no_more(void)
{
        struct race race = { .quit = false };
        pthread_t guest[GUESTS];
        unsigned late = 0;
        struct ram ram;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, RAM_BYTES_MIN, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, &e), 0);
        CU_ASSERT_EQUAL_FATAL(giveback_new(&ram, &race.giveback, &e), 0);
        for (unsigned i = 0; i < GUESTS; i++)
                CU_ASSERT_EQUAL_FATAL(pthread_create(&guest[i], NULL, guest_thread, &race), 0);
        for (unsigned i = 0; i < HOLDS; i++) {
                uint64_t before = race.given;

                giveback_hold(race.giveback);
                late += race.given - before > MEANWHILE;
                giveback_release(race.giveback);
                usleep(100);
        }
        race.quit = true;
        for (unsigned i = 0; i < GUESTS; i++)
                pthread_join(guest[i], NULL);
        printf("%u of %u holds waited for more ", late, HOLDS);
        CU_ASSERT(late <= LATE_MAX);
        giveback_free(race.giveback);
        ram_unmap(&ram);
}

static const CU_TestInfo cases[] = {
        { "waits for what goes back just then", waits_for_no_more },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("giveback-hold", cases);
}
