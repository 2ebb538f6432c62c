/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* More than is asked for, so that many small demands do not copy each time. */
#define SLACK(clusters) ((clusters) / 8 + 1024)

/* Fresh memory from calloc is not touched before it is used: what a sparse
 * guest does not need costs nothing. */
static void *grow(void *old, uint64_t old_n, uint64_t n, size_t size)
{
        if (!old)
                return calloc(n, size);

        uint8_t *more = reallocarray(old, n, size);

        if (more)
                memset(more + old_n * size, 0, (n - old_n) * size);
        return more;
}

/* clusters whose sums are in one block of HOSTSUMS */
static uint64_t block(const struct space *s, uint64_t cluster)
{
        return cluster >> (s->cluster_bits - 3);
}

/* Both a block of sums and one of refcounts are whole then: the latter has room
 * for twice as many. */
static int grow_to(struct space *s, uint64_t wanted)
{
        uint64_t room = ALIGN_UP(wanted, 2ull << (s->cluster_bits - 3));
        uint8_t *touched = grow(s->touched, block(s, s->room), block(s, room), 1);

        if (!touched)
                return -ENOMEM;
        s->touched = touched;

        uint32_t *refs = grow(s->refs, s->room, room, sizeof(*refs));

        if (refs)
                s->refs = refs;

        uint64_t *sums = grow(s->sums, s->room, room, sizeof(*sums));

        if (sums)
                s->sums = sums;
        if (!refs || !sums)
                return -ENOMEM;
        s->room = room;
        return 0;
}

static void touch(struct space *s, uint64_t first, uint64_t n)
{
        for (uint64_t i = block(s, first); n > 0 && i <= block(s, first + n - 1); i++)
                s->touched[i] = 1;
}

void space_extend(struct space *s, uint64_t end)
{
        ASSERT(end >= s->end && end <= s->room);
        touch(s, s->end, end - s->end);
        s->end = end;
}

int space_reserve(struct space *s, uint64_t clusters, struct err *e)
{
        if (s->end + clusters <= s->room)
                return 0;
        return grow_to(s, s->end + clusters) < 0 ? err_set(e, ENOMEM, "count clusters") : 0;
}

int space_init(struct space *s, unsigned cluster_bits, struct err *e)
{
        *s = (struct space){ .cluster_bits = cluster_bits };

        int rc = space_reserve(s, 1, e);

        if (rc == 0) {
                space_extend(s, 1);
                s->refs[0] = 1;
        }
        return rc;
}

void space_fini(struct space *s)
{
        free(s->refs);
        free(s->sums);
        free(s->touched);
        free(s->free);
        *s = (struct space){ 0 };
}

static size_t count_runs(const struct space *s)
{
        size_t runs = 0;

        for (uint64_t i = 1; i < s->end; i++)
                runs += s->refs[i] == 0 && s->refs[i - 1] != 0;
        return runs;
}

int space_offer(struct space *s, struct err *e)
{
        size_t runs = count_runs(s);

        ASSERT(!s->free && s->refs[0] == 1);
        s->free = calloc(runs + 1, sizeof(*s->free));
        if (!s->free)
                return err_set(e, ENOMEM, "list free clusters");
        for (uint64_t i = 1; i < s->end; i++) {
                if (s->refs[i])
                        continue;
                if (s->refs[i - 1])
                        s->free[s->free_runs++] = (struct space_run){ i, 0 };
                s->free[s->free_runs - 1].n++;
        }
        ASSERT(s->free_runs == runs);
        return 0;
}

/* The runs of marked clusters into `to`, if that is not NULL; returns how many. */
static size_t list_marked(const uint8_t *marked, uint64_t end, struct space_run *to)
{
        size_t runs = 0;

        for (uint64_t i = 1; i < end; i++) {
                if (!marked[i])
                        continue;
                if (!marked[i - 1])
                        runs++;
                if (to && !marked[i - 1])
                        to[runs - 1] = (struct space_run){ i, 0 };
                if (to)
                        to[runs - 1].n++;
        }
        return runs;
}

int space_recycle(struct space *s, uint8_t *gone, struct err *e)
{
        ASSERT(!gone[0]);
        for (size_t i = 0; i < s->free_runs; i++)
                memset(gone + s->free[i].first, 1, s->free[i].n);

        size_t runs = list_marked(gone, s->end, NULL);
        struct space_run *all = calloc(runs + 1, sizeof(*all));

        if (!all)
                return err_set(e, ENOMEM, "list free clusters");
        list_marked(gone, s->end, all);
        free(s->free);
        s->free = all;
        s->free_runs = runs;
        s->free_from = 0;
        return 0;
}

static struct space_run *find(struct space *s, uint64_t min)
{
        while (s->free_from < s->free_runs && s->free[s->free_from].n == 0)
                s->free_from++;
        for (size_t i = s->free_from; i < s->free_runs; i++) {
                if (s->free[i].n >= min)
                        return &s->free[i];
        }
        return NULL;
}

uint64_t space_take(struct space *s, uint64_t n)
{
        struct space_run *run = find(s, n);
        uint64_t first;

        ASSERT(n > 0);
        if (run) {
                first = run->first;
                run->first += n;
                run->n -= n;
                touch(s, first, n);
                return first;
        }
        if (s->end + n > s->room && grow_to(s, s->end + n + SLACK(s->end)) < 0)
                return 0;
        first = s->end;
        space_extend(s, first + n);
        return first;
}

struct space_run space_take_run(struct space *s, uint64_t min)
{
        struct space_run *run = find(s, min);
        struct space_run taken = { 0, 0 };

        if (run) {
                taken = *run;
                touch(s, run->first, run->n);
                /* the place stays, for what is returned */
                run->first += run->n;
                run->n = 0;
        }
        return taken;
}

void space_return(struct space *s, struct space_run back)
{
        if (back.n == 0)
                return;
        for (size_t i = 0; i < s->free_runs; i++) {
                struct space_run *run = &s->free[i];

                if (run->n == 0 && run->first == back.first + back.n) {
                        *run = back;
                        s->free_from = MIN(s->free_from, i);
                        return;
                }
        }
        ASSERT(!"a run that was taken is returned");
}
