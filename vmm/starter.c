/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/starter.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/lock.h"

/* Theory of operation
 *
 * Orders are taken one at a time (`turn`): the caller lays its order down, the starter's
 * thread carries it out and says so. It blocks all signals, and so does each new thread
 * until it has entered; then it has the mask of who ordered it.
 */
struct starter {
        /* constant */
        struct sandbox *sandbox;
        pthread_t maker;
        pthread_t thread;
        bool runs;

        bool entered;                   /* the maker has; its own */

        struct lock turn;               /* one order at a time; nothing else is waited for */
        struct lock lock;
        struct cond changed;
        const struct starter_thread *order      GUARDED_BY(lock);       /* NULL = none; without
                                                                         * run: to narrow */
        sigset_t mask                           GUARDED_BY(lock);       /* of who ordered */
        pthread_t made                          GUARDED_BY(lock);
        int rc                                  GUARDED_BY(lock);
        bool ends                               GUARDED_BY(lock);
};

/* Heap, the new thread's. */
struct birth {
        const struct sandbox *sandbox;
        enum sandbox_role role;
        char name[16];
        sigset_t mask;
        void *(*run)(void *ctx);
        void *ctx;
};

static _Noreturn void die(const struct err *e)
{
        err_print("vmm", e);
        _exit(1);
}

static void enter_or_die(const struct sandbox *sandbox, enum sandbox_role role)
{
        struct err e;

        if (sandbox_enter(sandbox, role, &e) < 0)
                die(&e);
}

static void *begin(void *arg)
{
        const struct birth b = *(const struct birth *)arg;

        free(arg);
        pthread_setname_np(pthread_self(), b.name);
        enter_or_die(b.sandbox, b.role);        /* INV-ROLE */
        pthread_sigmask(SIG_SETMASK, &b.mask, NULL);
        return b.run(b.ctx);
}

/* All signals are blocked here. */
static int give_birth(const struct sandbox *sandbox, const struct starter_thread *t,
                      const sigset_t *mask, pthread_t *ret)
{
        struct birth *b = malloc(sizeof(*b));

        if (!b)
                return ENOMEM;
        *b = (struct birth){
                .sandbox = sandbox, .role = t->role, .mask = *mask, .run = t->run, .ctx = t->ctx,
        };
        snprintf(b->name, sizeof(b->name), "%.15s", t->name);

        int rc = pthread_create(ret, NULL, begin, b);

        if (rc)
                free(b);
        return rc;
}

static int start_own(const struct sandbox *sandbox, const struct starter_thread *t,
                     pthread_t *ret)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);

        int rc = give_birth(sandbox, t, &before, ret);

        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return rc;
}

static int carry_out(const struct sandbox *sandbox, const struct starter_thread *order,
                     const sigset_t *mask, pthread_t *ret)
{
        struct err e;

        if (order->run)
                return give_birth(sandbox, order, mask, ret);
        if (sandbox_narrow(sandbox, &e) < 0)
                die(&e);
        return 0;
}

static void *starter_main(void *ctx)
{
        struct starter *s = ctx;
        sigset_t all;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, NULL);
        lock_acquire(&s->lock);
        while (!s->ends) {
                if (s->order) {
                        s->rc = carry_out(s->sandbox, s->order, &s->mask, &s->made);
                        s->order = NULL;
                        cond_broadcast(&s->changed);
                }
                cond_wait(&s->changed, &s->lock);
        }
        lock_release(&s->lock);
        return NULL;
}

static int have_it_started(struct starter *s, const struct starter_thread *t, pthread_t *ret)
{
        lock_acquire(&s->turn);
        lock_acquire(&s->lock);
        pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
        s->order = t;
        cond_broadcast(&s->changed);
        while (s->order)
                cond_wait(&s->changed, &s->lock);

        int rc = s->rc;

        if (rc == 0)
                *ret = s->made;
        lock_release(&s->lock);
        lock_release(&s->turn);
        return rc;
}

int starter_start(struct starter *s, const struct starter_thread *t, pthread_t *ret)
{
        if (!s)
                return start_own(NULL, t, ret);
        if (pthread_equal(s->maker, pthread_self()) && !s->entered)
                return start_own(s->sandbox, t, ret);
        return have_it_started(s, t, ret);
}

void starter_confine(struct starter *s, const struct confine *confine)
{
        if (s)
                sandbox_confine(s->sandbox, confine);
}

int starter_settle(struct starter *s, const struct vm *vm, struct err *e)
{
        static const struct starter_thread narrow = { .run = NULL };
        pthread_t none;
        int rc = s ? sandbox_settle(s->sandbox, vm, e) : 0;

        return s && rc == 0 ? have_it_started(s, &narrow, &none) : rc;
}

int starter_enter(struct starter *s, enum sandbox_role role, struct err *e)
{
        if (!s)
                return 0;
        ASSERT(pthread_equal(s->maker, pthread_self()));
        s->entered = true;
        return sandbox_enter(s->sandbox, role, e);
}

static int start_starter(struct starter *s, struct err *e)
{
        const struct starter_thread own = {
                .role = SANDBOX_STARTER, .name = "starter", .run = starter_main, .ctx = s,
        };
        int rc = start_own(s->sandbox, &own, &s->thread);

        s->runs = rc == 0;
        return rc ? err_set(e, rc, "start the thread that starts a VM's threads") : 0;
}

int starter_new(enum sandbox_mode mode, struct starter **ret, struct err *e)
{
        struct starter *s = calloc(1, sizeof(*s));

        if (!s)
                return err_msg(e, ENOMEM, "no memory for the VM's threads");
        s->maker = pthread_self();
        lock_init(&s->turn);
        lock_init(&s->lock);
        cond_init(&s->changed);

        int rc = sandbox_new(mode, &s->sandbox, e);

        if (rc == 0)
                rc = start_starter(s, e);
        if (rc < 0)
                starter_free(s);
        else
                *ret = s;
        return rc;
}

void starter_free(struct starter *s)
{
        if (!s)
                return;
        if (s->runs) {
                lock_acquire(&s->lock);
                s->ends = true;
                cond_broadcast(&s->changed);
                lock_release(&s->lock);
                pthread_join(s->thread, NULL);
        }
        cond_fini(&s->changed);
        lock_fini(&s->lock);
        lock_fini(&s->turn);
        sandbox_free(s->sandbox);
        free(s);
}
