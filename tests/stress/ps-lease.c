/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-READER and INV-PASSED: while the monitor holds the reader lease its page server
 *       reads no userfaultfd, nor does one that comes in its place; whatever the monitor
 *       passes on is served; what it has protected only it hears of; and nobody waits for
 *       ever, whenever leases begin and end and servers are killed.
 * Method: a pager and RAM without a VM, over the fake store, whose private servers are this
 *       program. First each promise alone; then guest threads that write, read and throw
 *       away, through leases of random length with random parts of RAM protected, and kills
 *       at random. Every word of every page is looked at. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/uffd.h"
#include "tests/stress/pager-vm.h"
#include "tests/stress/touch.h"

#define PAGE 4096u
#define PAGES (RAM_BYTES_MIN / PAGE)
#define GUESTS 4
#define READERS 2
#define LEASES 60
#define PATIENCE_NS (30 * NS_PER_SEC)

/* ---- protection -------------------------------------------------------------------- */

static void lease(struct vm *vm)
{
        const struct pager_patience patience = { .deadline_ns = clock_now_ns() + PATIENCE_NS };
        struct err e;

        MUST(pager_lease(vm->pager, &patience, &e), &e);
}

static void protect_all(struct vm *vm, bool on)
{
        const struct stripes *s = pager_stripes(vm->pager);

        for (size_t i = 0; i < s->nregions; i++)
                TEST(uffd_protect(s->uffds[s->regions[i].uffd], s->regions[i].hva,
                                  s->regions[i].bytes, on) == UFFD_DONE);
}

static void register_all(struct vm *vm)
{
        const struct stripes *s = pager_stripes(vm->pager);
        struct err e;

        for (size_t i = 0; i < s->nregions; i++)
                MUST(uffd_register_protect(s->uffds[s->regions[i].uffd], s->regions[i].hva,
                                           s->regions[i].bytes, true, &e), &e);
}

/* ---- who holds the lease: reads, answers, passes on ----------------------------------- */

struct guard {
        struct vm *vm;
        int stop_fd;
        pthread_t thread[READERS];
        _Atomic unsigned writes;
        _Atomic unsigned passed;
};

static void answer(struct guard *g, int uffd, const struct uffd_msg *m)
{
        uint64_t hva = m->arg.pagefault.address;

        if (!(m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)) {
                pager_pass(g->vm->pager, &hva, 1);
                atomic_fetch_add(&g->passed, 1);
                return;
        }
        atomic_fetch_add(&g->writes, 1);
        (void)uffd_protect(uffd, ALIGN_DOWN(hva, (uint64_t)PAGE), PAGE, false);
}

static void *guard_thread(void *arg)
{
        struct guard *g = arg;
        const struct stripes *s = pager_stripes(g->vm->pager);
        struct pollfd p[STRIPES_UFFDS_MAX + 1];

        for (size_t i = 0; i < s->nuffds; i++)
                p[i] = (struct pollfd){ .fd = s->uffds[i], .events = POLLIN };
        p[s->nuffds] = (struct pollfd){ .fd = g->stop_fd, .events = POLLIN };
        while (poll(p, s->nuffds + 1, -1) > 0 && !p[s->nuffds].revents) {
                for (size_t i = 0; i < s->nuffds; i++) {
                        struct uffd_msg m[4];
                        ssize_t n = p[i].revents ? uffd_read(p[i].fd, m, sizeof(m)) : 0;

                        for (size_t k = 0; n > 0 && k < (size_t)n / sizeof(m[0]); k++)
                                answer(g, p[i].fd, &m[k]);
                }
        }
        return NULL;
}

static void guard_start(struct guard *g)
{
        g->stop_fd = eventfd(0, EFD_CLOEXEC);
        for (unsigned i = 0; i < READERS; i++)
                TEST(pthread_create(&g->thread[i], NULL, guard_thread, g) == 0);
}

static void guard_stop(struct guard *g)
{
        uint64_t one = 1;

        TEST(write(g->stop_fd, &one, sizeof(one)) == sizeof(one));
        for (unsigned i = 0; i < READERS; i++)
                TEST(pthread_join(g->thread[i], NULL) == 0);
        fd_close(&g->stop_fd);
}

/* What one message says, which must come. */
static uint64_t read_one(struct vm *vm, bool *ret_write)
{
        const struct stripes *s = pager_stripes(vm->pager);
        uint64_t end_ns = clock_now_ns() + PATIENCE_NS;
        struct uffd_msg m;

        while (clock_now_ns() < end_ns) {
                for (size_t i = 0; i < s->nuffds; i++) {
                        if (uffd_read(s->uffds[i], &m, sizeof(m)) <= 0)
                                continue;
                        *ret_write = m.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP;
                        return m.arg.pagefault.address;
                }
                sleep_ms(1);
        }
        TEST(!"a message comes");
        return 0;
}

/* ---- each promise alone --------------------------------------------------------------------- */

