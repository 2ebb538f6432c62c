/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-PASSED: what is passed on goes to the server that is there; what was dropped while
 *       there was none is faulted anew as soon as there is; and of all answers only that to
 *       the latest question counts.
 * Method: a client of a socket behind which the test itself is the server, a page of memory
 *         that a thread waits for. */
#include "vmm/lease.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/wire/psfault.h"
#include "pageserver/chan.h"
#include "pageserver/uffd.h"
#include "tests/unit/suite.h"

#define PAGE 4096u
#define BYTES (2u << 20)
#define PATIENCE_MS 10000

struct rig {
        char path[32];
        int listener;
        struct ps_client *client;
        int server;                     /* our side of its connection */
        int passed;                     /* the server's end of the lease */
        uint64_t number;                /* of it */
        struct stripes stripes;
        uint8_t *ram;
        pthread_t waiter;
        struct lease lease;
};

static void *touch(void *arg)
{
        (void)*(volatile uint8_t *)arg;
        return NULL;
}

static void meet(struct rig *r)
{
        struct err e;
        int rc = ps_client_connect(r->path, &r->client, &e);

        ASSERT(rc == 0);
        r->server = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
        ASSERT(r->server >= 0);
}

static void part(struct rig *r)
{
        fd_close(&r->passed);
        fd_close(&r->server);
        ps_client_free(r->client);
}

static void listen_at(struct rig *r)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        strcpy(r->path, "lease-test-XXXXXX");
        close(mkstemp(r->path));
        unlink(r->path);
        strcpy(sa.sun_path, r->path);
        r->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        int rc = bind(r->listener, (struct sockaddr *)&sa, sizeof(sa));

        ASSERT(rc == 0 && listen(r->listener, 4) == 0);
}

static void rig_up(struct rig *r)
{
        struct err e;

        *r = (struct rig){ .passed = -1 };
        listen_at(r);
        meet(r);
        r->ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT(r->ram != MAP_FAILED);

        int rc = uffd_open(0, &r->stripes.uffds[0], &e);

        ASSERT(rc == 0);
        r->stripes.nuffds = r->stripes.nregions = 1;
        r->stripes.regions[0] = (struct ps_region){ .hva = (uintptr_t)r->ram, .bytes = BYTES };
        rc = uffd_register_missing(r->stripes.uffds[0], (uintptr_t)r->ram, BYTES, &e);
        ASSERT(rc == 0);
        lease_init(&r->lease);
        rc = pthread_create(&r->waiter, NULL, touch, r->ram + 5 * PAGE);
        ASSERT(rc == 0);
}

static void rig_down(struct rig *r)
{
        lease_end(&r->lease, &r->stripes);
        ASSERT(uffd_zero(r->stripes.uffds[0], (uintptr_t)r->ram, BYTES) == UFFD_DONE);
        pthread_join(r->waiter, NULL);
        lease_fini(&r->lease);
        part(r);
        munmap(r->ram, BYTES);
        stripes_fini(&r->stripes);
        close(r->listener);
        unlink(r->path);
}

/* The fault's message comes, within ms. */
static bool faulted(struct rig *r, int ms, uint64_t *ret_hva)
{
        struct pollfd p = { .fd = r->stripes.uffds[0], .events = POLLIN };
        struct uffd_msg m;

        if (poll(&p, 1, ms) != 1 || uffd_read(p.fd, &m, sizeof(m)) != sizeof(m))
                return false;
        *ret_hva = m.arg.pagefault.address;
        return true;
}

static void take_question(struct rig *r)
{
        static struct psmsg m;
        int fds[FDPASS_FDS_MAX];

        ASSERT(chan_recv(r->server, &m, fds) == 0 && m.type == PSMSG_LEASE);
        fd_close(&r->passed);
        r->passed = fds[0];
        r->number = m.lease;
}

static bool arrives(struct rig *r, uint64_t hva)
{
        uint8_t buf[PSFAULT_BYTES_MAX];
        uint64_t got[PSFAULT_MAX];
        ssize_t n = recv(r->passed, buf, sizeof(buf), MSG_DONTWAIT);

        return n > 0 && psfault_decode(buf, (size_t)n, got) == 1 && got[0] == hva;
}

static int await_moment(struct rig *r, struct err *e)
{
        return lease_await(&r->lease, clock_now_ns() + 20 * NS_PER_MS, e);
}

