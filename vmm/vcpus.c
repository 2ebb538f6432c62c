/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpus.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/lock.h"
#include "vmm/starter.h"
#include "vmm/vcpu-exit.h"

/* Theory of operation
 *
 * Whoever wants the guest to stand still raises `pause`, sets immediate_exit of
 * every vCPU and signals its thread. The signal gets a thread out of KVM_RUN;
 * immediate_exit covers the moment before it enters. A thread that comes out
 * with an exit handles it and enters again, because KVM completes an I/O (the
 * register, RIP, the rest of a string instruction) only at the next entry; with
 * immediate_exit set that entry ends with EINTR once nothing is left to
 * complete. Then, and only then, it parks.
 *
 * INV-PARKED: a vCPU that is VCPU_PARKED left KVM_RUN with EINTR (or never
 *             entered, or its guest has ended): its state may be read and
 *             nothing of an I/O is pending.
 * INV-EXIT:   immediate_exit is set by anyone under the lock together with a
 *             reason (pause, stop) and cleared only by the vCPU's own thread, under
 *             the lock, when there is no reason. So no request can be lost.
 *
 * A thread that waits inside KVM for a page of guest memory may not react to
 * the signal before that page has come. Then a pause times out but stands.
 *
 * Hand-offs between threads are most of what stopping costs. So only the last vCPU to
 * park wakes whoever pauses, and parked vCPUs, with a condition of their own, are woken
 * by resume and stop alone. Spinning for a moment before sleeping gains 10 us on an idle
 * host; on a busy one yielding costs turns of milliseconds, and not yielding too.
 */

/* PARKED   waits for resume or stop; its vCPU may be read by others
 *          -> RUNNING  its own thread, after vcpus_resume()
 * RUNNING  in KVM_RUN or handling an exit
 *          -> PARKED   its own thread
 * GONE     has left, or was never started: may be joined                     */
enum vcpu_state { VCPU_GONE, VCPU_PARKED, VCPU_RUNNING, VCPU_STATES };

/* Real-time signals are queued, and the queue of a user is bounded
 * (RLIMIT_SIGPENDING): sending can fail and is repeated. */
#define KICK_AGAIN_NS (20 * NS_PER_MS)

struct vcpu {
        /* constant once the thread runs */
        struct vcpus *all;
        unsigned index;
        pthread_t thread;
        /* all->lock */
        enum vcpu_state state;
        bool joinable;
        /* written by its own thread alone */
        _Atomic uint64_t exits;
};

struct vcpus {
        /* constant */
        struct kvm *kvm;
        struct platform *platform;
        struct vcpus_ops ops;

        struct lock lock;
        struct cond changed;                            /* any of the below, for who waits */
        struct cond go;                                 /* for parked vCPUs: resume or stop */
        bool pause                      GUARDED_BY(lock);
        bool stop                       GUARDED_BY(lock);
        bool ended                      GUARDED_BY(lock);       /* pause for ever */
        uint64_t first_entry_ns         GUARDED_BY(lock);       /* of vCPU 0; 0 = not yet */
        unsigned in_state[VCPU_STATES]  GUARDED_BY(lock);       /* how many vCPUs */
        struct vcpu vcpu[VCPUS_MAX];
};

static int kick_signal(void)
{
        return SIGRTMIN;
}

/* ---- asking the threads to leave KVM ------------------------------------- */

static void set_immediate_exit(struct vcpu *c, uint8_t v)
{
        __atomic_store_n(&c->all->kvm->run[c->index]->immediate_exit, v, __ATOMIC_RELEASE);
}

static void kick_all_locked(struct vcpus *v) REQUIRES(v->lock)
{
        ASSERT(v->pause || v->stop);
        for (unsigned i = 0; i < v->kvm->cpus; i++) {
                struct vcpu *c = &v->vcpu[i];

                set_immediate_exit(c, 1);
                if (c->state == VCPU_RUNNING && !pthread_equal(c->thread, pthread_self()))
                        (void)pthread_kill(c->thread, kick_signal());
        }
        cond_broadcast(&v->changed);
}

static void move_locked(struct vcpus *v, struct vcpu *c, enum vcpu_state state)
        REQUIRES(v->lock)
{
        v->in_state[c->state]--;
        v->in_state[state]++;
        c->state = state;
}

/* Keeps kicking. False at the deadline, or when the request was withdrawn. */
static bool wait_until_none_locked(struct vcpus *v, enum vcpu_state state, uint64_t deadline_ns)
        REQUIRES(v->lock)
{
        while (v->in_state[state] > 0) {
                uint64_t now_ns = clock_now_ns();

                if (now_ns >= deadline_ns || !(v->pause || v->stop))
                        return false;
                if (!cond_wait_until(&v->changed, &v->lock,
                                     MIN(deadline_ns, now_ns + KICK_AGAIN_NS)) &&
                    (v->pause || v->stop))
                        kick_all_locked(v);
        }
        return true;
}

/* ---- the vCPU's thread --------------------------------------------------- */

