/* SPDX-License-Identifier: Apache-2.0 */
/* vm-info.c - what a VM says of itself. */
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/rate.h"
#include "vmm/devices.h"
#include "vmm/pager.h"
#include "vmm/recorder.h"
#include "vmm/save.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/bus.h"
#include "vmm/vm.h"

static const char *const state_names[] = {
        [VM_STARTING] = "starting", [VM_EMPTY] = "empty", [VM_RUNNING] = "running",
        [VM_PAUSED] = "paused", [VM_HALTED] = "halted",
};

static const char *const backing_names[] = {
        [VM_BACKING_BOOT] = "boot", [VM_BACKING_LOADED] = "loaded",
        [VM_BACKING_SHARED] = "shared", [VM_BACKING_COPY] = "copy",
        [VM_BACKING_CLONE] = "clone",
};

/* Microseconds since the start of the command; nothing for what has not happened. */
static void put_phase(struct vm *vm, struct json_object *o, const char *key, uint64_t at_ns)
{
        if (at_ns)
                json_put_u64(o, key, (at_ns - vm->phases.start_ns) / NS_PER_US);
}

static void put_first_faults(struct vm *vm, struct json_object *o, const struct ps_stats *stats)
{
        static const char *const keys[] = { "1", "16", "256" };
        struct json_object *faults = json_object_new_object();

        static_assert(ARRAY_SIZE(keys) == ARRAY_SIZE(((struct ps_stats *)0)->fault_ns),
                      "one key for each moment that is kept");
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                put_phase(vm, faults, keys[i], stats->fault_ns[i]);
        json_object_object_add(o, "first_faults", faults);
}

void vm_describe_phases(struct vm *vm, struct json_object *o)
{
        const struct vm_phases *p = &vm->phases;
        struct json_object *phases = json_object_new_object();

        put_phase(vm, phases, "order", p->order_ns);
        put_phase(vm, phases, "process", p->process_ns);
        put_phase(vm, phases, "open", p->open_ns);
        put_phase(vm, phases, "memory", p->memory_ns);
        put_phase(vm, phases, "kvm_create", p->kvm_create_ns);
        put_phase(vm, phases, "state_restore", p->state_restore_ns);
        put_phase(vm, phases, "first_instruction", p->first_instruction_ns);
        put_phase(vm, phases, "resident", p->resident_ns);
        json_object_object_add(o, "phases", phases);
        if (p->first_instruction_ns) {
                uint64_t all_ns = p->first_instruction_ns - p->start_ns;

                json_put_u64(o, "kvm_us", p->kvm_calls_ns / NS_PER_US);
                json_put_u64(o, "own_us", (all_ns - MIN(all_ns, p->kvm_calls_ns)) / NS_PER_US);
        }
        if (vm->pager) {
                struct pager_news news;

                pager_news(vm->pager, false, &news);
                put_first_faults(vm, o, &news.stats);
        }
}

static void put_latency(struct json_object *o, const struct ps_stats *stats)
{
        struct json_object *l = json_object_new_object();

        json_put_decimal(l, "p50", (double)stats->demand_p50_ns / NS_PER_US, 3);
        json_put_decimal(l, "p99", (double)stats->demand_p99_ns / NS_PER_US, 3);
        json_put_decimal(l, "max", (double)stats->demand_max_ns / NS_PER_US, 3);
        json_object_object_add(o, "demand_us", l);
}

static void put_prefetch(struct json_object *o, const struct pager_news *news)
{
        uint64_t rate = news->stats.prefetch_rate;

        json_put_str(o, "prefetch", news->prefetch_paused ? "paused" : rate_name(rate));
        if (rate == RATE_UNLIMITED)
                json_put_null(o, "prefetch_rate");
        else
                json_put_u64(o, "prefetch_rate", rate);
}

