/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the built-in guest boots through PVH with one and two vCPUs, ticks by
 *   its LAPIC timer, survives pauses, verifies its RAM and ends by itself.
 * Method: boot.h, vcpus.h and platform.h on real KVM, the console in a buffer.
 *   Skipped without /dev/kvm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/lock.h"
#include "tests/unit/suite.h"
#include "vmm/boot.h"
#include "vmm/cpuid.h"
#include "vmm/vcpus.h"

#define CONSOLE_MAX 65536
/* 0.3 s by itself; an emulated CPU needs 20 */
#define LIMIT_NS (60 * NS_PER_SEC)

extern const uint8_t payload_elf_start[], payload_elf_end[];

struct guest {
        struct ram ram;
        struct kvm kvm;
        struct platform *platform;
        struct vcpus *vcpus;

        struct lock lock;
        char console[CONSOLE_MAX]       GUARDED_BY(lock);       /* NUL-terminated */
        size_t console_bytes            GUARDED_BY(lock);
        bool over                       GUARDED_BY(lock);
};

static void console_out(void *ctx, const uint8_t *data, size_t bytes)
{
        struct guest *g = ctx;

        lock_acquire(&g->lock);
        ASSERT(bytes < CONSOLE_MAX - g->console_bytes);
        memcpy(g->console + g->console_bytes, data, bytes);
        g->console_bytes += bytes;
        lock_release(&g->lock);
}

static void end(struct guest *g)
{
        lock_acquire(&g->lock);
        g->over = true;
        lock_release(&g->lock);
}

static void request(void *ctx, enum platform_request what)
{
        (void)what;
        end(ctx);
}

static void ended(void *ctx, enum vcpus_end why, const char *text)
{
        (void)why;
        printf("(%s) ", text);
        end(ctx);
}

static bool said(struct guest *g, const char *text)
{
        lock_acquire(&g->lock);
        bool found = strstr(g->console, text);
        lock_release(&g->lock);
        return found;
}

static bool over(struct guest *g)
{
        lock_acquire(&g->lock);
        bool is_over = g->over;
        lock_release(&g->lock);
        return is_over;
}

static void start(struct guest *g, unsigned cpus, const char *cmdline)
{
        const struct platform_ops platform_ops = { console_out, request, NULL, g };
        const struct vcpus_ops vcpus_ops = { .ended = ended, .ctx = g };
        const struct boot_source source = {
                .kernel = payload_elf_start,
                .kernel_bytes = (size_t)(payload_elf_end - payload_elf_start),
                .kernel_name = "payload", .cmdline = cmdline,
        };
        const struct acpi_machine machine = { .cpus = cpus };
        struct boot_entry entry;

        lock_init(&g->lock);
        CU_ASSERT_EQUAL_FATAL(ram_init(&g->ram, RAM_BYTES_MIN, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&g->ram, false, RAM_SMALL, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(boot_load(&g->ram, &machine, &source, &entry, NULL), 0);
        CU_ASSERT_EQUAL(entry.protocol, BOOT_PVH);
        CU_ASSERT_EQUAL_FATAL(kvm_open(&g->kvm, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(kvm_create(&g->kvm, &g->ram, cpus, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(cpuid_set_all(&g->kvm, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(boot_set_vcpus(&g->kvm, &entry, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(platform_new(&g->kvm, &platform_ops, &g->platform, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(vcpus_new(&g->kvm, g->platform, &vcpus_ops, &g->vcpus, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(vcpus_start(g->vcpus, NULL), 0);
        vcpus_resume(g->vcpus);
}

static void stop(struct guest *g)
{
        CU_ASSERT_EQUAL_FATAL(vcpus_stop(g->vcpus, clock_now_ns() + LIMIT_NS), 0);
        vcpus_free(g->vcpus);
        platform_free(g->platform);
        kvm_close(&g->kvm);
        ram_unmap(&g->ram);
        lock_fini(&g->lock);
}

static void runs_to_its_end(unsigned cpus, const char *cmdline)
{
        static struct guest g;
        uint64_t until_ns = clock_now_ns() + LIMIT_NS;
        unsigned pauses = 0;

        memset(&g, 0, sizeof(g));
        start(&g, cpus, cmdline);
        while (!over(&g) && clock_now_ns() < until_ns) {
                usleep(5000);
                CU_ASSERT_EQUAL_FATAL(vcpus_pause(g.vcpus, until_ns, NULL), 0);
                pauses++;
                vcpus_resume(g.vcpus);
        }
        CU_ASSERT(over(&g));
        CU_ASSERT(said(&g, "tick "));   /* how many is a matter of speed */
        CU_ASSERT(said(&g, "verified PASS 1"));
        CU_ASSERT(said(&g, "done PASS"));
        CU_ASSERT_FALSE(said(&g, "CORRUPT"));
        CU_ASSERT_FALSE(said(&g, "FAULT"));
        printf("(%u pauses) ", pauses);
        if (!over(&g))
                printf("\n%s\n", g.console);
        stop(&g);
}

static void one_cpu(void)
{
        runs_to_its_end(1, "rate=60M passes=2 start=8M");
}

static void two_cpus(void)
{
        runs_to_its_end(2, "cpus=2 rate=60M passes=2 start=8M");
}

static const CU_TestInfo cases[] = {
        { "the payload ticks, verifies and ends, 1 vCPU", one_cpu },
        { "the payload ticks, verifies and ends, 2 vCPUs", two_cpus },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (access("/dev/kvm", R_OK | W_OK) < 0) {
                printf("SKIP: /dev/kvm cannot be opened\n");
                return SUITE_SKIP;
        }
        setvbuf(stdout, NULL, _IONBF, 0);
        return suite_main("boot-payload", cases);
}
