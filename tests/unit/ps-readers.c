/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-READER: from the moment that a client is told of its lease until that ends no
 *       worker is at its userfaultfds; a lease ends with its socket, and not before all that
 *       was passed on is read; a packet that is not whole, or names what is not the
 *       client's, ends the feed and nothing else.
 * Method: the states step by step, a table of packets, and workers that come and go without
 *         pause through many leases. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/psfault.h"
#include "pageserver/client.h"
#include "pageserver/session-priv.h"
#include "tests/unit/suite.h"

#define HVA 0x7f0000000000ull
#define BYTES (1ull << 20)
#define ROUNDS 2000

struct rig {
        struct session_host host;
        struct session *session;
        struct regions *regions;
        int client;                     /* its end of the lease */
};

static _Atomic unsigned pokes;

static void count_poke(struct session_host *host)
{
        (void)host;
        atomic_fetch_add(&pokes, 1);
}

static void rig_up(struct rig *r)
{
        const struct psmsg_attach a = {
                .nuffds = 1, .nregions = 1, .region[0] = { .hva = HVA, .bytes = BYTES },
        };
        int sock = -1;

        *r = (struct rig){ .host.poke = count_poke, .client = -1 };
        atomic_store(&pokes, 0);
        ASSERT(session_new(&r->host, &sock, 0, &r->session, NULL) == 0);
        ASSERT(regions_new(&a, BYTES, 4096, &r->regions, NULL) == 0);
}

static void rig_down(struct rig *r)
{
        fd_close(&r->client);
        session_free(r->session);
        regions_free(r->regions);
}

static int lease_with(struct rig *r, int kind, uint64_t number, struct err *e)
{
        const struct feed like = {
                .ops = &feed_lease, .regions = r->regions, .session = r->session,
        };
        int pair[2];

        ASSERT(socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, pair) == 0);

        AUTO_FD ours = pair[0];
        AUTO_FD theirs = pair[1];
        int rc = readers_lease(session_readers(r->session), &like, number, &theirs, e);

        if (rc == 0) {
                CU_ASSERT(theirs < 0);
                fd_close(&r->client);
                r->client = fd_take(&ours);
        }
        return rc;
}

static int lease(struct rig *r)
{
        struct err e;

        return lease_with(r, SOCK_SEQPACKET, 1, &e);
}

static int read_lease(struct rig *r, uint64_t gpa[FEED_BATCH_MAX])
{
        struct feed *f = session_feed(r->session, 0, POLL_LEASE, 0);

        return f->ops->read(f, 0, gpa);
}

/* ---- the feed ------------------------------------------------------------------- */

static void faults_are_read(void)
{
        uint64_t hva[PSFAULT_MAX + 3];
        uint64_t gpa[FEED_BATCH_MAX];
        struct rig r;

        rig_up(&r);
        CU_ASSERT_EQUAL_FATAL(lease(&r), 0);
        CU_ASSERT_EQUAL(read_lease(&r, gpa), 0);
        for (size_t i = 0; i < ARRAY_SIZE(hva); i++)
                hva[i] = HVA + i * 4096 + i;
        CU_ASSERT_EQUAL(ps_lease_pass(r.client, hva, ARRAY_SIZE(hva)), ARRAY_SIZE(hva));
        CU_ASSERT_EQUAL(read_lease(&r, gpa), PSFAULT_MAX);
        CU_ASSERT_EQUAL(gpa[1], 4097);
        fd_close(&r.client);
        CU_ASSERT_EQUAL(read_lease(&r, gpa), 3);        /* it had been passed on */
        CU_ASSERT_EQUAL(gpa[2], (PSFAULT_MAX + 2) * 4097);
        CU_ASSERT_EQUAL(atomic_load(&pokes), 0);
        CU_ASSERT_EQUAL(read_lease(&r, gpa), 0);
        CU_ASSERT_EQUAL(atomic_load(&pokes), 1);
        CU_ASSERT_EQUAL(readers_poll(session_readers(r.session)), POLL_UFFDS);
        rig_down(&r);
}

