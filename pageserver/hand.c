/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/hand.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/placement.h"

struct hand {
        /* set before the thread starts, constant after */
        struct session_host *host;
        bool ahead;
        bool inherits;                  /* the main thread has entered its sandbox */
        pthread_t thread;

        /* the thread only */
        struct serve_ctx ctx;           /* but ctx.busy, see there */

        /* main thread; the thread reads it after `go`, and no more once relieved */
        struct worker *worker;
        /* main thread, before it relieves; then the thread */
        struct session *owed;

        /* thread until it has posted, then the main thread */
        sem_t entered;
        struct err enter_err;           /* code 0: it has entered its sandbox */

        sem_t go;                       /* main thread: worker is set, or is not to come */
        _Atomic bool done;
};

/* INV-CONFINED. What is left then does not lower a priority. */
static bool enter(struct hand *h)
{
        const struct sandbox *sandbox = h->host->sandbox;

        if (h->ahead)
                place_ahead();

        int rc = h->inherits ? ps_sandbox_narrow(sandbox, &h->enter_err)
                             : ps_sandbox_enter(sandbox, SANDBOX_WORKER, &h->enter_err);

        sem_post(&h->entered);
        return rc == 0;
}

static void await(sem_t *sem)
{
        while (sem_wait(sem) < 0)
                ASSERT(errno == EINTR);
}

static void *run(void *arg)
{
        struct hand *h = arg;
        struct session_host *host = h->host;

        if (!enter(h))
                return NULL;
        await(&h->go);

        struct worker *w = h->worker;

        if (!w)
                return NULL;
        h->ctx.worker = worker_index(w);
        if (!h->ahead)
                place_demand(h->ctx.worker, host->pinned);

        bool relieved = !worker_serve(w, &h->ctx);

        if (relieved)
                session_release(h->owed);
        atomic_store(&h->done, true);
        if (relieved)
                host->poke(host);
        return NULL;
}

/* ---- start and end ------------------------------------------------------------ */

void hand_free(struct hand *h)
{
        if (!h)
                return;
        if (h->ctx.buf && h->ctx.buf != MAP_FAILED)
                munmap(h->ctx.buf, BRING_BUF_BYTES);
        sem_destroy(&h->entered);
        sem_destroy(&h->go);
        free(h);
}

/* signals are the main thread's */
static int start_thread(struct hand *h)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);

        int rc = pthread_create(&h->thread, NULL, run, h);

        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -rc;
}

int hand_start(struct session_host *host, unsigned number, bool ahead, struct hand **ret,
               struct err *e)
{
        struct hand *h = calloc(1, sizeof(*h));

        if (!h)
                return err_set(e, ENOMEM, "thread");
        h->host = host;
        h->ahead = ahead;
        h->inherits = host->confined;
        h->ctx.hand = number;
        h->ctx.buf = mmap(NULL, BRING_BUF_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sem_init(&h->entered, 0, 0);
        sem_init(&h->go, 0, 0);

        int rc = h->ctx.buf == MAP_FAILED ? -errno : start_thread(h);

        if (rc < 0) {
                hand_free(h);
                return err_set(e, -rc, "cannot start thread %u", number);
        }
        *ret = h;
        return 0;
}

int hand_ready(struct hand *h, struct err *e)
{
        await(&h->entered);
        if (h->enter_err.code < 0 && e)
                *e = h->enter_err;
        return h->enter_err.code;
}

void hand_put(struct hand *h, struct worker *w)
{
        ASSERT(!h->worker && !h->owed);
        h->worker = w;
        sem_post(&h->go);
}

/* pthread_timedjoin_np() goes by the wall clock, which may be set meanwhile: then it is
 * a little more or less patience. */
bool hand_join(struct hand *h, uint64_t deadline_ns)
{
        uint64_t now_ns = clock_now_ns();

        if (!h->worker && !h->owed)
                sem_post(&h->go);
        if (deadline_ns == UINT64_MAX)
                return pthread_join(h->thread, NULL) == 0;

        uint64_t until_ns = clock_wall_ns() + (deadline_ns > now_ns ? deadline_ns - now_ns : 0);
        const struct timespec until = {
                .tv_sec = (time_t)(until_ns / NS_PER_SEC), .tv_nsec = (long)(until_ns % NS_PER_SEC),
        };

        if (pthread_timedjoin_np(h->thread, NULL, &until) == 0)
                return true;
        pthread_detach(h->thread);
        return false;
}

/* ---- looking at it --------------------------------------------------------------- */

unsigned hand_number(const struct hand *h)
{
        return h->ctx.hand;
}

struct worker *hand_worker(const struct hand *h)
{
        return h->owed ? NULL : h->worker;
}

bool hand_done(const struct hand *h)
{
        return atomic_load(&h->done);
}

struct busy_look hand_look(const struct hand *h)
{
        return busy_look(&h->ctx.busy);
}

/* INV-QUIET: the session is held for it before anybody else may let go. */
struct worker *hand_relieve(struct hand *h, const struct busy_look *look)
{
        ASSERT(look->at_work && !h->owed);
        session_hold(look->session);
        h->owed = look->session;
        if (busy_relieve(&h->ctx.busy, look))
                return h->worker;
        h->owed = NULL;
        session_release(look->session);
        return NULL;
}
