/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a paused guest stands still with no I/O half done (INV-PARKED), no
 *   request is lost (INV-EXIT), and a guest that ends or waits for memory is told.
 * Method: a hand-made guest on real KVM. Ring 0 is a few instructions; ring 3
 *   counts in memory and does port I/O, which the host checks for gaps over
 *   1000 pauses at random moments. A page of the guest is left missing by
 *   userfaultfd to hold a vCPU inside KVM. Skipped without /dev/kvm. */
#include "vmm/vcpus.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
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
#include "vmm/cpuid.h"

/* ---- the guest ----------------------------------------------------------- */

#define PML4_GPA 0x1000
#define GDT_GPA 0x4000
#define TSS_GPA(cpu) (0x6000 + (cpu) * 0x1000u)
#define STACK_TOP_GPA(cpu) (0xa000 + (cpu) * 0x1000u)
#define DATA_GPA(cpu) (0x10000 + (cpu) * 0x1000u)
#define STRING_GPA 0x20000
#define STRING_BYTES 1500       /* more than KVM takes in one exit */
#define PAGE_BYTES 4096
#define CODE_GPA 0x100000
#define SCRATCH 0xa5

#define SEL_CODE0 0x08
#define SEL_DATA0 0x10
#define SEL_DATA3 0x1b
#define SEL_CODE3 0x23
#define SEL_TSS(cpu) (0x28 + (cpu) * 0x10)

/* r12: DATA_GPA, +0 rounds, +8 wrong answers; r13: the ring 3 program; ax: TSS */
extern const char guest_start[], guest_out[], guest_in[], guest_string[], guest_crash[],
        guest_end[];

__asm__(".pushsection .rodata\n"
        "guest_start:\n"
        "       ltr %ax\n"
        "       mov $0x1b, %ecx\n"
        "       mov %ecx, %ds\n"
        "       mov %ecx, %es\n"
        "       pushq $0x1b\n"
        "       pushq %rsp\n"
        "       pushq $0x202\n"
        "       pushq $0x23\n"
        "       pushq %r13\n"
        "       iretq\n"
        /* a sequence of bytes to the console */
        "guest_out:\n"
        "       mov $0x3f8, %edx\n"
        "       xor %eax, %eax\n"
        "1:     incq (%r12)\n"
        "       out %al, %dx\n"
        "       inc %eax\n"
        "       jmp 1b\n"
        /* reads back the scratch register */
        "guest_in:\n"
        "       mov $0x3ff, %edx\n"
        "       mov $0xa5, %al\n"
        "       out %al, %dx\n"
        "1:     xor %eax, %eax\n"
        "       in %dx, %al\n"
        "       cmp $0xa5, %eax\n"
        "       je 2f\n"
        "       incq 8(%r12)\n"
        "2:     incq (%r12)\n"
        "       jmp 1b\n"
        /* the same string again and again */
        "guest_string:\n"
        "       mov $0x20000, %esi\n"
        "       mov $1500, %ecx\n"
        "       mov $0x3f8, %edx\n"
        "       rep outsb\n"
        "       incq (%r12)\n"
        "       jmp guest_string\n"
        "guest_crash:\n"
        "       incq (%r12)\n"
        "       ud2\n"
        "guest_end:\n"
        ".popsection\n");

#define CPUS 2
#define CONSOLE_MAX (16u << 20)

struct guest {
        struct ram ram;
        struct kvm kvm;
        struct platform *platform;
        struct vcpus *vcpus;
        /* the console's vCPU; read while paused */
        uint8_t *console;
        size_t console_bytes;
        /* any vCPU */
        _Atomic unsigned ends;
        enum vcpus_end why;
};

static void console_out(void *ctx, const uint8_t *data, size_t bytes)
{
        struct guest *g = ctx;

        ASSERT(bytes <= CONSOLE_MAX - g->console_bytes);
        memcpy(g->console + g->console_bytes, data, bytes);
        g->console_bytes += bytes;
}

static void request(void *ctx, enum platform_request what)
{
        (void)ctx, (void)what;
}

static void ended(void *ctx, enum vcpus_end why, const char *text)
{
        struct guest *g = ctx;

        printf("(%s) ", text);
        g->why = why;
        g->ends++;
}

static void put64(const struct guest *g, uint64_t gpa, uint64_t v)
{
        memcpy(ram_at(&g->ram, gpa, 8), &v, 8);
}

static uint64_t get64(const struct guest *g, uint64_t gpa)
{
        return __atomic_load_n((uint64_t *)ram_at(&g->ram, gpa, 8), __ATOMIC_RELAXED);
}

static void fill_string(uint8_t *page)
{
        for (unsigned i = 0; i < PAGE_BYTES; i++)
                page[i] = (uint8_t)(i % 251);
}

