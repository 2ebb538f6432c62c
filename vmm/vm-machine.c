/* SPDX-License-Identifier: Apache-2.0 */
/* The machine under a VM: its devices and vCPU threads, and what they tell the VM. */
#include <errno.h>
#include <stdio.h>

#include "vmm/console.h"
#include "vmm/devices.h"
#include "vmm/giveback.h"
#include "vmm/virtio/balloon.h"
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

static int add_devices(struct vm *vm, struct err *e)
{
        const struct virtio_bus_ops ops = {
                .broken = on_broken, .ctx = vm, .starter = vm->starter,
        };
        int rc = vm->machine.balloon ? giveback_new(&vm->ram, &vm->giveback, e) : 0;
        const struct devices_host host = {
                .kvm = &vm->kvm, .ram = &vm->ram, .giveback = vm->giveback,
                .disk_files = vm->disk_files,
        };

        return rc == 0 ? devices_make_bus(&vm->machine, &host, &ops, &vm->bus, e) : rc;
}

int vm_add_machine(struct vm *vm, struct err *e)
{
        const struct platform_ops platform_ops = {
                .console_out = on_console_out, .request = on_request,
                .input_room = on_input_room, .ctx = vm,
        };
        const struct vcpus_ops vcpus_ops = { .ended = on_ended, .ctx = vm, .starter = vm->starter };
        int rc = platform_new(&vm->kvm, &platform_ops, &vm->platform, e);

        if (rc == 0)
                rc = add_devices(vm, e);
        if (rc == 0) {
                platform_set_bus(vm->platform, vm->bus);
                rc = vcpus_new(&vm->kvm, vm->platform, &vcpus_ops, &vm->vcpus, e);
        }
        if (rc == 0)
                rc = vcpus_start(vm->vcpus, e);
        return rc;
}

int vm_set_balloon(struct vm *vm, uint64_t bytes, struct err *e)
{
        struct virtio_device *balloon = devices_find(vm->bus, "balloon");
        int rc = vm_is_free(vm, e);

        if (rc == 0 && !balloon)
                rc = err_msg(e, EINVAL, "VM '%s' has no balloon: it gets one by 'vmm run "
                             "--balloon'", vm->name);
        return rc == 0 ? virtio_balloon_set_target(balloon, bytes, e) : rc;
}
