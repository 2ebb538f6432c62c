/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a paused guest stands still with no I/O half done (INV-PARKED), no
 *   request is lost (INV-EXIT), and a guest that ends or waits for memory is told.
 * Method: a hand-made guest on real KVM (vcpus-guest.h) counts in memory and does
 *   port I/O, which the host checks for gaps over 1000 pauses at random moments. A
 *   page of the guest is left missing by userfaultfd to hold a vCPU inside KVM.
 *   Skipped without /dev/kvm. */
#include "vmm/vcpus.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/suite.h"
#include "tests/unit/vcpus-guest.h"

static bool both_count(struct guest *g)
{
        return get64(g, DATA_GPA(0)) && get64(g, DATA_GPA(1));
}

static void starts_parked(void)
{
        struct guest g;

        guest_new(&g, guest_out, guest_in);
        CU_ASSERT(vcpus_paused(g.vcpus));
        CU_ASSERT_EQUAL(vcpus_first_entry_ns(g.vcpus), 0);
        CU_ASSERT_EQUAL(get64(&g, DATA_GPA(0)), 0);
        CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(1000), NULL), 0);

        uint64_t before_ns = clock_now_ns();

        vcpus_resume(g.vcpus);
        CU_ASSERT(wait_for(both_count, &g));
        CU_ASSERT(vcpus_first_entry_ns(g.vcpus) >= before_ns);
        CU_ASSERT_FALSE(vcpus_paused(g.vcpus));
        guest_free(&g);
}

/* Pauses n times; every time both counters must stand. Returns how often the
 * guest had gone on in between. */
static unsigned pause_often(struct guest *g, unsigned n, unsigned seed)
{
        unsigned moved = 0, still = 0;
        uint64_t last = 0, now;

        for (unsigned i = 0; i < n; i++) {
                struct err e = { 0 };

                vcpus_resume(g->vcpus);
                usleep((useconds_t)(rand_r(&seed) % 300));
                if (vcpus_pause(g->vcpus, in_ms(5000), &e) != 0)
                        CU_FAIL_FATAL("pause failed");

                uint64_t rounds[CPUS] = { get64(g, DATA_GPA(0)), get64(g, DATA_GPA(1)) };
                size_t bytes = g->console_bytes;

                for (uint64_t until = clock_now_ns() + 20 * NS_PER_US; clock_now_ns() < until; )
                        ;
                still += rounds[0] == get64(g, DATA_GPA(0)) &&
                         rounds[1] == get64(g, DATA_GPA(1)) && bytes == g->console_bytes;
                now = rounds[0] + rounds[1] + bytes;
                moved += now > last;
                last = now;
        }
        CU_ASSERT_EQUAL(still, n);
        return moved;
}

static void pauses_lose_no_out(void)
{
        struct guest g;

        guest_new(&g, guest_out, guest_in);

        unsigned moved = pause_often(&g, 1000, 1);
        uint64_t rounds = get64(&g, DATA_GPA(0));
        size_t gaps = 0;

        for (size_t i = 0; i < g.console_bytes; i++)
                gaps += g.console[i] != (uint8_t)i;
        printf("(%zu bytes out, %llu rounds in, guest went on %u times) ", g.console_bytes,
               (unsigned long long)get64(&g, DATA_GPA(1)), moved);
        CU_ASSERT(moved > 500);
        CU_ASSERT_EQUAL(gaps, 0);
        /* counted before the OUT */
        CU_ASSERT(rounds == g.console_bytes || rounds == g.console_bytes + 1);
        CU_ASSERT_EQUAL(get64(&g, DATA_GPA(1) + 8), 0);         /* no IN lost its answer */
        guest_free(&g);
}

/* A string instruction is cut in pieces by KVM; a pause between them must
 * neither repeat nor drop one. */
