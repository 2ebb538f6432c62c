/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/prepared.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/client.h"
#include "vmm/program-path.h"
#include "vmm/revert.h"
#include "vmm/vm.h"

/* Priority is a thread's own, and one that went down does not come up again without a
 * privilege: so the thread that makes things is one that ends. */
#define MAKER_NICE 10

struct prepared {
        struct shape shape;
        struct ram ram;                 /* reserved; bytes 0 = not known */
        struct kvm kvm;
        struct ps_client *server;
        struct revert *ahead;           /* NULL = none was begun */
        /* of the maker */
        int rc;
        struct err err;
};

int shape_check(const struct shape *shape, struct err *e)
{
        struct ram ram;

        if (shape->cpus < 1 || shape->cpus > VCPUS_MAX)
                return err_msg(e, EINVAL, "%u vCPUs: a guest has 1 to %d", shape->cpus,
                               VCPUS_MAX);
        return shape->memory_bytes ? ram_init(&ram, shape->memory_bytes, e) : 0;
}

static int make_kvm(struct prepared *p, struct err *e)
{
        int rc = 0;

        if (p->shape.memory_bytes) {
                rc = ram_init(&p->ram, p->shape.memory_bytes, e);
                if (rc == 0)
                        rc = ram_reserve(&p->ram, e);
        }
        if (rc == 0)
                rc = kvm_open(&p->kvm, e);
        if (rc == 0)
                rc = kvm_create(&p->kvm, &p->ram, p->shape.cpus, e);
        return rc;
}

static void *maker(void *ctx)
{
        struct prepared *p = ctx;

        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), MAKER_NICE);
        p->rc = make_kvm(p, &p->err);
        return NULL;
}

/* Without one a VM that needs it starts its own. From the caller's thread: a child has the
 * priority of the thread that starts it. */
static void start_server(struct prepared *p)
{
        char program[PATH_MAX];

        if (pageserver_path(program, sizeof(program), NULL) == 0)
                (void)ps_client_spawn(program, &p->server, NULL);
}

int prepared_make(const struct shape *shape, struct prepared **ret, struct err *e)
{
        struct prepared *p = calloc(1, sizeof(*p));
        pthread_t thread;

        if (!p)
                return err_msg(e, ENOMEM, "no memory to prepare a VM");
        p->shape = *shape;

        int rc = shape_check(shape, e);

        if (rc == 0) {
                int why = pthread_create(&thread, NULL, maker, p);

                rc = why ? err_set(e, why, "start a thread to prepare a VM") : 0;
        }
        if (rc == 0) {
                start_server(p);
                pthread_join(thread, NULL);
                rc = p->rc;
                if (rc < 0)
                        *e = p->err;
        }
        if (rc < 0)
                prepared_free(p);
        else
                *ret = p;
        return rc;
}

void prepared_free(struct prepared *p)
{
        if (!p)
                return;
        revert_close(p->ahead);
        kvm_close(&p->kvm);
        ram_unmap(&p->ram);
        ps_client_free(p->server);
        free(p);
}

void prepared_foresee(struct prepared *p, struct revert *r)
{
        struct err e;
        const struct meta *m = revert_meta(r);

        ASSERT(!p->ahead);
        p->ahead = r;
        if (m->cpus == p->shape.cpus && m->memory_bytes == p->ram.bytes && p->server &&
            revert_ahead(r, &p->kvm, &p->ram, ptr_take(&p->server), &e) == 0)
                return;
        (void)ram_empty(&p->ram, NULL);
        revert_close(ptr_take(&p->ahead));
        if (!p->server)
                start_server(p);
}

/* A wrong guess is put away when the VM runs, with all else that was not needed. */
struct revert *prepared_claim(struct prepared *p, const struct revert_options *options)
{
        if (!p || !p->ahead)
                return NULL;
        if (revert_claim(p->ahead, options, NULL) == 0)
                return p->ahead;
        if (ram_empty(&p->ram, NULL) < 0)
                p->shape.cpus = 0;      /* RAM has no place any more: fits nobody */
        return NULL;
}

static bool fits(const struct prepared *p, const struct vm *vm, unsigned cpus)
{
        return p && p->kvm.opened && p->shape.cpus == cpus &&
               (p->ram.bytes == 0 || p->ram.bytes == vm->ram.bytes);
}

int prepared_give_kvm(struct prepared *p, struct vm *vm, unsigned cpus, bool *ret_given,
                      struct err *e)
{
        *ret_given = fits(p, vm, cpus);
        if (!*ret_given)
                return 0;
        vm->kvm = p->kvm;
        vm->kvm.in_calls_ns = 0;        /* what was spent before is nobody's time */
        p->kvm = (struct kvm){ .opened = false };
        if (p->ram.bytes) {
                vm->ram = p->ram;
                p->ram = (struct ram){ .bytes = 0 };
                return 0;
        }

        int rc = ram_reserve(&vm->ram, e);

        return rc == 0 ? kvm_add_memory(&vm->kvm, &vm->ram, e) : rc;
}

struct ps_client *prepared_give_server(struct prepared *p)
{
        return p ? ptr_take(&p->server) : NULL;
}
