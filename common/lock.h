/* SPDX-License-Identifier: Apache-2.0 */
/* lock.h - mutexes that know their owner, and the one list of lock order.
 *
 * Use: lock_acquire/lock_release stand only in short public functions; the
 * work is in a helper named *_locked with REQUIRES(the lock). lock_held() is
 * for ASSERT where the analysis cannot see.
 *
 * Lock order, outermost first; never taken the other way round:
 *   1. vm->control_lock   (vmm: one control action at a time)
 *   2. vcpus->lock        (vmm: run/pause state of the vCPU threads)
 *   3. machine->lock      (vmm: emulated devices)
 *   4. server->lock       (pageserver: table of sessions)
 *   5. fillmap->lock      (pageserver: waiters for clusters)
 *   6. stage->lock        (qemu-snapshot: pages that wait to be written)
 *   7. placer->lock       (qcowstore: file offsets during a save)
 *   8. audit->lock        (qcowstore: findings of a check)
 *   9. build->lock        (qcowstore: contents of a pool without index)
 *  10. session->lock      (qemu-snapshot: whether pages may be pushed)
 *  11. fetch->lock        (qemu-snapshot: requests and loads)
 *  12. progress->lock     (the line on the terminal)
 *  13. staging->lock      (vmm: memory for pages copied aside)
 *  14. giveback->lock     (vmm: whether the guest's memory may be given back)
 *  15. net->lock          (vmm: link of a network device)
 *  16. slot->access       (vmm: a virtio driver's access, for as long as a reset takes)
 *  17. slot->making       (vmm: the thread of a virtio device)
 *  18. device->lock       (vmm: its registers and configuration)
 *  19. bus->lock          (vmm: which virtio devices run)
 *  20. later->lock        (qcowstore: parents that are opened when they are needed)
 */
#ifndef COMMON_LOCK_H
#define COMMON_LOCK_H

#include <pthread.h>
#include <stdbool.h>

#ifdef __clang__
#define TSA(x) __attribute__((x))
#else
#define TSA(x)
#endif
#define CAPABILITY TSA(capability("mutex"))
#define GUARDED_BY(l) TSA(guarded_var)
#define REQUIRES(l) TSA(requires_capability(l))
#define ACQUIRES(l) TSA(acquire_capability(l))
#define RELEASES(l) TSA(release_capability(l))
#define NO_TSA TSA(no_thread_safety_analysis)

struct CAPABILITY lock {
        pthread_mutex_t mutex;
        _Atomic(pthread_t) owner;
        _Atomic bool held;
};

struct cond {
        pthread_cond_t cond;            /* CLOCK_MONOTONIC */
};

void lock_init(struct lock *l);
void lock_fini(struct lock *l);
void lock_acquire(struct lock *l) ACQUIRES(*l);
void lock_release(struct lock *l) RELEASES(*l);
bool lock_held(struct lock *l);

void cond_init(struct cond *c);
void cond_fini(struct cond *c);
void cond_wait(struct cond *c, struct lock *l) REQUIRES(*l);
/* false once deadline_ns (clock_now_ns) has passed */
bool cond_wait_until(struct cond *c, struct lock *l, unsigned long long deadline_ns)
        REQUIRES(*l);
void cond_broadcast(struct cond *c);

#endif