static void nobody_else_reads(struct vm *vm, uint64_t page)
{
        struct touch t;
        bool write;

        touch_start(&t, vm_page(vm, page), false);
        TEST(touch_waits(&t));

        uint64_t hva = read_one(vm, &write);

        TEST(!write && hva / PAGE == (uintptr_t)t.at / PAGE);
        pager_pass(vm->pager, &hva, 1);
        touch_join(&t);
        TEST(fake_page_ok(&vm->image, page * PAGE, t.at));
}

static void server_reads(struct vm *vm, uint64_t page)
{
        struct touch t;

        touch_start(&t, vm_page(vm, page), false);
        touch_join(&t);
        TEST(fake_page_ok(&vm->image, page * PAGE, t.at));
}

static void only_reader(enum ps_lane lane)
{
        struct vm vm;

        vm_up(&vm, lane, 0);
        server_reads(&vm, 100);
        lease(&vm);
        nobody_else_reads(&vm, 1000);
        nobody_else_reads(&vm, 2000);
        pager_lease_end(vm.pager);
        server_reads(&vm, 3000);
        lease(&vm);
        nobody_else_reads(&vm, 4000);

        TEST(kill(vm_server_pid(), SIGKILL) == 0);
        vm_await_restarts(&vm, 1);
        sleep_ms(200);                  /* the next one is asked by itself */
        nobody_else_reads(&vm, 5000);
        pager_lease_end(vm.pager);
        server_reads(&vm, 6000);
        pager_lease_end(vm.pager);      /* does nothing */
        vm_down(&vm);
        printf("ok: one reader at a time in the %s lane\n",
               lane == PS_LANE_COPY ? "copy" : "shared");
}

/* The server has nothing to do with a protected page, and breaks nothing. */
static void protected_without_lease(void)
{
        struct vm vm;
        struct guard g = { .vm = &vm };
        struct touch t;

        vm_up(&vm, PS_LANE_COPY, 0);
        server_reads(&vm, 500);
        register_all(&vm);
        protect_all(&vm, true);
        touch_start(&t, vm_page(&vm, 500), true);
        TEST(touch_waits(&t));
        server_reads(&vm, 1500);
        lease(&vm);
        guard_start(&g);
        touch_join(&t);
        TEST(atomic_load(&g.writes) >= 1);
        protect_all(&vm, false);
        guard_stop(&g);
        pager_lease_end(vm.pager);
        server_reads(&vm, 2500);
        vm_down(&vm);
        printf("ok: protection that nobody asked the server about\n");
}

/* All of its threads. */
static void stop_server(pid_t pid)
{
        siginfo_t si;

        TEST(kill(pid, SIGSTOP) == 0);
        TEST(waitid(P_PID, (id_t)pid, &si, WSTOPPED | WNOWAIT) == 0);
}

static bool gives_up(void *ctx)
{
        (void)ctx;
        return true;
}

/* The server is stopped: until the deadline, or until the caller gives up. */
static void no_lease(struct vm *vm)
{
        struct pager_patience patience = { .deadline_ns = clock_now_ns() + 100 * NS_PER_MS };
        struct err e;

        TEST(pager_lease(vm->pager, &patience, &e) == -ETIMEDOUT);
        TEST(strstr(e.text, "page server"));
        patience.deadline_ns = clock_now_ns() + PATIENCE_NS;
        patience.cancelled = gives_up;
        TEST(pager_lease(vm->pager, &patience, &e) == -ETIMEDOUT);
        TEST(clock_now_ns() < patience.deadline_ns);
}

/* It is stopped, so that nothing is taken: what does not fit is faulted anew. */
static void slow_server(void)
{
        struct vm vm;
        struct touch t;
        bool write;

        vm_up(&vm, PS_LANE_COPY, 0);
        lease(&vm);
        touch_start(&t, vm_page(&vm, 700), false);

        uint64_t hva = read_one(&vm, &write);
        uint64_t many[64];

        stop_server(vm_server_pid());
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = hva;
        for (unsigned i = 0; i < 2000; i++)
                pager_pass(vm.pager, many, ARRAY_SIZE(many));
        TEST(read_one(&vm, &write) == hva && !write);
        pager_lease_end(vm.pager);
        no_lease(&vm);
        TEST(kill(vm_server_pid(), SIGCONT) == 0);
        touch_join(&t);
        lease(&vm);
        nobody_else_reads(&vm, 1700);
        pager_lease_end(vm.pager);
        vm_down(&vm);
        printf("ok: a server that does not keep up\n");
}

/* ---- all at once --------------------------------------------------------------- */

/* Of its own pages it knows what they hold. */
struct guest_thread {
        struct vm *vm;
        unsigned index;
        pthread_t thread;
        uint64_t mark[PAGES / GUESTS];  /* first word; 0 = as in the image */
        _Atomic unsigned steps;
        unsigned wrong;
        _Atomic bool ended;
};

static _Atomic bool storm_over;

