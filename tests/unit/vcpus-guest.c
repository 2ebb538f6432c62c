/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vcpus-guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "tests/unit/suite.h"
#include "vmm/cpuid.h"

#define PML4_GPA 0x1000
#define GDT_GPA 0x4000
#define TSS_GPA(cpu) (0x6000 + (cpu) * 0x1000u)
#define STACK_TOP_GPA(cpu) (0xa000 + (cpu) * 0x1000u)
#define CODE_GPA 0x100000
#define SCRATCH 0xa5

#define SEL_CODE0 0x08
#define SEL_DATA0 0x10
#define SEL_DATA3 0x1b
#define SEL_CODE3 0x23
#define SEL_TSS(cpu) (0x28 + (cpu) * 0x10)

/* r12: DATA_GPA; r13: the ring 3 program; ax: TSS */
extern const char guest_start[], guest_end[];

__asm__(".pushsection .rodata\n"
        ".globl guest_out, guest_in, guest_string, guest_crash\n"
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

#define CONSOLE_MAX (16u << 20)

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

uint64_t get64(const struct guest *g, uint64_t gpa)
{
        return __atomic_load_n((uint64_t *)ram_at(&g->ram, gpa, 8), __ATOMIC_RELAXED);
}

void fill_string(uint8_t *page)
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

void guest_new(struct guest *g, const char *program0, const char *program1)
{
        const struct platform_ops platform_ops = { console_out, request, NULL, g };
        const struct vcpus_ops vcpus_ops = { .ended = ended, .ctx = g };
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

uint64_t in_ms(uint64_t ms)
{
        return clock_now_ns() + ms * NS_PER_MS;
}

void guest_free(struct guest *g)
{
        CU_ASSERT_EQUAL_FATAL(vcpus_stop(g->vcpus, in_ms(5000)), 0);
        vcpus_free(g->vcpus);
        platform_free(g->platform);
        kvm_close(&g->kvm);
        ram_unmap(&g->ram);
        free(g->console);
}

bool wait_for(bool (*done)(struct guest *g), struct guest *g)
{
        for (uint64_t deadline_ns = in_ms(5000); clock_now_ns() < deadline_ns; usleep(200)) {
                if (done(g))
                        return true;
        }
        return false;
}
