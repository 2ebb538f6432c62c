/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a guest saved while it works goes on in a second VM: every register and
 *       table is equal, field by field, its timers tick on and its own checks
 *       find no word changed.
 * Method: the payload guest on 1 and 2 vCPUs, moved from VM to VM with a copy
 *       of its RAM. Needs /dev/kvm. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/lock.h"
#include "tests/unit/state-sample.h"
#include "tests/unit/suite.h"
#include "vmm/boot.h"
#include "vmm/cpuid.h"
#include "vmm/payload/payload.h"
#include "vmm/platform.h"
#include "vmm/vcpus.h"

#define RAM_BYTES RAM_BYTES_MIN
#define MOVES 3
#define TICKS_BETWEEN 3
#define PATIENCE_NS (20 * NS_PER_SEC)

/* One VM. Its vCPU threads write what is under the lock. */
struct guest {
        struct kvm kvm;
        struct ram ram;
        struct platform *platform;
        struct vcpus *vcpus;

        struct lock lock;
        struct cond changed;
        char console[1 << 16] GUARDED_BY(lock);
        size_t console_bytes GUARDED_BY(lock);
        bool ended GUARDED_BY(lock);
};

static void on_console(void *ctx, const uint8_t *data, size_t bytes)
{
        struct guest *g = ctx;

        lock_acquire(&g->lock);

        size_t room = sizeof(g->console) - 1 - g->console_bytes;

        memcpy(g->console + g->console_bytes, data, MIN(bytes, room));
        g->console_bytes += MIN(bytes, room);
        cond_broadcast(&g->changed);
        lock_release(&g->lock);
}

static void on_end(struct guest *g, const char *why)
{
        fprintf(stderr, "the guest ended: %s\n", why);
        lock_acquire(&g->lock);
        g->ended = true;
        cond_broadcast(&g->changed);
        lock_release(&g->lock);
}

static void on_request(void *ctx, enum platform_request what)
{
        on_end(ctx, what == PLATFORM_RESET ? "reset" : "power off");
}

static void on_vcpus_end(void *ctx, enum vcpus_end why, const char *text)
{
        (void)why;
        on_end(ctx, text);
}

static void on_input_room(void *ctx)
{
        (void)ctx;
}

static bool ok(int rc, const struct err *e)
{
        if (rc < 0)
                fprintf(stderr, "%s\n", e->text);
        return rc >= 0;
}

/* Created, its vCPUs parked. */
static struct guest *guest_new(unsigned cpus)
{
        struct guest *g = calloc(1, sizeof(*g));
        struct platform_ops ops = { on_console, on_request, on_input_room, g };
        struct vcpus_ops vcpus_ops = { .ended = on_vcpus_end, .ctx = g };
        struct err e = { 0 };

        ASSERT(g != NULL);
        lock_init(&g->lock);
        cond_init(&g->changed);

        bool made = ok(kvm_open(&g->kvm, &e), &e) && ok(ram_init(&g->ram, RAM_BYTES, &e), &e) &&
                    ok(ram_map_anonymous(&g->ram, false, RAM_SMALL, &e), &e) &&
                    ok(kvm_create(&g->kvm, &g->ram, cpus, &e), &e) &&
                    ok(platform_new(&g->kvm, &ops, &g->platform, &e), &e) &&
                    ok(vcpus_new(&g->kvm, g->platform, &vcpus_ops, &g->vcpus, &e), &e);

        CU_ASSERT_FATAL(made);
        return g;
}

static void guest_free(struct guest *g)
{
        CU_ASSERT(vcpus_stop(g->vcpus, clock_now_ns() + PATIENCE_NS) == 0);
        vcpus_free(g->vcpus);
        platform_free(g->platform);
        kvm_close(&g->kvm);
        ram_unmap(&g->ram);
        cond_fini(&g->changed);
        lock_fini(&g->lock);
        free(g);
}

static const struct payload_state *payload_of(const struct guest *g)
{
        return ram_at(&g->ram, PAYLOAD_STATE_GPA, sizeof(struct payload_state));
}

static unsigned ticks_locked(struct guest *g) REQUIRES(g->lock);
static unsigned ticks_locked(struct guest *g)
{
        unsigned n = 0;

        for (const char *at = strstr(g->console, "tick "); at; at = strstr(at + 1, "tick "))
                n++;
        return n;
}

/* So many more tick lines, unless the guest ends or time is up. */
static bool guest_ticks(struct guest *g, unsigned more)
{
        uint64_t deadline_ns = clock_now_ns() + PATIENCE_NS;
        bool in_time = true;

        lock_acquire(&g->lock);

        unsigned from = ticks_locked(g);

        while (in_time && !g->ended && ticks_locked(g) < from + more)
                in_time = cond_wait_until(&g->changed, &g->lock, deadline_ns);
        in_time = ticks_locked(g) >= from + more;
        lock_release(&g->lock);
        return in_time;
}

static void boot(struct guest *g, unsigned cpus, const char *options)
{
        char cmdline[128];
        struct boot_source source = {
                .kernel = payload_elf_start,
                .kernel_bytes = (size_t)(payload_elf_end - payload_elf_start),
                .kernel_name = "payload",
                .cmdline = cmdline,
        };
        const struct acpi_machine machine = { .cpus = cpus };
        struct boot_entry entry;
        struct err e = { 0 };

        snprintf(cmdline, sizeof(cmdline), "cpus=%u %s", cpus, options);
        CU_ASSERT_FATAL(ok(cpuid_set_all(&g->kvm, &e), &e));
        CU_ASSERT_FATAL(ok(boot_load(&g->ram, &machine, &source, &entry, &e), &e));
        CU_ASSERT_FATAL(ok(boot_set_vcpus(&g->kvm, &entry, &e), &e));
}