static bool page_holds(const struct vm *vm, uint64_t page, uint64_t mark)
{
        const volatile uint64_t *at = vm_page(vm, page);

        if (!mark)
                return fake_page_ok(&vm->image, page * PAGE, at);
        for (unsigned i = 1; i < FAKE_WORDS; i++) {
                if (at[i] != fake_word(&vm->image, page * PAGE + i * 8))
                        return false;
        }
        return at[0] == mark;
}

static void *guest_main(void *arg)
{
        struct guest_thread *t = arg;
        unsigned seed = t->index + 1;

        while (!atomic_load(&storm_over)) {
                uint64_t i = (uint64_t)rand_r(&seed) % ARRAY_SIZE(t->mark);
                uint64_t page = i * GUESTS + t->index;
                volatile uint64_t *at = vm_page(t->vm, page);

                switch (rand_r(&seed) % 4) {
                case 0:
                        TEST(madvise(vm_page(t->vm, page), PAGE, MADV_DONTNEED) == 0);
                        t->mark[i] = 0;
                        break;
                case 1:
                        t->mark[i] = (uint64_t)rand_r(&seed) + 1;
                        *at = t->mark[i];
                        break;
                default:
                        break;
                }
                t->wrong += !page_holds(t->vm, page, t->mark[i]);
                atomic_fetch_add(&t->steps, 1);
        }
        atomic_store(&t->ended, true);
        return NULL;
}

static void *kill_servers(void *arg)
{
        unsigned *kills = arg;
        unsigned seed = 9;
        pid_t last = 0;

        while (!atomic_load(&storm_over)) {
                pid_t pid = vm_server_pid();

                sleep_ms((unsigned)rand_r(&seed) % 80);
                if (pid == last || kill(pid, SIGKILL) < 0)
                        continue;
                last = pid;
                (*kills)++;
        }
        return NULL;
}

static void some_protected(struct vm *vm, unsigned *seed)
{
        const struct stripes *s = pager_stripes(vm->pager);

        for (size_t i = 0; i < s->nregions; i++) {
                const struct ps_region *r = &s->regions[i];

                if (rand_r(seed) % 2)
                        continue;
                TEST(uffd_protect(s->uffds[r->uffd], r->hva, r->bytes, true) == UFFD_DONE);
        }
}

static void many_leases(struct vm *vm, struct guard *g)
{
        unsigned seed = 5;

        for (unsigned i = 0; i < LEASES; i++) {
                lease(vm);
                guard_start(g);
                for (unsigned k = 0; k < 3; k++) {
                        some_protected(vm, &seed);
                        sleep_ms((unsigned)rand_r(&seed) % 10);
                }
                protect_all(vm, false);
                guard_stop(g);
                pager_lease_end(vm->pager);
                if (i % 2)
                        sleep_ms((unsigned)rand_r(&seed) % 20);
        }
}

static void guests_end(struct guest_thread *t)
{
        uint64_t end_ns = clock_now_ns() + PATIENCE_NS;

        for (unsigned i = 0; i < GUESTS; i++) {
                while (!atomic_load(&t[i].ended) && clock_now_ns() < end_ns)
                        sleep_ms(1);
                TEST(atomic_load(&t[i].ended));
                TEST(pthread_join(t[i].thread, NULL) == 0);
                TEST(t[i].wrong == 0);
                TEST(atomic_load(&t[i].steps) > 0);
        }
}

static void storm(enum ps_lane lane)
{
        AUTO_FREE struct guest_thread *t = calloc(GUESTS, sizeof(*t));
        unsigned kills = 0;
        pthread_t killer;
        struct vm vm;
        struct guard g = { .vm = &vm };

        TEST(t);
        vm_up(&vm, lane, 20);
        register_all(&vm);
        atomic_store(&storm_over, false);
        for (unsigned i = 0; i < GUESTS; i++) {
                t[i].vm = &vm;
                t[i].index = i;
                TEST(pthread_create(&t[i].thread, NULL, guest_main, &t[i]) == 0);
        }
        TEST(pthread_create(&killer, NULL, kill_servers, &kills) == 0);
        many_leases(&vm, &g);
        atomic_store(&storm_over, true);
        guests_end(t);
        TEST(pthread_join(killer, NULL) == 0);
        TEST(kills > 0 && atomic_load(&g.writes) > 0 && atomic_load(&g.passed) > 0);
        vm_down(&vm);
        printf("ok: %d leases in the %s lane, %u kills, %u writes to protected pages, %u faults "
               "passed on\n", LEASES, lane == PS_LANE_COPY ? "copy" : "shared", kills,
               atomic_load(&g.writes), atomic_load(&g.passed));
}

int main(int argc, char **argv)
{
        setbuf(stdout, NULL);
        guest_need_uffd();
        vm_servers(argc, argv);
        only_reader(PS_LANE_SHARED);
        only_reader(PS_LANE_COPY);
        protected_without_lease();
        slow_server();
        storm(PS_LANE_SHARED);
        storm(PS_LANE_COPY);
        return 0;
}