static void write_memory(const struct guest *g)
{
        static const uint64_t gdt[] = {
                0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff,
        };

        put64(g, PML4_GPA, (PML4_GPA + 0x1000) | 7);
        put64(g, PML4_GPA + 0x1000, (PML4_GPA + 0x2000) | 7);
        for (uint64_t i = 0; i < 32; i++)       /* 64 MiB in 2 MiB pages, user */
                put64(g, PML4_GPA + 0x2000 + i * 8, i << 21 | 0xe7);
        for (unsigned i = 0; i < ARRAY_SIZE(gdt); i++)
                put64(g, GDT_GPA + i * 8, gdt[i]);
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
                /* I/O bitmap for ports below 0x400: all allowed, then the end mark */
                uint64_t limit = 0x68 + 0x80;
                uint8_t *tss = ram_at(&g->ram, TSS_GPA(cpu), 0x1000);

                put64(g, GDT_GPA + SEL_TSS(cpu), 0x890000000000 | (uint64_t)TSS_GPA(cpu) << 16 |
                      limit);
                put64(g, TSS_GPA(cpu) + 4, STACK_TOP_GPA(cpu));
                tss[0x66] = 0x68;
                tss[limit] = 0xff;
        }
        fill_string(ram_at(&g->ram, STRING_GPA, PAGE_BYTES));
        memcpy(ram_at(&g->ram, CODE_GPA, 0x1000), guest_start, (size_t)(guest_end - guest_start));
}

static void set_vcpu(struct guest *g, unsigned cpu, const char *program)
{
        int fd = g->kvm.vcpu_fd[cpu];
        struct kvm_segment code = { .limit = ~0u, .selector = SEL_CODE0, .type = 11, .present = 1,
                                    .s = 1, .l = 1, .g = 1 };
        struct kvm_segment data = { .limit = ~0u, .selector = SEL_DATA0, .type = 3, .present = 1,
                                    .s = 1, .db = 1, .g = 1 };
        struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
        struct kvm_regs regs = {
                .rip = CODE_GPA, .rsp = STACK_TOP_GPA(cpu), .rflags = 2,
                .rax = (uint64_t)SEL_TSS(cpu), .r12 = DATA_GPA(cpu),
                .r13 = CODE_GPA + (uint64_t)(program - guest_start),
        };
        struct kvm_sregs s;

        CU_ASSERT_EQUAL_FATAL(kvm_call(&g->kvm, fd, KVM_GET_SREGS, &s), 0);
        s.cs = code;
        s.ds = s.es = s.fs = s.gs = s.ss = data;
        s.gdt.base = GDT_GPA;
        s.gdt.limit = SEL_TSS(CPUS) - 1;
        s.idt.base = s.idt.limit = 0;
        s.cr0 = 0x80050033;
        s.cr3 = PML4_GPA;
        s.cr4 = 0x620;
        s.efer = 0x500;
        CU_ASSERT_EQUAL_FATAL(kvm_call(&g->kvm, fd, KVM_SET_SREGS, &s), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_call(&g->kvm, fd, KVM_SET_REGS, &regs), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_call(&g->kvm, fd, KVM_SET_MP_STATE, &runnable), 0);
}

static void guest_new(struct guest *g, const char *program0, const char *program1)
{
        const struct platform_ops platform_ops = { console_out, request, NULL, g };
        const struct vcpus_ops vcpus_ops = { ended, g };
        struct err e = { 0 };

        *g = (struct guest){ .console = malloc(CONSOLE_MAX) };
        CU_ASSERT_PTR_NOT_NULL_FATAL(g->console);
        CU_ASSERT_EQUAL_FATAL(ram_init(&g->ram, RAM_BYTES_MIN, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&g->ram, false, RAM_SMALL, &e), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_open(&g->kvm, &e), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_create(&g->kvm, &g->ram, CPUS, &e), 0);
        CU_ASSERT_EQUAL_FATAL(cpuid_set_all(&g->kvm, &e), 0);
        write_memory(g);
        set_vcpu(g, 0, program0);
        set_vcpu(g, 1, program1);
        CU_ASSERT_EQUAL_FATAL(platform_new(&g->kvm, &platform_ops, &g->platform, &e), 0);
        CU_ASSERT_EQUAL_FATAL(vcpus_new(&g->kvm, g->platform, &vcpus_ops, &g->vcpus, &e), 0);
        CU_ASSERT_EQUAL_FATAL(vcpus_start(g->vcpus, &e), 0);
}

static uint64_t in_ms(uint64_t ms)
{
        return clock_now_ns() + ms * NS_PER_MS;
}

static void guest_free(struct guest *g)
{
        CU_ASSERT_EQUAL_FATAL(vcpus_stop(g->vcpus, in_ms(5000)), 0);
        vcpus_free(g->vcpus);
        platform_free(g->platform);
        kvm_close(&g->kvm);
        ram_unmap(&g->ram);
        free(g->console);
}

static bool wait_for(bool (*done)(struct guest *g), struct guest *g)
{
        for (uint64_t deadline_ns = in_ms(5000); clock_now_ns() < deadline_ns; usleep(200)) {
                if (done(g))
                        return true;
        }
        return false;
}

/* ---- cases --------------------------------------------------------------- */

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

static const CU_TestInfo cases[] = {
        { "threads start parked", starts_parked },
        { "1000 pauses: no OUT lost or doubled, no IN unanswered", pauses_lose_no_out },
        { "pauses within string output: no byte lost or doubled", pauses_lose_no_string },
        { "a triple fault is told once and the guest stands", triple_fault_ends_once },
        { "a missing page delays a pause, which stands", missing_page_delays_pause },
        { "a pause that timed out can be withdrawn", withdrawn_pause_goes_on },
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
