/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/revert.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/image-firecracker.h"
#include "vmm/image-qemu.h"
#include "vmm/load.h"
#include "vmm/pager.h"
#include "vmm/recorder.h"
#include "vmm/state.h"

/* Theory of operation
 *
 * Order matters twice. For the guest: RAM is served (or loaded) before state
 * is restored, because restoring may touch guest memory; the irqchips' lines
 * are replayed after the devices are loaded. For the user's time: a thread
 * creates the VM in KVM, which needs only the addresses of RAM, while this one
 * starts the page server and has RAM mapped and served (or loaded); nothing of
 * ours on the way depends on the size of RAM.
 */
struct revert {
        struct revert_options options;
        struct qs_image *image;
        struct qs_reader *reader;
        struct meta meta;
        uint64_t opened_ns;
};

static int read_meta(struct revert *r, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(r->reader, SECTION_META, &data, &bytes, e);

        if (rc == -ENOENT && image_firecracker_is(r->reader))
                return err_msg(e, ENOENT, "'%s' is a snapshot of Firecracker's, which restores "
                               "it: 'vmm image export' writes its vmstate file, 'pageserver "
                               "--firecracker' serves its memory", r->options.image_path);
        if (rc == -ENOENT && image_qemu_is(r->reader))
                return err_msg(e, ENOENT, "'%s' is a machine of QEMU's: start a QEMU like it with "
                               "'-incoming defer' and tell it \"migrate-incoming exec:exec "
                               "qemu-snapshot --revert --postcopy IMAGE\", see qemu-snapshot(1)",
                               r->options.image_path);
        if (rc == -ENOENT)
                return err_msg(e, ENOENT, "'%s' holds no saved VM, only memory: 'vmm image export' "
                               "reads it", r->options.image_path);
        if (rc == 0)
                rc = meta_decode(data, bytes, &r->meta, e);
        return rc < 0 ? err_in(e, rc, "'%s'", r->options.image_path) : 0;
}

int revert_open(const struct revert_options *options, struct revert **ret, struct err *e)
{
        struct revert *r = calloc(1, sizeof(*r));
        const struct qs_open_options how = {
                .tag = options->tag, .allow_parent = options->allow_parent,
        };

        if (!r)
                return err_msg(e, ENOMEM, "no memory to revert '%s'", options->image_path);
        r->options = *options;

        int rc = qs_image_open_path(options->image_path, &how, &r->image, e);

        if (rc == 0)
                rc = qs_reader_new(r->image, &r->reader, e);
        if (rc == 0)
                rc = read_meta(r, e);
        if (rc < 0) {
                revert_close(r);
                return rc;
        }
        r->opened_ns = clock_now_ns();
        *ret = r;
        return 0;
}

void revert_close(struct revert *r)
{
        if (!r)
                return;
        qs_reader_free(r->reader);
        qs_image_close(r->image);
        free(r);
}

const struct meta *revert_meta(const struct revert *r)
{
        return &r->meta;
}

/* Restoring state makes KVM look at guest memory, and so do we before the first
 * instruction: on a page that cannot be had the building thread waits for ever,
 * and there is no event loop yet that could tell. */
static void give_up_on_bad_page(struct vm *vm)
{
        struct pager_news news;
        struct err e;

        pager_news(vm->pager, false, &news);
        if (!news.bad_page)
                return;
        err_msg(&e, EIO, "VM '%s' cannot be reverted: memory at 0x%llx cannot be loaded: %s",
                vm->name, (unsigned long long)news.bad_gpa, news.text);
        vm_give_up(vm, e.text);
}

static void on_pager_news(void *ctx)
{
        struct vm *vm = ctx;

        if (!vm->started)
                give_up_on_bad_page(vm);
        vm_post(vm, VM_POST_PAGER);
}

static int start_pager(struct revert *r, struct vm *vm, struct err *e)
{
        const struct pager_options options = {
                .image = r->image, .image_path = r->options.image_path,
                .socket = r->options.pageserver, .lane = r->options.lane,
                .prefetch_rate = r->options.prefetch_rate,
                .hold_percent = r->options.hold_percent, .hugepages = r->options.hugepages,
                .record = r->options.record,
        };

        return pager_new(&options, on_pager_news, vm, &vm->pager, e);
}

