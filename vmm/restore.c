/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/restore.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/devices.h"
#include "vmm/prepared.h"
#include "vmm/state.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * Order matters twice. For the guest: RAM is served (or loaded, or mapped) before state
 * is restored, because restoring may touch guest memory; the irqchips' lines
 * are replayed after the devices are loaded; what it then finds in its memory
 * says that it is another one (vmgenid.h). For the user's time: a thread
 * creates the VM in KVM, which needs only the addresses of RAM, while this one
 * sees to RAM; nothing of ours on the way depends on the size of RAM.
 */

/* KVM's part, on a thread of its own between start and finish. */
struct creation {
        struct vm *vm;
        struct ram ram;                 /* a copy: the other thread unmaps it if it fails */
        unsigned cpus;
        pthread_t thread;
        bool started;
        int rc;
        struct err err;
};

static void *creation_thread(void *ctx)
{
        struct creation *c = ctx;

        c->rc = kvm_open(&c->vm->kvm, &c->err);
        if (c->rc == 0)
                c->rc = kvm_create(&c->vm->kvm, &c->ram, c->cpus, &c->err);
        return NULL;
}

/* Unless that part has been prepared. */
static int creation_start(struct creation *c, struct err *e)
{
        struct vm *vm = c->vm;
        int rc = prepared_give_kvm(vm->prepared, vm, c->cpus, &vm->was_prepared, e);

        if (rc < 0 || vm->was_prepared)
                return rc;
        rc = ram_reserve(&vm->ram, e);
        if (rc < 0)
                return rc;
        c->ram = vm->ram;
        rc = pthread_create(&c->thread, NULL, creation_thread, c);
        if (rc)
                return err_set(e, rc, "start a thread to create the VM");
        c->started = true;
        return 0;
}

/* rc: what went wrong meanwhile goes before what went wrong here. */
static int creation_finish(struct creation *c, int rc, struct err *e)
{
        if (c->started)
                pthread_join(c->thread, NULL);
        if (rc == 0 && c->rc < 0) {
                *e = c->err;
                rc = c->rc;
        }
        return rc;
}

static int read_json(const struct restore *from, const char *section, struct json_object **ret,
                     struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = from->section(from->ctx, section, &data, &bytes, e);

        if (rc == 0)
                rc = json_parse(data, bytes, ret, e);
        return rc < 0 ? err_in(e, rc, "'%s', section %s", from->from, section) : 0;
}

static int check_cpus(const struct restore *from, struct json_object *kvm_state, struct err *e)
{
        unsigned cpus;
        int rc = state_vcpu_count(kvm_state, &cpus, e);

        if (rc == 0 && cpus != from->meta->cpus)
                rc = err_msg(e, EBADMSG, "'%s' is damaged: it names %u vCPUs and holds the state "
                             "of %u", from->from, from->meta->cpus, cpus);
        return rc;
}

static int read_documents(const struct restore *from, struct restore_docs *docs, struct err *e)
{
        int rc = read_json(from, SECTION_KVM, &docs->kvm, e);

        if (rc == 0)
                rc = check_cpus(from, docs->kvm, e);
        return rc == 0 ? read_json(from, SECTION_DEVICES, &docs->devices, e) : rc;
}

static int parse_state(const struct restore *from, const struct kvm *kvm,
                       struct restore_docs *docs, struct err *e)
{
        struct state_blob blob = { 0 };
        void *data = NULL;
        int rc = from->section(from->ctx, SECTION_BLOB, &data, &blob.bytes, e);

        blob.data = data;
        if (rc == 0)
                rc = state_parse(kvm, docs->kvm, &blob, &docs->state, e);
        state_blob_fini(&blob);
        return rc;
}

int restore_read(const struct restore *from, const struct kvm *kvm, struct restore_docs *docs,
                 struct err *e)
{
        int rc = read_documents(from, docs, e);

        return rc == 0 ? parse_state(from, kvm, docs, e) : rc;
}

void restore_docs_fini(struct restore_docs *docs)
{
        json_object_put(docs->kvm);
        json_object_put(docs->devices);
        free(docs->state);
        *docs = (struct restore_docs){ .kvm = NULL };
}

static int bring_up(struct vm *vm, const struct restore *from, struct restore_docs *docs,
                    struct err *e)
{
        int rc = 0;

        if (from->prepare)
                rc = from->prepare(from->ctx, vm, e);
        if (rc == 0 && !docs->kvm)
                rc = read_documents(from, docs, e);
        if (rc == 0)
                rc = from->bring_ram(from->ctx, vm, e);
        vm->phases.memory_ns = clock_now_ns();
        return rc;
}

static int load_kvm(struct vm *vm, const struct restore *from, struct restore_docs *docs,
                    struct err *e)
{
        int rc = docs->state ? 0 : parse_state(from, &vm->kvm, docs, e);

        if (rc < 0)
                return rc;
        state_cpu_model(docs->state, &vm->saved_cpu);
        return state_load_parsed(&vm->kvm, docs->state, e);
}

static int restore_state(struct vm *vm, const struct restore *from, struct restore_docs *docs,
                         struct err *e)
{
        const struct devices devices = { vm->platform, vm->bus };
        struct devices_state *state = NULL;
        int rc = devices_decode(&devices, docs->devices, &state, e);

        if (rc == 0)
                rc = load_kvm(vm, from, docs, e);
        if (rc == 0)
                rc = devices_apply(&devices, state, e);
        if (rc == 0)
                rc = platform_renew_vmgenid(vm->platform, &vm->ram, e);
        devices_state_free(state);
        return rc < 0 ? err_in(e, rc, "restore '%s'", from->from) : 0;
}

/* bring_up() and what needs both RAM and KVM's part. */
static int build(struct vm *vm, const struct restore *from, struct creation *creation,
                 struct restore_docs *docs, struct err *e)
{
        int rc = bring_up(vm, from, docs, e);

        rc = creation_finish(creation, rc, e);
        vm->disk_files = from->disk_files;
        if (rc == 0)
                rc = vm_add_machine(vm, e);
        vm->disk_files = NULL;
        vm->phases.kvm_create_ns = clock_now_ns();
        if (rc == 0)
                rc = restore_state(vm, from, docs, e);
        vm->phases.state_restore_ns = clock_now_ns();
        return rc;
}

int restore_build(struct vm *vm, const struct restore *from, struct err *e)
{
        struct creation creation = { .vm = vm, .cpus = from->meta->cpus };
        struct restore_docs own = { .kvm = NULL };
        int rc = ram_init(&vm->ram, from->meta->memory_bytes, e);

        vm->machine = from->meta->machine;
        if (rc == 0)
                rc = creation_start(&creation, e);
        if (rc == 0)
                rc = build(vm, from, &creation, from->docs ? from->docs : &own, e);
        restore_docs_fini(&own);
        if (rc == 0)
                vm->reverted = true;
        return rc;
}