static bool end_locked(struct vcpus *v) REQUIRES(v->lock)
{
        bool first = !v->ended;

        v->ended = v->pause = true;
        kick_all_locked(v);
        return first;
}

static void end(struct vcpus *v, const struct vcpu_end *end)
{
        lock_acquire(&v->lock);
        bool first = end_locked(v);
        lock_release(&v->lock);
        if (first)
                v->ops.ended(v->ops.ctx, end->why, end->text);
}

/* Whether to enter again: an I/O may wait for its completion. */
static bool handle_exit(struct vcpu *c)
{
        struct vcpus *v = c->all;
        struct vcpu_end why;
        bool go_on = vcpu_exit(v->kvm, v->platform, c->index, &why);

        if (!go_on)
                end(v, &why);
        return go_on;
}

static void end_run_failed(struct vcpu *c, int errnum)
{
        struct vcpu_end why;

        vcpu_exit_failed(c->all->kvm, c->index, errnum, &why);
        end(c->all, &why);
}

static void count_exit(struct vcpu *c)
{
        uint64_t n = atomic_load_explicit(&c->exits, memory_order_relaxed);

        atomic_store_explicit(&c->exits, n + 1, memory_order_relaxed);
}

uint64_t vcpus_exits(const struct vcpus *v)
{
        uint64_t n = 0;

        for (unsigned i = 0; i < VCPUS_MAX; i++)
                n += atomic_load_explicit(&v->vcpu[i].exits, memory_order_relaxed);
        return n;
}

/* Until INV-PARKED holds. */
static void run_guest(struct vcpu *c)
{
        int fd = c->all->kvm->vcpu_fd[c->index];

        for (;;) {
                int rc = ioctl(fd, KVM_RUN, 0);

                if (rc == 0) {
                        count_exit(c);
                        if (!handle_exit(c))
                                return;
                } else if (errno == EINTR) {
                        return;
                } else if (errno != EAGAIN) {   /* EAGAIN: an AP between INIT and SIPI */
                        end_run_failed(c, errno);
                        return;
                }
        }
}

static bool park_locked(struct vcpus *v, struct vcpu *c) REQUIRES(v->lock)
{
        if (v->pause || v->stop) {
                move_locked(v, c, VCPU_PARKED);
                if (v->in_state[VCPU_RUNNING] == 0)
                        cond_broadcast(&v->changed);
                while (v->pause && !v->stop)
                        cond_wait(&v->go, &v->lock);
        }
        if (v->stop) {
                move_locked(v, c, VCPU_GONE);
                cond_broadcast(&v->changed);
                return false;
        }
        set_immediate_exit(c, 0);       /* INV-EXIT */
        move_locked(v, c, VCPU_RUNNING);
        if (c->index == 0 && v->first_entry_ns == 0) {
                v->first_entry_ns = clock_now_ns();
                cond_broadcast(&v->changed);
        }
        return true;
}

/* Unless the request that ended KVM_RUN is withdrawn. false when the thread shall end. */
static bool park(struct vcpu *c)
{
        struct vcpus *v = c->all;

        lock_acquire(&v->lock);
        bool go_on = park_locked(v, c);
        lock_release(&v->lock);
        return go_on;
}

static void *vcpu_main(void *arg)
{
        struct vcpu *c = arg;

        while (park(c))
                run_guest(c);
        return NULL;
}

/* ---- control ------------------------------------------------------------- */

int vcpus_new(struct kvm *kvm, struct platform *platform, const struct vcpus_ops *ops,
              struct vcpus **ret, struct err *e)
{
        struct vcpus *v = calloc(1, sizeof(*v));

        ASSERT(ops->ended && kvm->cpus >= 1 && kvm->cpus <= VCPUS_MAX);
        if (!v)
                return err_msg(e, ENOMEM, "no memory for the vCPUs");
        v->kvm = kvm;
        v->platform = platform;
        v->ops = *ops;
        lock_init(&v->lock);
        cond_init(&v->changed);
        cond_init(&v->go);
        for (unsigned i = 0; i < kvm->cpus; i++)
                v->vcpu[i] = (struct vcpu){ .all = v, .index = i };

        lock_acquire(&v->lock);
        v->in_state[VCPU_GONE] = kvm->cpus;
        v->pause = true;
        kick_all_locked(v);
        lock_release(&v->lock);
        *ret = v;
        return 0;
}

static void on_kick(int sig)
{
        (void)sig;                      /* its only effect is to end KVM_RUN with EINTR */
}

/* The new thread takes no signal but the kick: the others are for the event loop. */
static int start_thread_locked(struct vcpus *v, struct vcpu *c) REQUIRES(v->lock)
{
        char name[16];
        const struct starter_thread thread = {
                .role = SANDBOX_VCPU, .name = name, .run = vcpu_main, .ctx = c,
        };
        sigset_t mask, before;

        snprintf(name, sizeof(name), "vcpu%u", c->index);
        sigfillset(&mask);
        sigdelset(&mask, kick_signal());
        pthread_sigmask(SIG_SETMASK, &mask, &before);
        move_locked(v, c, VCPU_PARKED);

        int rc = starter_start(v->ops.starter, &thread, &c->thread);

        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (rc != 0) {
                move_locked(v, c, VCPU_GONE);
                return rc;
        }
        c->joinable = true;
        return 0;
}