static void start(struct guest *g)
{
        struct err e = { 0 };

        CU_ASSERT_FATAL(ok(vcpus_start(g->vcpus, &e), &e));
        state_before_resume(&g->kvm);
        vcpus_resume(g->vcpus);
}

static void pause_guest(struct guest *g)
{
        struct err e = { 0 };

        CU_ASSERT_FATAL(ok(vcpus_pause(g->vcpus, clock_now_ns() + PATIENCE_NS, &e), &e));
}

static void count(void *ctx, const char *field, const char *was, const char *is)
{
        fprintf(stderr, "differs: %s %s -> %s\n", field, was, is);
        ++*(unsigned *)ctx;
}

/* Both of one pause: from c, which was made before it, and at once. */
static struct json_object *capture(struct guest *g, struct state_capture *c,
                                   struct state_blob *ret_blob)
{
        AUTO_JSON *at_once = NULL;
        struct json_object *captured = NULL;
        struct state_blob blob = { 0 };
        unsigned differences = 0;
        struct err e = { 0 };

        CU_ASSERT_FATAL(ok(state_capture_take(c, &e), &e));
        CU_ASSERT_FATAL(ok(state_save(&g->kvm, &at_once, &blob, &e), &e));
        CU_ASSERT_FATAL(ok(state_capture_encode(c, &captured, ret_blob, &e), &e));
        CU_ASSERT(ok(state_compare(captured, ret_blob, at_once, &blob, count, &differences, &e),
                     &e));
        CU_ASSERT(differences == 0);
        state_blob_fini(&blob);
        return captured;
}

/* From a paused guest to a new one, which has its state and does not run yet. */
static struct guest *move(struct guest *from, struct state_capture *c)
{
        struct guest *to = guest_new(from->kvm.cpus);
        AUTO_JSON *is = NULL;
        AUTO_JSON *devices = NULL;
        struct state_blob was_blob = { 0 }, is_blob = { 0 };
        unsigned differences = 0;
        struct err e = { 0 };

        AUTO_JSON *was = capture(from, c, &was_blob);

        CU_ASSERT_FATAL(ok(platform_save(from->platform, &devices, &e), &e));
        memcpy(to->ram.slots[0].hva, from->ram.slots[0].hva, from->ram.slots[0].bytes);

        AUTO_JSON *text = sample_reparse(was);

        CU_ASSERT_FATAL(ok(state_load(&to->kvm, text, &was_blob, &e), &e));
        CU_ASSERT_FATAL(ok(platform_load(to->platform, devices, &e), &e));
        platform_replay_lines(to->platform);
        CU_ASSERT_FATAL(ok(state_save(&to->kvm, &is, &is_blob, &e), &e));
        CU_ASSERT(ok(state_compare(was, &was_blob, is, &is_blob, count, &differences, &e), &e));
        CU_ASSERT(differences == 0);
        state_blob_fini(&was_blob);
        state_blob_fini(&is_blob);
        return to;
}

static void check_console(struct guest *g)
{
        lock_acquire(&g->lock);
        CU_ASSERT(!g->ended && !strstr(g->console, "CORRUPT") && !strstr(g->console, "FAULT"));
        if (strstr(g->console, "CORRUPT") || strstr(g->console, "FAULT"))
                fprintf(stderr, "%s\n", g->console);
        lock_release(&g->lock);
}

static void moves(unsigned cpus, const char *options)
{
        struct guest *g = guest_new(cpus);

        boot(g, cpus, options);
        for (unsigned i = 0; i < MOVES; i++) {
                struct state_capture *c;
                struct err e = { 0 };

                start(g);
                CU_ASSERT(guest_ticks(g, TICKS_BETWEEN));
                CU_ASSERT_FATAL(ok(state_capture_new(&g->kvm, &c, &e), &e));
                pause_guest(g);
                check_console(g);

                struct guest *next = move(g, c);

                state_capture_free(c);
                guest_free(g);
                g = next;
        }

        uint64_t tick = payload_of(g)->tick, verified = payload_of(g)->verified;

        start(g);
        CU_ASSERT(guest_ticks(g, 10));
        pause_guest(g);
        check_console(g);
        fprintf(stderr, "%u vCPUs, '%s': tick %llu -> %llu, verified passes %llu -> %llu\n", cpus,
                options, (unsigned long long)tick, (unsigned long long)payload_of(g)->tick,
                (unsigned long long)verified, (unsigned long long)payload_of(g)->verified);
        CU_ASSERT(payload_of(g)->phase == PAYLOAD_RUN);
        CU_ASSERT(tick >= MOVES * TICKS_BETWEEN && payload_of(g)->tick >= tick + 9);
        CU_ASSERT(payload_of(g)->verified > 0);
        guest_free(g);
}

static void one_busy(void)
{
        moves(1, "start=4M");
}

static void two_busy(void)
{
        moves(2, "start=4M");
}

/* Mostly in hlt: the timer alone brings it back. */
static void two_idle(void)
{
        moves(2, "start=1M range=4M rate=8M");
}

static const CU_TestInfo cases[] = {
        { "one busy vCPU goes on", one_busy },
        { "two busy vCPUs go on", two_busy },
        { "two vCPUs that sleep between work go on", two_idle },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        struct kvm kvm;
        struct err e = { 0 };
        bool usable = kvm_open(&kvm, &e) == 0;

        kvm_close(&kvm);
        if (!usable) {
                fprintf(stderr, "skipped: %s\n", e.text);
                return SUITE_SKIP;
        }
        return suite_main("state-midrun", cases);
}