static void asked_once(void)
{
        uint64_t hva;
        struct err e;
        struct rig r;

        rig_up(&r);
        CU_ASSERT_TRUE(lease_ask(&r.lease, r.client, &r.stripes));
        CU_ASSERT_TRUE_FATAL(faulted(&r, PATIENCE_MS, &hva));
        lease_begin(&r.lease);
        CU_ASSERT_EQUAL(await_moment(&r, &e), -ETIMEDOUT);
        CU_ASSERT(strlen(e.text) > 0);
        CU_ASSERT_TRUE(lease_ask(&r.lease, r.client, &r.stripes));
        take_question(&r);
        CU_ASSERT_TRUE(lease_ask(&r.lease, r.client, &r.stripes));      /* not again */
        CU_ASSERT(recv(r.server, &hva, 1, MSG_DONTWAIT) < 0);
        CU_ASSERT_FALSE(faulted(&r, 20, &hva));         /* nothing was lost */
        lease_granted(&r.lease, r.number + 1);
        CU_ASSERT_EQUAL(await_moment(&r, &e), -ETIMEDOUT);
        lease_granted(&r.lease, r.number);
        CU_ASSERT_EQUAL(await_moment(&r, &e), 0);
        hva = (uintptr_t)r.ram + 5 * PAGE;
        lease_pass(&r.lease, &r.stripes, &hva, 1);
        CU_ASSERT_TRUE(arrives(&r, hva));
        lease_end(&r.lease, &r.stripes);
        CU_ASSERT_EQUAL(recv(r.passed, &hva, 1, MSG_DONTWAIT), 0);
        lease_granted(&r.lease, r.number);              /* too late */
        lease_begin(&r.lease);
        CU_ASSERT_EQUAL(await_moment(&r, &e), -ETIMEDOUT);
        rig_down(&r);
}

static void dropped_and_faulted_anew(void)
{
        uint64_t hva;
        struct err e;
        struct rig r;

        rig_up(&r);
        CU_ASSERT_TRUE_FATAL(faulted(&r, PATIENCE_MS, &hva));
        lease_begin(&r.lease);
        lease_ask(&r.lease, r.client, &r.stripes);
        take_question(&r);
        lease_granted(&r.lease, r.number);

        /* the server dies; that is seen here first */
        part(&r);
        lease_pass(&r.lease, &r.stripes, &hva, 1);
        CU_ASSERT_FALSE(faulted(&r, 20, &hva));
        lease_lost(&r.lease);
        lease_pass(&r.lease, &r.stripes, &hva, 1);      /* to nobody */
        CU_ASSERT_FALSE(faulted(&r, 20, &hva));
        CU_ASSERT_EQUAL(await_moment(&r, &e), 0);       /* its holder notices nothing */

        meet(&r);
        CU_ASSERT_TRUE(lease_ask(&r.lease, r.client, &r.stripes));
        CU_ASSERT_TRUE(faulted(&r, PATIENCE_MS, &hva));
        take_question(&r);
        lease_pass(&r.lease, &r.stripes, &hva, 1);
        CU_ASSERT_TRUE(arrives(&r, hva));
        rig_down(&r);
}

/* what does not fit, too */
static void a_full_socket(void)
{
        uint64_t hva;
        uint64_t many[64];
        struct rig r;

        rig_up(&r);
        CU_ASSERT_TRUE_FATAL(faulted(&r, PATIENCE_MS, &hva));
        lease_begin(&r.lease);
        lease_ask(&r.lease, r.client, &r.stripes);
        take_question(&r);
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = hva;
        for (unsigned i = 0; i < 4000; i++)
                lease_pass(&r.lease, &r.stripes, many, ARRAY_SIZE(many));
        CU_ASSERT_TRUE(faulted(&r, PATIENCE_MS, &hva));
        rig_down(&r);
}

static void nobody_to_ask(void)
{
        struct err e;
        struct rig r;

        rig_up(&r);
        lease_begin(&r.lease);
        part(&r);
        meet(&r);
        fd_close(&r.server);
        CU_ASSERT_TRUE(lease_ask(&r.lease, r.client, &r.stripes));      /* another comes */
        CU_ASSERT_EQUAL(await_moment(&r, &e), -ETIMEDOUT);
        rig_down(&r);
}

static const CU_TestInfo cases[] = {
        { "a lease is asked for once, and one answer counts", asked_once },
        { "what was dropped is faulted anew", dropped_and_faulted_anew },
        { "what does not fit is faulted anew", a_full_socket },
        { "a server that has gone is not the last", nobody_to_ask },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        struct err e;
        int fd;

        if (uffd_open(0, &fd, &e) < 0) {
                printf("skipped: %s\n", e.text);
                return SUITE_SKIP;
        }
        close(fd);
        alarm(60);
        return suite_main("lease", cases);
}