static void describe_pager(struct vm *vm, struct json_object *o)
{
        struct json_object *p = json_object_new_object();
        struct pager_news news;

        pager_news(vm->pager, true, &news);
        json_put_bool(p, "server_down", news.server_down);
        json_put_u64(p, "server_restarts", news.restarts);
        json_put_bool(p, "resident", news.resident);
        json_put_u64(p, "demand_faults", news.stats.demand_faults);
        json_put_u64(p, "demand_bytes", news.stats.demand_bytes);
        json_put_u64(p, "prefetch_bytes", news.stats.prefetch_bytes);
        json_put_u64(p, "zero_bytes", news.stats.zero_bytes);
        json_put_u64(p, "present_bytes", news.stats.present_bytes);
        json_put_u64(p, "total_bytes", news.stats.total_bytes);
        json_put_u64(p, "removed_bytes", news.stats.removed_bytes);
        json_put_u64(p, "bad_clusters", news.stats.bad_clusters);
        json_put_u64(p, "queued_faults", news.stats.queued);
        put_prefetch(p, &news);
        put_latency(p, &news.stats);
        json_object_object_add(o, "pageserver", p);
}

static void put_save(struct vm *vm, struct json_object *o)
{
        struct json_object *s = json_object_new_object();
        bool saving = save_describe(vm, s);

        json_put_bool(o, "saving", saving);
        if (saving)
                json_object_object_add(o, "save", s);
        else
                json_object_put(s);
}

static void put_counts(struct vm *vm, struct json_object *o)
{
        struct json_object *saves = json_object_new_object();

        json_put_u64(saves, "completed", vm->saves.completed);
        json_put_u64(saves, "failed", vm->saves.failed);
        json_put_u64(saves, "last_pause_us", vm->saves.last_pause_ns / NS_PER_US);
        json_object_object_add(o, "saves", saves);
        if (vm->vcpus)
                json_put_u64(o, "vcpu_exits", vcpus_exits(vm->vcpus));
}

static void put_vmgenid(struct vm *vm, struct json_object *o)
{
        struct vmgenid g;

        if (vm->platform && platform_vmgenid(vm->platform, &g))
                (void)vmgenid_describe(&g, o, "vmgenid");
}

void vm_compare_cpu(struct vm *vm)
{
        struct cpu_model here;

        if (vm->reverted && cpu_model_here(&vm->kvm, &here, NULL) == 0)
                vm->cpu_differences = cpu_compat_describe(&vm->saved_cpu, &here);
}

static void put_balloon(struct vm *vm, struct json_object *o)
{
        struct virtio_device *balloon = devices_find(vm->bus, "balloon");

        if (balloon)
                json_object_object_add(o, "balloon", virtio_balloon_describe(balloon));
}

struct json_object *vm_describe(struct vm *vm)
{
        struct json_object *o = json_object_new_object();

        json_put_str(o, "name", vm->name);
        json_put_str(o, "state", state_names[vm->state]);
        put_save(vm, o);
        json_put_bool(o, "cloning", vm->clone != NULL);
        json_put_bool(o, "rolling_back", vm->rollback != NULL);
        if (vm->clone_of[0])
                json_put_str(o, "clone_of", vm->clone_of);
        json_put_u64(o, "pid", (uint64_t)getpid());
        json_put_u64(o, "memory", vm->ram.bytes);
        json_put_u64(o, "cpus", vm->kvm.cpus);
        json_put_str(o, "lane", backing_names[vm->backing]);
        json_put_bool(o, "prepared", vm->was_prepared);
        json_put_bool(o, "foreseen", vm->was_foreseen);
        put_vmgenid(vm, o);
        if (vm->bus)
                json_object_object_add(o, "devices", virtio_bus_describe(vm->bus));
        put_balloon(vm, o);
        put_counts(vm, o);
        if (vm->cpu_differences)
                json_object_object_add(o, "cpu_differences",
                                       json_object_get(vm->cpu_differences));
        if (vm->problem[0])
                json_put_str(o, "problem", vm->problem);
        snapshot_describe(&vm->snapshot, o);
        if (vm->pager)
                describe_pager(vm, o);
        if (vm->recorder)
                recorder_describe(vm->recorder, o);
        vm_describe_phases(vm, o);
        return o;
}