static void a_full_socket_takes_no_more(void)
{
        uint64_t hva[PSFAULT_MAX];
        ssize_t n;
        unsigned sent = 0;
        struct rig r;

        rig_up(&r);
        for (size_t i = 0; i < ARRAY_SIZE(hva); i++)
                hva[i] = HVA;
        CU_ASSERT_EQUAL_FATAL(lease(&r), 0);
        while ((n = ps_lease_pass(r.client, hva, ARRAY_SIZE(hva))) > 0 && sent < 1000000)
                sent++;
        CU_ASSERT_EQUAL(n, 0);
        CU_ASSERT(sent > 32);           /* more vCPUs than those have at once */
        rig_down(&r);
}

static void bad_packets(void)
{
        static const struct {
                size_t bytes;
                uint64_t hva;
                int rc;
        } bad[] = {
                { 1, HVA, -EBADMSG }, { 7, HVA, -EBADMSG }, { 9, HVA, -EBADMSG },
                { PSFAULT_BYTES_MAX + 8, HVA, -EBADMSG }, { 4096, HVA, -EBADMSG },
                { 8, 0, -EFAULT }, { 8, HVA - 1, -EFAULT }, { 8, HVA + BYTES, -EFAULT },
                { 8, UINT64_MAX, -EFAULT }, { PSFAULT_BYTES_MAX, HVA + BYTES, -EFAULT },
        };
        uint64_t gpa[FEED_BATCH_MAX];
        uint64_t packet[4096 / 8];

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct rig r;

                rig_up(&r);
                CU_ASSERT_EQUAL_FATAL(lease(&r), 0);
                for (size_t k = 0; k < ARRAY_SIZE(packet); k++)
                        packet[k] = bad[i].hva;
                ASSERT(send(r.client, packet, bad[i].bytes, 0) == (ssize_t)bad[i].bytes);
                CU_ASSERT_EQUAL(read_lease(&r, gpa), bad[i].rc);
                rig_down(&r);
        }
}

/* ---- states ----------------------------------------------------------------------- */

static void step_by_step(void)
{
        uint64_t gpa[FEED_BATCH_MAX];
        struct rig r;

        rig_up(&r);

        struct readers *rd = session_readers(r.session);

        CU_ASSERT(readers_come(rd, POLL_UFFDS) && readers_come(rd, POLL_UFFDS));
        CU_ASSERT_EQUAL(lease(&r), 0);
        CU_ASSERT_EQUAL(readers_look(rd), READERS_SAME);
        CU_ASSERT_FALSE(readers_come(rd, POLL_UFFDS));
        CU_ASSERT_FALSE(readers_leave(rd, POLL_UFFDS));
        CU_ASSERT_TRUE(readers_come(rd, POLL_LEASE));
        CU_ASSERT_EQUAL(readers_look(rd), READERS_SAME);
        CU_ASSERT_TRUE(readers_leave(rd, POLL_UFFDS));
        CU_ASSERT_EQUAL(readers_look(rd), READERS_TELL);
        CU_ASSERT_TRUE(readers_leased(rd));
        CU_ASSERT_EQUAL(readers_look(rd), READERS_SAME);

        fd_close(&r.client);
        CU_ASSERT_EQUAL(read_lease(&r, gpa), 0);
        CU_ASSERT_EQUAL(readers_look(rd), READERS_KICK);
        CU_ASSERT_EQUAL(readers_look(rd), READERS_SAME);
        CU_ASSERT_FALSE(readers_come(rd, POLL_LEASE));
        CU_ASSERT_TRUE(readers_leave(rd, POLL_LEASE));
        CU_ASSERT_EQUAL(readers_look(rd), READERS_KICK);
        CU_ASSERT(rd->feed.fd < 0);
        CU_ASSERT_TRUE(readers_come(rd, POLL_UFFDS));
        CU_ASSERT_FALSE(readers_leave(rd, POLL_UFFDS));
        rig_down(&r);
}

