/* SPDX-License-Identifier: Apache-2.0 */
/* The machine under a VM: its devices and vCPU threads, and what they tell the VM. */
#include <stdio.h>

#include "vmm/console.h"
#include "vmm/devices.h"
#include "vmm/vm.h"

static void on_console_out(void *ctx, const uint8_t *data, size_t bytes)
{
        struct vm *vm = ctx;

        console_out(vm->console, data, bytes);
}

static void on_request(void *ctx, enum platform_request what)
{
        vm_post(ctx, what == PLATFORM_POWER_OFF ? VM_POST_POWER_OFF : VM_POST_RESET);
}

static void on_input_room(void *ctx)
{
        vm_post(ctx, VM_POST_INPUT);
}

static void on_ended(void *ctx, enum vcpus_end why, const char *text)
{
        struct vm *vm = ctx;

        vm->end_why = why;
        snprintf(vm->end_text, sizeof(vm->end_text), "%s", text);
        vm_post(vm, VM_POST_ENDED);
}

static void on_broken(void *ctx, const char *name, const char *why)
{
        const struct vm *vm = ctx;

        fprintf(stderr, "vmm: VM '%s': device %s does not work until its driver resets it: %s\n",
                vm->name, name, why);
}

int vm_add_machine(struct vm *vm, struct err *e)
{
        const struct platform_ops platform_ops = {
                .console_out = on_console_out, .request = on_request,
                .input_room = on_input_room, .ctx = vm,
        };
        const struct vcpus_ops vcpus_ops = { .ended = on_ended, .ctx = vm };
        const struct virtio_bus_ops bus_ops = { .broken = on_broken, .ctx = vm };
        int rc = platform_new(&vm->kvm, &platform_ops, &vm->platform, e);

        if (rc == 0)
                rc = devices_make_bus(&vm->machine, &vm->kvm, &vm->ram, &bus_ops, &vm->bus, e);
        if (rc == 0) {
                platform_set_bus(vm->platform, vm->bus);
                rc = vcpus_new(&vm->kvm, vm->platform, &vcpus_ops, &vm->vcpus, e);
        }
        if (rc == 0)
                rc = vcpus_start(vm->vcpus, e);
        return rc;
}