static int bring_ram(struct revert *r, struct vm *vm, struct err *e)
{
        int rc;

        if (r->options.postcopy) {
                rc = pager_start(vm->pager, &vm->ram, e);
                if (rc == 0)
                        vm->backing = pager_lane(vm->pager) == PS_LANE_SHARED ? VM_BACKING_SHARED :
                                                                                VM_BACKING_COPY;
                return rc;
        }
        vm->backing = VM_BACKING_LOADED;
        rc = ram_check_host(r->meta.memory_bytes, e);
        if (rc == 0)
                rc = ram_map_anonymous(&vm->ram, false,
                                       r->options.hugepages ? RAM_HUGETLB : RAM_THP, e);
        if (rc == 0)
                rc = load_ram(r->image, &vm->ram, e);
        if (rc == 0)
                vm->phases.resident_ns = clock_now_ns();
        return rc;
}

static int read_json(struct revert *r, const char *section, struct json_object **ret, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(r->reader, section, &data, &bytes, e);

        if (rc == 0)
                rc = json_parse(data, bytes, ret, e);
        return rc < 0 ? err_in(e, rc, "'%s', section %s", r->options.image_path, section) : 0;
}

static int restore_state(struct revert *r, struct vm *vm, struct json_object *kvm_state,
                         struct err *e)
{
        AUTO_JSON *devices = NULL;
        struct state_blob blob = { 0 };
        void *data = NULL;
        int rc = qs_section_read(r->reader, SECTION_BLOB, &data, &blob.bytes, e);

        blob.data = data;
        if (rc == 0)
                rc = read_json(r, SECTION_DEVICES, &devices, e);
        if (rc == 0)
                rc = state_load(&vm->kvm, kvm_state, &blob, e);
        if (rc == 0)
                rc = platform_load(vm->platform, devices, e);
        if (rc == 0)
                platform_replay_lines(vm->platform);
        state_blob_fini(&blob);
        return rc < 0 ? err_in(e, rc, "restore '%s'", r->options.image_path) : 0;
}

static int check_cpus(struct revert *r, struct json_object *kvm_state, struct err *e)
{
        unsigned cpus;
        int rc = state_vcpu_count(kvm_state, &cpus, e);

        if (rc == 0 && cpus != r->meta.cpus)
                rc = err_msg(e, EBADMSG, "'%s' is damaged: it names %u vCPUs and holds the state "
                             "of %u", r->options.image_path, r->meta.cpus, cpus);
        return rc;
}

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

static int creation_start(struct creation *c, struct err *e)
{
        c->ram = c->vm->ram;

        int rc = pthread_create(&c->thread, NULL, creation_thread, c);

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

static int bring_up(struct revert *r, struct vm *vm, struct json_object **ret_state, struct err *e)
{
        int rc = 0;

        if (r->options.postcopy)
                rc = start_pager(r, vm, e);
        if (rc == 0)
                rc = read_json(r, SECTION_KVM, ret_state, e);
        if (rc == 0)
                rc = check_cpus(r, *ret_state, e);
        if (rc == 0)
                rc = bring_ram(r, vm, e);
        return rc;
}

/* the image stays open, the guest's RAM depends on it */
static int start_recorder(struct revert *r, struct vm *vm, struct err *e)
{
        const struct recorder_options options = {
                .image_path = r->options.image_path, .seconds = r->options.record_seconds,
        };

        return r->options.record ? recorder_new(vm, &options, &vm->recorder, e) : 0;
}

int revert_build(struct vm *vm, void *ctx, struct err *e)
{
        struct revert *r = ctx;
        struct creation creation = { .vm = vm, .cpus = r->meta.cpus };
        AUTO_JSON *kvm_state = NULL;
        int rc = ram_init(&vm->ram, r->meta.memory_bytes, e);

        vm->phases.open_ns = r->opened_ns;
        if (rc == 0)
                rc = ram_reserve(&vm->ram, e);
        if (rc == 0)
                rc = creation_start(&creation, e);
        if (rc == 0)
                rc = bring_up(r, vm, &kvm_state, e);
        rc = creation_finish(&creation, rc, e);
        if (rc == 0)
                rc = vm_add_machine(vm, e);
        vm->phases.kvm_create_ns = clock_now_ns();
        if (rc == 0)
                rc = restore_state(r, vm, kvm_state, e);
        vm->phases.state_restore_ns = clock_now_ns();
        if (rc == 0)
                rc = start_recorder(r, vm, e);
        if (rc == 0) {
                /* an image that the guest's RAM still depends on */
                vm->reverted = true;
                snapshot_set(&vm->snapshot, r->options.image_path, qs_image_info(r->image)->tag,
                             r->options.allow_parent);
                if (r->options.postcopy)
                        vm->parent = ptr_take(&r->image);
        }
        qs_reader_free(ptr_take(&r->reader));
        if (rc == 0)                    /* others may delete what was read */
                qs_image_close(ptr_take(&r->image));
        return rc;
}