static void one_at_a_time(void)
{
        uint64_t gpa[FEED_BATCH_MAX];
        struct err e;
        struct rig r;

        rig_up(&r);

        struct readers *rd = session_readers(r.session);

        CU_ASSERT_EQUAL(lease_with(&r, SOCK_STREAM, 1, &e), -EINVAL);
        CU_ASSERT_EQUAL(lease_with(&r, SOCK_DGRAM, 1, &e), -EINVAL);
        CU_ASSERT_EQUAL(lease_with(&r, SOCK_SEQPACKET, 1, &e), 0);
        CU_ASSERT(readers_come(rd, POLL_LEASE));
        CU_ASSERT_EQUAL(lease_with(&r, SOCK_SEQPACKET, 2, &e), -EBUSY);

        fd_close(&r.client);                    /* not seen yet by any worker */
        CU_ASSERT_EQUAL(lease_with(&r, SOCK_SEQPACKET, 3, &e), 0);
        CU_ASSERT_EQUAL(lease_with(&r, SOCK_SEQPACKET, 4, &e), -EBUSY);
        fd_close(&r.client);
        CU_ASSERT_EQUAL(lease_with(&r, SOCK_SEQPACKET, 5, &e), 0);
        CU_ASSERT_EQUAL(readers_look(rd), READERS_TELL);
        CU_ASSERT_EQUAL(rd->number, 1);
        CU_ASSERT_EQUAL(read_lease(&r, gpa), 0);
        CU_ASSERT_EQUAL(readers_look(rd), READERS_KICK);
        CU_ASSERT(readers_leave(rd, POLL_LEASE));
        CU_ASSERT_EQUAL(readers_look(rd), READERS_KICK);
        CU_ASSERT_EQUAL(readers_look(rd), READERS_TELL);
        CU_ASSERT_EQUAL(rd->number, 5);
        rig_down(&r);
}

/* ---- without pause ------------------------------------------------------------------ */

struct racer {
        struct rig *rig;
        pthread_t thread;
};

static _Atomic bool stop;
static _Atomic bool leased;
static _Atomic unsigned wrong;

static void at_work(struct rig *r, enum readers_poll what)
{
        uint64_t gpa[FEED_BATCH_MAX];
        struct feed *f = session_feed(r->session, 0, POLL_LEASE, 0);

        if (what == POLL_UFFDS && atomic_load(&leased))
                atomic_fetch_add(&wrong, 1);
        if (what == POLL_LEASE && !atomic_load(&f->broken))
                (void)f->ops->read(f, 0, gpa);
        sched_yield();
        if (what == POLL_UFFDS && atomic_load(&leased))
                atomic_fetch_add(&wrong, 1);
}

static void *race(void *arg)
{
        struct racer *me = arg;
        struct readers *rd = session_readers(me->rig->session);

        while (!atomic_load(&stop)) {
                enum readers_poll what = readers_poll(rd);

                if (!readers_come(rd, what))
                        continue;
                at_work(me->rig, what);
                (void)readers_leave(rd, what);
        }
        return NULL;
}

static void look_until(struct readers *rd, bool told)
{
        enum readers_news news;

        do {
                news = readers_look(rd);
                sched_yield();
        } while (told ? news != READERS_TELL : atomic_load(&rd->state) != READERS_UFFDS);
}

static void come_and_go(void)
{
        struct racer racer[3];
        struct rig r;

        rig_up(&r);
        r.host.workers = 1;
        for (size_t i = 0; i < ARRAY_SIZE(racer); i++) {
                racer[i].rig = &r;
                ASSERT(pthread_create(&racer[i].thread, NULL, race, &racer[i]) == 0);
        }
        for (unsigned i = 0; i < ROUNDS; i++) {
                CU_ASSERT_EQUAL_FATAL(lease(&r), 0);
                look_until(session_readers(r.session), true);
                atomic_store(&leased, true);
                sched_yield();
                atomic_store(&leased, false);
                fd_close(&r.client);
                look_until(session_readers(r.session), false);
        }
        atomic_store(&stop, true);
        for (size_t i = 0; i < ARRAY_SIZE(racer); i++)
                pthread_join(racer[i].thread, NULL);
        CU_ASSERT_EQUAL(atomic_load(&wrong), 0);
        rig_down(&r);
}

static const CU_TestInfo cases[] = {
        { "faults that are passed on are read, to the end", faults_are_read },
        { "a full socket takes no more", a_full_socket_takes_no_more },
        { "bad packets end the feed", bad_packets },
        { "the states of a lease", step_by_step },
        { "one lease at a time", one_at_a_time },
        { "no worker is at the userfaultfds of a holder", come_and_go },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        alarm(60);
        return suite_main("readers", cases);
}