static void pauses_lose_no_string(void)
{
        struct guest g;

        guest_new(&g, guest_string, guest_in);

        unsigned moved = 0, pauses = 0;
        size_t gaps = 0;

        for (uint64_t until_ns = in_ms(20000); clock_now_ns() < until_ns &&
             (pauses < 300 || g.console_bytes < 4 * STRING_BYTES); pauses += 100)
                moved += pause_often(&g, 100, pauses);

        for (size_t i = 0; i < g.console_bytes; i++)
                gaps += g.console[i] != i % STRING_BYTES % 251;
        printf("(%zu bytes out, guest went on %u times of %u) ", g.console_bytes, moved, pauses);
        CU_ASSERT(moved > pauses / 2);
        CU_ASSERT(g.console_bytes >= 4 * STRING_BYTES);
        CU_ASSERT_EQUAL(gaps, 0);
        CU_ASSERT_EQUAL(get64(&g, DATA_GPA(0)), g.console_bytes / STRING_BYTES);
        CU_ASSERT_EQUAL(get64(&g, DATA_GPA(1) + 8), 0);
        guest_free(&g);
}

static bool has_ended_and_stands(struct guest *g)
{
        return g->ends && vcpus_paused(g->vcpus);
}

static void triple_fault_ends_once(void)
{
        struct guest g;

        guest_new(&g, guest_crash, guest_crash);
        vcpus_resume(g.vcpus);
        CU_ASSERT(wait_for(has_ended_and_stands, &g));
        CU_ASSERT_EQUAL(g.ends, 1);
        CU_ASSERT_EQUAL(g.why, VCPUS_TRIPLE_FAULT);

        /* it stands for good, and can be read */
        struct kvm_regs regs;

        vcpus_resume(g.vcpus);
        CU_ASSERT(vcpus_paused(g.vcpus));
        CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(1000), NULL), 0);
        CU_ASSERT_EQUAL(kvm_call(&g.kvm, g.kvm.vcpu_fd[0], KVM_GET_REGS, &regs), 0);
        guest_free(&g);
        CU_ASSERT_EQUAL(g.ends, 1);
}

/* A userfaultfd over the string's page, whose faults nobody serves. */
static int hold_string(struct guest *g)
{
        AUTO_FD dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        AUTO_FD fd = dev >= 0 ? ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC) :
                                (int)syscall(SYS_userfaultfd, O_CLOEXEC);
        void *page = ram_at(&g->ram, STRING_GPA, PAGE_BYTES);
        struct uffdio_api api = { .api = UFFD_API };
        struct uffdio_register reg = { .range = { (uintptr_t)page, PAGE_BYTES },
                                       .mode = UFFDIO_REGISTER_MODE_MISSING };

        if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 ||
            madvise(page, PAGE_BYTES, MADV_DONTNEED) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
                return -1;
        return fd_take(&fd);
}

static bool fault_came(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };
        struct uffd_msg msg;

        return poll(&p, 1, 5000) == 1 && read(fd, &msg, sizeof(msg)) == sizeof(msg) &&
               msg.event == UFFD_EVENT_PAGEFAULT;
}

static bool serve_string(struct guest *g, int fd)
{
        uint8_t page[PAGE_BYTES];
        struct uffdio_copy copy = {
                .dst = (uintptr_t)ram_at(&g->ram, STRING_GPA, PAGE_BYTES),
                .src = (uintptr_t)page,
                .len = PAGE_BYTES,
        };

        fill_string(page);
        return ioctl(fd, UFFDIO_COPY, &copy) == 0;
}

static bool stands(struct guest *g)
{
        return vcpus_paused(g->vcpus);
}

static bool string_came(struct guest *g)
{
        return get64(g, DATA_GPA(0)) >= 2;
}

static void guest_with_missing_page(struct guest *g, int *ret_fd)
{
        guest_new(g, guest_string, guest_in);
        *ret_fd = hold_string(g);
        CU_ASSERT_FATAL(*ret_fd >= 0);
        vcpus_resume(g->vcpus);
        CU_ASSERT_FATAL(fault_came(*ret_fd));
}

static void missing_page_delays_pause(void)
{
        struct guest g;
        int fd;
        struct err e = { 0 };

        guest_with_missing_page(&g, &fd);
        CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(1000), &e), -ETIMEDOUT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "vCPU 0 waits for memory"));
        CU_ASSERT_FALSE(vcpus_paused(g.vcpus));
        CU_ASSERT_EQUAL(vcpus_stop(g.vcpus, in_ms(50)), -ETIMEDOUT);

        /* the request stands */
        CU_ASSERT(serve_string(&g, fd));
        CU_ASSERT(wait_for(stands, &g));
        guest_free(&g);
        close(fd);
}