int vcpus_start(struct vcpus *v, struct err *e)
{
        /* system calls of a console callback go on; KVM_RUN never restarts */
        struct sigaction action = { .sa_handler = on_kick, .sa_flags = SA_RESTART };
        int rc = 0;

        if (sigaction(kick_signal(), &action, NULL) < 0)
                return err_set(e, errno, "sigaction");

        /* under the lock: a new thread waits until its handle is stored */
        lock_acquire(&v->lock);
        for (unsigned i = 0; rc == 0 && i < v->kvm->cpus; i++)
                rc = start_thread_locked(v, &v->vcpu[i]);
        lock_release(&v->lock);
        if (rc == 0)
                return 0;
        (void)vcpus_stop(v, UINT64_MAX);        /* parked threads leave at once */
        return err_set(e, rc, "start vCPU threads");
}

static void resume_locked(struct vcpus *v) REQUIRES(v->lock)
{
        if (v->ended || v->stop)
                return;
        v->pause = false;
        cond_broadcast(&v->changed);
}

void vcpus_resume(struct vcpus *v)
{
        lock_acquire(&v->lock);
        resume_locked(v);
        lock_release(&v->lock);
        cond_broadcast(&v->go);         /* they want the lock */
}

static int pause_locked(struct vcpus *v, uint64_t deadline_ns, struct err *e) REQUIRES(v->lock)
{
        char list[VCPUS_MAX * 4] = "";
        size_t at = 0;

        v->pause = true;
        kick_all_locked(v);

        bool parked = wait_until_none_locked(v, VCPU_RUNNING, deadline_ns);

        if (!v->pause)
                return err_msg(e, ECANCELED, "the guest was resumed while it was pausing");
        if (parked)
                return 0;
        for (unsigned i = 0; i < v->kvm->cpus; i++) {
                if (v->vcpu[i].state == VCPU_RUNNING)
                        at += (size_t)snprintf(list + at, sizeof(list) - at, " %u", i);
        }
        return err_msg(e, ETIMEDOUT, "the guest is still pausing: vCPU%s wait%s for memory that "
                       "has not come yet", list, strlen(list) > 2 ? "" : "s");
}

int vcpus_pause(struct vcpus *v, uint64_t deadline_ns, struct err *e)
{
        lock_acquire(&v->lock);
        int rc = pause_locked(v, deadline_ns, e);
        lock_release(&v->lock);
        return rc;
}

bool vcpus_paused(struct vcpus *v)
{
        lock_acquire(&v->lock);
        bool paused = v->pause && v->in_state[VCPU_RUNNING] == 0;
        lock_release(&v->lock);
        return paused;
}

void vcpus_revive(struct vcpus *v)
{
        lock_acquire(&v->lock);
        ASSERT(v->pause && v->in_state[VCPU_RUNNING] == 0);
        v->ended = false;
        lock_release(&v->lock);
}

static bool stop_locked(struct vcpus *v, uint64_t deadline_ns) REQUIRES(v->lock)
{
        v->stop = true;
        kick_all_locked(v);
        cond_broadcast(&v->go);
        return wait_until_none_locked(v, VCPU_RUNNING, deadline_ns) &&
               wait_until_none_locked(v, VCPU_PARKED, deadline_ns);
}

int vcpus_stop(struct vcpus *v, uint64_t deadline_ns)
{
        lock_acquire(&v->lock);
        bool all_gone = stop_locked(v, deadline_ns);
        lock_release(&v->lock);
        if (!all_gone)
                return -ETIMEDOUT;
        for (unsigned i = 0; i < v->kvm->cpus; i++) {
                if (v->vcpu[i].joinable)
                        pthread_join(v->vcpu[i].thread, NULL);
                v->vcpu[i].joinable = false;
        }
        return 0;
}

void vcpus_free(struct vcpus *v)
{
        if (!v)
                return;
        for (unsigned i = 0; i < VCPUS_MAX; i++)
                ASSERT(!v->vcpu[i].joinable);   /* stop first */
        cond_fini(&v->changed);
        cond_fini(&v->go);
        lock_fini(&v->lock);
        free(v);
}

static uint64_t first_entry_locked(struct vcpus *v) REQUIRES(v->lock)
{
        while (v->first_entry_ns == 0 && !v->pause && !v->stop)
                cond_wait(&v->changed, &v->lock);
        return v->first_entry_ns;
}

uint64_t vcpus_first_entry_ns(struct vcpus *v)
{
        lock_acquire(&v->lock);
        uint64_t at_ns = first_entry_locked(v);
        lock_release(&v->lock);
        return at_ns;
}
