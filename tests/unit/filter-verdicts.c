/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/filter-verdicts.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define NUMBERS_MAX 1024                /* twice what kernels have */
#define X32_FIRST 0x40000000u
#define NUMBER_NONE UINT32_MAX          /* a tracer has cancelled the call */
#define BROKEN 0xdeadbeefu              /* no verdict of the kernel's */
#define PID 4711

struct trial {
        const struct filter_row *row;
        struct sock_filter *step;       /* the row's program, as this process loads it */
        size_t steps;
        unsigned differences;
};

/* ---- the kernel's part --------------------------------------------------------- */

static bool word_at(const struct seccomp_data *d, uint32_t offset, uint32_t *ret)
{
        if (offset % sizeof(*ret) != 0 || offset > sizeof(*d) - sizeof(*ret))
                return false;
        memcpy(ret, (const char *)d + offset, sizeof(*ret));
        return true;
}

static bool jumps(const struct sock_filter *s, uint32_t a)
{
        switch (BPF_OP(s->code)) {
        case BPF_JEQ: return a == s->k;
        case BPF_JGT: return a > s->k;
        default:      return a >= s->k;
        }
}

static uint32_t run(const struct sock_filter *step, size_t n, const struct seccomp_data *d)
{
        uint32_t a = 0;

        for (size_t pc = 0; pc < n; pc++) {
                const struct sock_filter *s = &step[pc];

                switch (s->code) {
                case BPF_LD | BPF_W | BPF_ABS:
                        if (!word_at(d, s->k, &a))
                                return BROKEN;
                        break;
                case BPF_ALU | BPF_AND | BPF_K:
                        a &= s->k;
                        break;
                case BPF_JMP | BPF_JA:
                        pc += s->k;
                        break;
                case BPF_JMP | BPF_JEQ | BPF_K:
                case BPF_JMP | BPF_JGT | BPF_K:
                case BPF_JMP | BPF_JGE | BPF_K:
                        pc += jumps(s, a) ? s->jt : s->jf;
                        break;
                case BPF_RET | BPF_K:
                        return s->k;
                default:
                        return BROKEN;
                }
        }
        return BROKEN;
}

/* ---- the lists' part ------------------------------------------------------------- */

static uint64_t mask_of(const struct scmp_arg_cmp *l)
{
        return l->op == SCMP_CMP_MASKED_EQ ? l->datum_a : UINT64_MAX;
}

static uint64_t wanted_of(const struct scmp_arg_cmp *l)
{
        if (l->op == SCMP_CMP_MASKED_EQ)
                return l->datum_b;
        return l->datum_a == FILTER_PID ? PID : l->datum_a;
}

static bool applies(const struct filter_call *c, const struct seccomp_data *d)
{
        if (d->nr != c->number)
                return false;
        for (unsigned i = 0; i < c->limits; i++) {
                if ((d->args[c->limit[i].arg] & mask_of(&c->limit[i])) != wanted_of(&c->limit[i]))
                        return false;
        }
        return true;
}

static bool listed(const struct filter_group *group, const struct seccomp_data *d)
{
        for (; group->reason; group++) {
                for (size_t i = 0; i < group->n; i++) {
                        if (applies(&group->call[i], d))
                                return true;
                }
        }
        return false;
}

static bool in_lists(const struct filter_group *const *lists, const struct seccomp_data *d)
{
        for (; *lists; lists++) {
                if (listed(*lists, d))
                        return true;
        }
        return false;
}

static uint32_t expected(const struct filter_row *row, const struct seccomp_data *d)
{
        uint32_t number = (uint32_t)d->nr;

        if (d->arch != AUDIT_ARCH_X86_64 || (number >= X32_FIRST && number != NUMBER_NONE))
                return SECCOMP_RET_KILL_PROCESS;
        if (in_lists(row->allowed, d))
                return SECCOMP_RET_ALLOW;
        if (row->log)
                return SECCOMP_RET_LOG;
        return in_lists(row->deadly, d) ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | ENOSYS;
}

/* ---- what is tried --------------------------------------------------------------- */

static void try_call(struct trial *t, const struct seccomp_data *d)
{
        t->differences += run(t->step, t->steps, d) != expected(t->row, d);
}

static void try_numbers(struct trial *t, struct seccomp_data *d)
{
        static const uint32_t edges[] = {
                X32_FIRST - 1, X32_FIRST, X32_FIRST + 1, 0x7fffffff, 0x80000000, NUMBER_NONE - 1,
                NUMBER_NONE,
        };

        for (d->nr = 0; d->nr < NUMBERS_MAX; d->nr++)
                try_call(t, d);
        for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
                d->nr = (int)edges[i];
                try_call(t, d);
        }
}

/* With the arguments of the row, and with each bit of each turned. */
static void try_row(struct trial *t, const struct filter_call *c)
{
        struct seccomp_data d = { .nr = c->number, .arch = AUDIT_ARCH_X86_64 };

        for (unsigned i = 0; i < c->limits; i++)
                d.args[c->limit[i].arg] = wanted_of(&c->limit[i]);
        try_call(t, &d);
        for (unsigned bit = 0; bit < 64 * ARRAY_SIZE(d.args); bit++) {
                d.args[bit / 64] ^= 1ull << bit % 64;
                try_call(t, &d);
                d.args[bit / 64] ^= 1ull << bit % 64;
        }
}

static void try_lists(struct trial *t, const struct filter_group *const *lists)
{
        for (; *lists; lists++) {
                for (const struct filter_group *g = *lists; g->reason; g++) {
                        for (size_t j = 0; j < g->n; j++)
                                try_row(t, &g->call[j]);
                }
        }
}

static void try_all(struct trial *t)
{
        static const uint32_t archs[] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64 };

        for (size_t i = 0; i < ARRAY_SIZE(archs); i++) {
                struct seccomp_data d = { .arch = archs[i] };

                try_numbers(t, &d);
                memset(d.args, 0xff, sizeof(d.args));
                try_numbers(t, &d);
        }
        try_lists(t, t->row->allowed);
        try_lists(t, t->row->deadly);
}

/* ---- what is checked --------------------------------------------------------------- */

void filter_verdicts(const struct filter_row *row)
{
        const struct filter *made = row->made;
        AUTO_FREE struct sock_filter *step = calloc(made->steps, sizeof(*step));
        struct trial t = { .row = row, .step = step, .steps = made->steps };

        CU_ASSERT_FATAL(step && made->pid_step < made->steps);
        memcpy(step, made->step, made->steps * sizeof(*step));
        if (made->pid_step)
                step[made->pid_step].k = PID;
        try_all(&t);
        EXPECT_EQUAL(row->name, t.differences, 0);
}

void filter_process_number(const struct filter_row *row)
{
        const struct filter *made = row->made;
        unsigned places = 0;

        for (size_t j = 0; j < made->steps; j++)
                places += made->step[j].k == FILTER_PID;
        EXPECT_EQUAL(row->name, places, 1);
        EXPECT_EQUAL(row->name, made->step[made->pid_step].k, FILTER_PID);
        EXPECT_EQUAL(row->name, made->step[made->pid_step].code, BPF_JMP | BPF_JEQ | BPF_K);
}
