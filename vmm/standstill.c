/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/standstill.h"

#include "vmm/virtio/bus.h"
#include "vmm/vm.h"

/* The devices are asked first: they finish what they have while the vCPUs come out. */
int standstill_begin(struct vm *vm, uint64_t deadline_ns, struct err *e)
{
        if (vm->bus)
                virtio_bus_hold(vm->bus);

        int rc = vcpus_pause(vm->vcpus, deadline_ns, e);

        if (rc == 0 && vm->bus)
                rc = virtio_bus_wait_held(vm->bus, deadline_ns, e);
        return rc;
}

void standstill_end(struct vm *vm)
{
        vcpus_resume(vm->vcpus);
        if (vm->bus)
                virtio_bus_release(vm->bus);
}
