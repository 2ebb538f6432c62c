/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/state-kvm.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "tests/unit/state-sample.h"
#include "tests/unit/suite.h"

int vm_skip(void)
{
        struct kvm kvm;
        struct err e = { 0 };
        bool usable = kvm_open(&kvm, &e) == 0;

        kvm_close(&kvm);
        if (usable)
                return 0;
        fprintf(stderr, "skipped: %s\n", e.text);
        return SUITE_SKIP;
}

bool vm_new(struct vm *vm, unsigned cpus)
{
        struct err e = { 0 };

        if (kvm_open(&vm->kvm, &e) < 0 || ram_init(&vm->ram, RAM_BYTES_MIN, &e) < 0 ||
            ram_map_anonymous(&vm->ram, false, RAM_SMALL, &e) < 0 ||
            kvm_create(&vm->kvm, &vm->ram, cpus, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                return false;
        }
        return true;
}

void vm_fini(struct vm *vm)
{
        kvm_close(&vm->kvm);
        ram_unmap(&vm->ram);
}

int vm_vcpu_call(struct vm *vm, unsigned cpu, unsigned long request, void *arg)
{
        int rc = kvm_call(&vm->kvm, vm->kvm.vcpu_fd[cpu], request, arg);

        if (rc < 0)
                fprintf(stderr, "vCPU %u, request 0x%lx: %s\n", cpu, request, strerror(-rc));
        return rc;
}

bool vm_save(struct vm *vm, struct vm_saved *s)
{
        struct err e = { 0 };

        *s = (struct vm_saved){ 0 };
        if (state_save(&vm->kvm, &s->json, &s->blob, &e) == 0)
                return true;
        fprintf(stderr, "%s\n", e.text);
        return false;
}

void vm_saved_fini(struct vm_saved *s)
{
        json_object_put(s->json);
        state_blob_fini(&s->blob);
}

/* From text, as out of a file; prints what it took. */
static bool vm_load(struct vm *vm, const struct vm_saved *s)
{
        struct err e = { 0 };
        uint64_t start_ns = clock_now_ns();
        struct json_object *json = sample_reparse(s->json);
        uint64_t parsed_ns = clock_now_ns();

        vm->kvm.in_calls_ns = 0;

        int rc = state_load(&vm->kvm, json, &s->blob, &e);
        uint64_t loaded_ns = clock_now_ns();

        json_object_put(json);
        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        fprintf(stderr, "%u vCPUs: print and parse %llu us, load %llu us, of it in KVM %llu us\n",
                vm->kvm.cpus, (unsigned long long)(parsed_ns - start_ns) / 1000,
                (unsigned long long)(loaded_ns - parsed_ns) / 1000,
                (unsigned long long)vm->kvm.in_calls_ns / 1000);
        return rc == 0;
}

static void count(void *ctx, const char *field, const char *was, const char *is)
{
        fprintf(stderr, "differs: %s %s -> %s\n", field, was, is);
        ++*(unsigned *)ctx;
}

unsigned vm_differences(const struct vm_saved *a, const struct vm_saved *b)
{
        unsigned n = 0;
        struct err e = { 0 };

        if (state_compare(a->json, &a->blob, b->json, &b->blob, count, &n, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                return UINT32_MAX;
        }
        return n;
}

unsigned vm_move(struct vm *a, struct vm *b)
{
        struct vm_saved was, is;
        unsigned n = UINT32_MAX;

        if (!vm_save(a, &was))
                return n;
        memcpy(ram_at(&b->ram, 0, 1 << 20), ram_at(&a->ram, 0, 1 << 20), 1 << 20);
        if (vm_load(b, &was) && vm_save(b, &is)) {
                n = vm_differences(&was, &is);
                vm_saved_fini(&is);
        }
        vm_saved_fini(&was);
        return n;
}

void vm_set_msr(struct vm *vm, unsigned cpu, uint32_t index, uint64_t value)
{
        struct err e = { 0 };
        int rc = state_msr_write(&vm->kvm, cpu, index, value, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT(rc == 0);
}

void lapic_set(struct kvm_lapic_state *l, unsigned reg, uint32_t v)
{
        memcpy(l->regs + reg, &v, sizeof(v));
}
