/* SPDX-License-Identifier: Apache-2.0 */
/* what a VM is made of: it does not change while it lives */
#include "common/json.h"
#include "vmm/control-priv.h"
#include "vmm/machine-config.h"
#include "vmm/vm.h"

static struct json_object *encode(const struct vm *vm)
{
        struct json_object *o = json_object_new_object();

        machine_config_encode(&vm->machine, o);
        return o;
}

void control_machine_config(struct request *r)
{
        const struct vm *vm = r->control->vm;
        AUTO_JSON *o = encode(vm);

        json_put_u64(o, "cpus", vm->kvm.cpus);
        json_put_u64(o, "memory", vm->ram.bytes);
        json_put_bool(o, "hugepages", vm->ram.hugetlb);
        control_reply(r->control, r->http, 200, o);
}

static void reply_part(struct request *r, const char *key)
{
        AUTO_JSON *o = encode(r->control->vm);

        control_reply(r->control, r->http, 200, json_object_object_get(o, key));
}

void control_drives(struct request *r)
{
        reply_part(r, "disks");
}

void control_network_interfaces(struct request *r)
{
        reply_part(r, "nets");
}