static void withdrawn_pause_goes_on(void)
{
        struct guest g;
        int fd;

        guest_with_missing_page(&g, &fd);
        CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(30), NULL), -ETIMEDOUT);
        vcpus_resume(g.vcpus);
        CU_ASSERT(serve_string(&g, fd));
        CU_ASSERT(wait_for(string_came, &g));
        /* INV-EXIT */
        CU_ASSERT_EQUAL(__atomic_load_n(&g.kvm.run[0]->immediate_exit, __ATOMIC_RELAXED), 0);
        CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(5000), NULL), 0);
        guest_free(&g);
        close(fd);
}

/* Does something 1 ms after a pause was asked for. */
struct later {
        struct guest *g;
        int fd;
        bool asked, served;
};

static bool pause_is_asked(struct guest *g)
{
        return __atomic_load_n(&g->kvm.run[0]->immediate_exit, __ATOMIC_RELAXED);
}

static void *serve_later(void *ctx)
{
        struct later *l = ctx;

        l->asked = wait_for(pause_is_asked, l->g);
        usleep(1000);
        l->served = serve_string(l->g, l->fd);
        return NULL;
}

static void *resume_later(void *ctx)
{
        struct later *l = ctx;

        l->asked = wait_for(pause_is_asked, l->g);
        usleep(1000);
        vcpus_resume(l->g->vcpus);
        return NULL;
}

/* Unwoken, it would look again after 20 ms. One try in five finds a CPU in time. */
static void last_vcpu_wakes_the_pause(void)
{
        uint64_t shortest_ns = UINT64_MAX;

        for (unsigned i = 0; i < 5; i++) {
                struct guest g;
                struct later l = { .g = &g };
                pthread_t thread;

                guest_with_missing_page(&g, &l.fd);

                uint64_t from_ns = clock_now_ns();

                CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, serve_later, &l), 0);
                CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(5000), NULL), 0);
                shortest_ns = MIN(shortest_ns, clock_now_ns() - from_ns);
                pthread_join(thread, NULL);
                CU_ASSERT(l.asked && l.served && vcpus_paused(g.vcpus));
                guest_free(&g);
                close(l.fd);
        }
        printf("(%llu us) ", (unsigned long long)(shortest_ns / NS_PER_US));
        CU_ASSERT(shortest_ns < 15 * NS_PER_MS);
}

static void withdrawn_pause_ends_the_wait(void)
{
        struct guest g;
        struct later l = { .g = &g };
        pthread_t thread;

        guest_with_missing_page(&g, &l.fd);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, resume_later, &l), 0);
        CU_ASSERT_EQUAL(vcpus_pause(g.vcpus, in_ms(5000), NULL), -ECANCELED);
        pthread_join(thread, NULL);
        CU_ASSERT(l.asked && serve_string(&g, l.fd));
        CU_ASSERT(wait_for(string_came, &g));
        guest_free(&g);
        close(l.fd);
}

static const CU_TestInfo cases[] = {
        { "threads start parked", starts_parked },
        { "1000 pauses: no OUT lost or doubled, no IN unanswered", pauses_lose_no_out },
        { "pauses within string output: no byte lost or doubled", pauses_lose_no_string },
        { "a triple fault is told once and the guest stands", triple_fault_ends_once },
        { "a missing page delays a pause, which stands", missing_page_delays_pause },
        { "a pause that timed out can be withdrawn", withdrawn_pause_goes_on },
        { "the last vCPU to park wakes who pauses", last_vcpu_wakes_the_pause },
        { "a pause that is withdrawn ends its wait", withdrawn_pause_ends_the_wait },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (access("/dev/kvm", R_OK | W_OK) < 0) {
                printf("SKIP: /dev/kvm cannot be opened\n");
                return SUITE_SKIP;
        }
        setvbuf(stdout, NULL, _IONBF, 0);
        return suite_main("vcpus", cases);
}
