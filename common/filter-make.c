/* SPDX-License-Identifier: Apache-2.0 */
#include "common/filter-make.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/err.h"
#include "common/filter.h"
#include "common/io.h"

/* libseccomp's level of kernels that can log a call and kill a whole process: 4.14 */
#define FILTER_API 3
#define STEPS_A_LINE 3

struct program {
        struct sock_filter *step;
        size_t steps;
};

/* ---- by libseccomp ------------------------------------------------------------------ */

static int add_groups(scmp_filter_ctx filter, uint32_t action, const struct filter_group *group)
{
        for (; group->reason; group++) {
                for (size_t i = 0; i < group->n; i++) {
                        const struct filter_call *c = &group->call[i];
                        int rc = seccomp_rule_add_array(filter, action, c->number, c->limits,
                                                        c->limit);

                        if (rc < 0)
                                return rc;
                }
        }
        return 0;
}

static int fill(scmp_filter_ctx filter, const struct filter_wanted *w)
{
        int rc = 0;

        for (size_t i = 0; rc == 0 && w->allowed[i]; i++)
                rc = add_groups(filter, SCMP_ACT_ALLOW, w->allowed[i]);
        for (size_t i = 0; rc == 0 && !w->log && w->deadly[i]; i++)
                rc = add_groups(filter, SCMP_ACT_KILL_PROCESS, w->deadly[i]);
        return rc;
}

/* Binary search instead of a list of comparisons, which kernels before 5.11 walk at
 * every call, and all of them for every number when it is loaded. */
static int tune(scmp_filter_ctx filter)
{
        int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);

        return rc < 0 ? rc : seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
                                              SCMP_ACT_KILL_PROCESS);
}

static int export(scmp_filter_ctx filter, struct program *ret)
{
        AUTO_FD fd = memfd_create("filter", MFD_CLOEXEC);
        int rc = fd < 0 ? -errno : seccomp_export_bpf(filter, fd);
        off_t bytes = rc < 0 ? 0 : lseek(fd, 0, SEEK_END);
        AUTO_FREE struct sock_filter *step = bytes > 0 ? malloc((size_t)bytes) : NULL;

        if (rc < 0 || !step)
                return rc < 0 ? rc : -ENOMEM;
        rc = io_pread_full(fd, step, (size_t)bytes, 0);
        if (rc < 0)
                return rc;
        ret->steps = (size_t)bytes / sizeof(*step);
        ret->step = ptr_take(&step);
        return 0;
}

static int make(const struct filter_wanted *w, struct program *ret, struct err *e)
{
        scmp_filter_ctx filter = seccomp_init(w->log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(ENOSYS));
        int rc = filter ? tune(filter) : -ENOMEM;

        if (rc == 0)
                rc = fill(filter, w);
        if (rc == 0)
                rc = export(filter, ret);
        if (filter)
                seccomp_release(filter);
        return rc < 0 ? err_set(e, -rc, "libseccomp makes no filter%s", w->index) : 0;
}

/* ---- as C ----------------------------------------------------------------------------- */

/* The one step that compares with the process's number; 0 = none does. */
static int find_pid(const struct program *p, size_t *ret, struct err *e)
{
        size_t found = 0;

        for (size_t i = 0; i < p->steps; i++) {
                if (p->step[i].k != FILTER_PID)
                        continue;
                if (found || p->step[i].code != (BPF_JMP | BPF_JEQ | BPF_K))
                        return err_msg(e, EINVAL, "FILTER_PID is not in one comparison");
                found = i;
        }
        *ret = found;
        return 0;
}

static int print(const struct filter_wanted *w, const struct program *p, struct err *e)
{
        size_t pid_step = 0;
        int rc = find_pid(p, &pid_step, e);

        if (rc < 0)
                return rc;
        printf("        %s = { %zu, %zu, (const struct sock_filter[]){", w->index, p->steps,
               pid_step);
        for (size_t i = 0; i < p->steps; i++) {
                const struct sock_filter *s = &p->step[i];

                printf("%s{ 0x%02x,%3u,%3u, 0x%08x },",
                       i % STEPS_A_LINE ? " " : "\n        ", s->code, s->jt, s->jf, s->k);
        }
        puts("\n        } },");
        return 0;
}

static int print_all(const struct filter_file *file, struct err *e)
{
        printf("/* SPDX-License-Identifier: Apache-2.0 */\n"
               "/* Written by make-filters: change the lists of calls instead. */\n"
               "#include \"%s\"\n\n%s = {\n", file->header, file->array);
        for (size_t i = 0; i < file->n; i++) {
                struct program p = { 0 };
                int rc = make(&file->wanted[i], &p, e);

                if (rc == 0)
                        rc = print(&file->wanted[i], &p, e);
                free(p.step);
                if (rc < 0)
                        return rc;
        }
        puts("};");
        return fflush(stdout) || ferror(stdout) ? err_set(e, EIO, "cannot write") : 0;
}

int filter_make(const struct filter_file *file)
{
        struct err e;
        int rc = seccomp_api_set(FILTER_API);

        if (rc < 0)
                err_set(&e, -rc, "libseccomp lacks level %d", FILTER_API);
        else
                rc = print_all(file, &e);
        if (rc < 0)
                err_print("make-filters", &e);
        return rc < 0;
}
