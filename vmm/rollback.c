/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rollback.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/confine.h"
#include "vmm/devices.h"
#include "vmm/giveback.h"
#include "vmm/meta.h"
#include "vmm/rewinder.h"
#include "vmm/rollback-disks.h"
#include "vmm/standstill.h"
#include "vmm/starter.h"
#include "vmm/state.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * Its thread opens the snapshot and reads all of it that will be needed while the guest
 * runs, then pauses the vCPUs, looks at RAM, and only then changes anything: RAM, what KVM
 * derived from it, KVM's state, the devices. The event loop lets the guest go on.
 *
 * INV-ROLLBACK: until `changing` is set the VM is as it was, whatever fails, and goes on as
 *               it was; from then on it has the snapshot's state whole, or it is halted and
 *               says so. Rolling back again heals that: nothing depends on what was before.
 *
 * Meanwhile nobody else changes the VM (vm_is_free). A guest that ends before its vCPUs
 * have parked lives again afterwards: if it crashed it is halted first, if it switched its
 * machine off or reset it the VM ends only if the rollback fails.
 */
#define PAUSE_WAIT_NS (10 * NS_PER_SEC)
/* one that is to be given up waits no longer than this */
#define PAUSE_STEP_NS (100 * NS_PER_MS)

struct rollback {
        /* constant once the thread runs */
        struct vm *vm;
        struct rollback_request request;
        rollback_done_fn *done;
        void *done_ctx;
        pthread_t thread;
        bool stay_paused;
        uint64_t start_ns;

        _Atomic bool cancelled;

        /* its thread, until it posts */
        struct qs_image *image;
        struct machine_state *state;
        struct json_object *doc;
        struct devices_state *devices;
        struct rollback_disks *disks;
        struct rewinder *rewinder;
        struct rewinder_stats stats;
        bool changing;
        uint64_t pause_ns;              /* when it was asked for; 0 = not yet */
        uint64_t parked_ns, rewound_ns, loaded_ns;
        int rc;
        struct err err;
};

int rollback_parse(const char *text, size_t bytes, struct rollback_request *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        const char *tag = "";
        int rc = json_parse(text, bytes, &o, e);

        memset(ret, 0, sizeof(*ret));
        if (rc == 0 && json_object_object_get_ex(o, "tag", NULL)) {
                rc = json_take_str(o, "tag", &tag, e);
                if (rc == 0)
                        rc = qs_tag_parse(tag, ret->tag, e);
        }
        if (rc == 0 && json_object_object_get_ex(o, "paused", NULL))
                rc = json_take_bool(o, "paused", &ret->paused, e);
        return rc;
}

/* ---- before anything is changed ------------------------------------------------ */

static int read_json(struct qs_reader *reader, const char *section, struct json_object **ret,
                     struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(reader, section, &data, &bytes, e);

        if (rc == 0)
                rc = json_parse(data, bytes, ret, e);
        return rc < 0 ? err_in(e, rc, "section %s", section) : 0;
}

static int check_meta(struct rollback *b, struct qs_reader *reader, struct err *e)
{
        const struct vm *vm = b->vm;
        const struct kept_disks_image image = { vm->snapshot.path, qs_image_fd(b->image, 0) };
        AUTO_FREE void *data = NULL;
        struct meta m;
        size_t bytes;
        int rc = qs_section_read(reader, SECTION_META, &data, &bytes, e);

        if (rc == -ENOENT)
                return err_msg(e, EINVAL, "it holds no VM of ours");
        if (rc == 0)
                rc = meta_decode(data, bytes, &m, e);
        if (rc < 0)
                return rc;
        if (m.memory_bytes != vm->ram.bytes || m.cpus != vm->kvm.cpus)
                return err_msg(e, EINVAL, "it is of a machine with %llu MiB and %u vCPUs, this "
                               "one has %llu MiB and %u: use 'vmm revert'",
                               (unsigned long long)(m.memory_bytes >> 20), m.cpus,
                               (unsigned long long)(vm->ram.bytes >> 20), vm->kvm.cpus);
        if (qs_image_info(b->image)->disk_bytes < ram_end_gpa(&vm->ram))
                return err_msg(e, EBADMSG, "it holds less memory than its VM had");
        return rollback_disks_new(b->vm, &image, &m.disks, &m.machine, &b->disks, e);
}

static int read_state(struct rollback *b, struct qs_reader *reader, struct err *e)
{
        AUTO_JSON *kvm_state = NULL;
        struct state_blob blob = { 0 };
        void *data = NULL;
        int rc = check_meta(b, reader, e);

        if (rc == 0)
                rc = qs_section_read(reader, SECTION_BLOB, &data, &blob.bytes, e);
        blob.data = data;
        if (rc == 0)
                rc = read_json(reader, SECTION_KVM, &kvm_state, e);
        if (rc == 0)
                rc = read_json(reader, SECTION_DEVICES, &b->doc, e);
        if (rc == 0)
                rc = state_parse(&b->vm->kvm, kvm_state, &blob, &b->state, e);
        if (rc == 0)
                rc = devices_decode(&(struct devices){ b->vm->platform, b->vm->bus }, b->doc,
                                    &b->devices, e);
        state_blob_fini(&blob);
        return rc;
}

static int open_snapshot(struct rollback *b, struct err *e)
{
        const struct snapshot *s = &b->vm->snapshot;
        const struct qs_open_options how = {
                .tag = b->request.tag, .allow_parent = s->allow_parent,
        };
        struct qs_reader *reader = NULL;
        int rc = qs_image_open_path(s->path, &how, &b->image, e);

        if (rc == 0)
                rc = qs_reader_new(b->image, &reader, e);
        if (rc == 0) {
                rc = read_state(b, reader, e);
                if (rc < 0)
                        rc = err_in(e, rc, "snapshot '%s' of '%s'", b->request.tag, s->path);
        }
        qs_reader_free(reader);
        return rc;
}

static int prepare(struct rollback *b, struct err *e)
{
        struct vm *vm = b->vm;
        int rc = open_snapshot(b, e);
        const struct rewinder_options options = {
                .ram = &vm->ram, .parent = vm->parent, .flat_fd = vm->flat_fd,
                .target = b->image, .pager = vm->pager,
                .shared = vm->backing == VM_BACKING_SHARED, .cancelled = &b->cancelled,
                .starter = vm->starter,
        };

        if (rc == 0 && vm->parent)
                rc = qs_image_settle(vm->parent, e);
        if (rc == 0)
                rc = rewinder_new(&options, &b->rewinder, e);
        if (rc == 0)
                rc = rewinder_prepare(b->rewinder, e);
        return rc;
}

static int pause_guest(struct rollback *b, struct err *e)
{
        uint64_t end_ns = clock_now_ns() + PAUSE_WAIT_NS;
        int rc;

        b->pause_ns = clock_now_ns();
        do
                rc = standstill_begin(b->vm, MIN(clock_now_ns() + PAUSE_STEP_NS, end_ns), e);
        while (rc == -ETIMEDOUT && clock_now_ns() < end_ns && !b->cancelled);
        b->parked_ns = clock_now_ns();
        return rc;
}

/* ---- the change ---------------------------------------------------------------- */

static int change(struct rollback *b, struct err *e)
{
        struct vm *vm = b->vm;
        int rc;

        b->changing = true;
        rc = rewinder_apply(b->rewinder, &b->stats, e);
        if (rc == 0)
                rc = kvm_remap(&vm->kvm, &vm->ram, e);
        b->rewound_ns = clock_now_ns();
        if (rc == 0)
                rollback_disks_swap(b->disks);
        if (rc == 0)
                rc = state_reload(&vm->kvm, b->state, e);
        if (rc == 0)
                rc = devices_apply(&(struct devices){ vm->platform, vm->bus }, b->devices, e);
        if (rc == 0)
                rc = platform_renew_vmgenid(vm->platform, &vm->ram, e);
        b->loaded_ns = clock_now_ns();
        return rc;
}

static int run(struct rollback *b, struct err *e)
{
        int rc = prepare(b, e);

        if (rc == 0)
                rc = pause_guest(b, e);
        if (rc == 0)
                rc = rewinder_look(b->rewinder, e);
        if (rc == 0)
                rc = state_fits(&b->vm->kvm, b->state, e);
        if (rc == 0 && b->cancelled)
                rc = err_msg(e, ECANCELED, "cancelled");
        return rc == 0 ? change(b, e) : rc;
}

static void *rollback_thread(void *ctx)
{
        struct rollback *b = ctx;

        giveback_hold(b->vm->giveback);         /* INV-OWN */
        b->rc = run(b, &b->err);
        giveback_release(b->vm->giveback);
        confine_explain(b->vm->confine, b->rc, &b->err);
        if (b->rc < 0)
                err_in(&b->err, b->rc, "VM '%s' is not rolled back", b->vm->name);
        vm_post(b->vm, VM_POST_ROLLBACK);
        return NULL;
}

/* ---- on the event loop --------------------------------------------------------- */

static void rollback_free(struct rollback *b)
{
        rollback_disks_free(b->disks);
        rewinder_free(b->rewinder);
        devices_state_free(b->devices);
        json_object_put(b->doc);
        free(b->state);
        qs_image_close(b->image);
        free(b);
}

static int check_start(struct vm *vm, const struct rollback_request *request, struct err *e)
{
        int rc = vm_is_free(vm, e);

        if (rc < 0)
                return rc;
        if (vm->recorder)
                return err_msg(e, EBUSY, "VM '%s' is being recorded: what it touches first "
                               "would be that of two runs", vm->name);
        if (!vm->snapshot.path)
                return err_msg(e, EINVAL, "VM '%s' has no snapshot: it was neither saved nor "
                               "reverted", vm->name);
        ASSERT(memchr(request->tag, '\0', sizeof(request->tag)));
        return 0;
}

int rollback_start(struct vm *vm, const struct rollback_request *request,
                   rollback_done_fn *done, void *ctx, struct err *e)
{
        int rc = check_start(vm, request, e);
        struct rollback *b = rc == 0 ? calloc(1, sizeof(*b)) : NULL;

        if (rc < 0)
                return rc;
        if (!b)
                return err_msg(e, ENOMEM, "no memory to roll VM '%s' back", vm->name);
        b->vm = vm;
        b->request = *request;
        if (!request->tag[0])
                strcpy(b->request.tag, vm->snapshot.tag);
        b->done = done;
        b->done_ctx = ctx;
        /* one that waits for a page would run */
        b->stay_paused = request->paused || (vm->state == VM_PAUSED && !vm->waits_for_memory);
        b->start_ns = clock_now_ns();
        vm->ends_unless_rolled_back = false;
        vm->rollback = b;
        rc = starter_start(vm->starter, &(struct starter_thread){
                .role = SANDBOX_JOB, .name = "rollback", .run = rollback_thread, .ctx = b,
        }, &b->thread);
        if (rc) {
                vm->rollback = NULL;
                free(b);
                return err_set(e, rc, "start a thread to roll VM '%s' back", vm->name);
        }
        return 0;
}

static void live_again(struct rollback *b)
{
        struct vm *vm = b->vm;

        vcpus_revive(vm->vcpus);
        vm->state = VM_PAUSED;
        vm->waits_for_memory = false;
        vm->problem[0] = '\0';
        if (!b->stay_paused)
                (void)vm_resume(vm, NULL);      /* nothing is left that could refuse it */
        strcpy(vm->snapshot.tag, b->request.tag);
}

/* INV-ROLLBACK */
static void go_on_or_halt(struct rollback *b)
{
        struct vm *vm = b->vm;

        if (b->changing) {
                err_in(&b->err, b->rc, "it failed half way: try again, or stop the VM and revert "
                       "'%s'", vm->snapshot.path);
                vm_halt(vm, b->err.text);
        } else if (vm->ends_unless_rolled_back) {
                vm_stop_soon(vm);               /* once its client was told */
        } else if (b->pause_ns && vm->state == VM_RUNNING) {
                /* a call on a vCPU that is not parked would wait for its page */
                if (vcpus_paused(vm->vcpus))
                        state_before_resume(&vm->kvm);
                standstill_end(vm);
        }
}

static struct json_object *describe(const struct rollback *b, uint64_t now_ns)
{
        struct json_object *o = json_object_new_object();
        struct json_object *phases = json_object_new_object();

        json_put_str(o, "name", b->vm->name);
        json_put_str(o, "image", b->vm->snapshot.path);
        json_put_str(o, "tag", b->request.tag);
        json_put_u64(phases, "prepare", (b->pause_ns - b->start_ns) / NS_PER_US);
        json_put_u64(phases, "stop", (b->parked_ns - b->pause_ns) / NS_PER_US);
        json_put_u64(phases, "memory", (b->rewound_ns - b->parked_ns) / NS_PER_US);
        json_put_u64(phases, "state", (b->loaded_ns - b->rewound_ns) / NS_PER_US);
        json_put_u64(phases, "pause", (now_ns - b->pause_ns) / NS_PER_US);
        json_put_u64(phases, "total", (now_ns - b->start_ns) / NS_PER_US);
        json_object_object_add(o, "phases", phases);
        json_put_u64(o, "pages_written", b->stats.pages_written);
        json_put_u64(o, "pages_given_back", b->stats.pages_given_back);
        return o;
}

void rollback_finish(struct vm *vm)
{
        struct rollback *b = vm->rollback;

        if (!b)
                return;
        pthread_join(b->thread, NULL);
        vm->rollback = NULL;
        if (b->rc == 0) {
                live_again(b);

                AUTO_JSON *result = describe(b, clock_now_ns());

                b->done(b->done_ctx, result, NULL);
        } else {
                go_on_or_halt(b);
                b->done(b->done_ctx, NULL, &b->err);
        }
        rollback_free(b);
}

void rollback_abort(struct vm *vm)
{
        struct rollback *b = vm->rollback;

        if (!b)
                return;
        b->cancelled = true;
        pthread_join(b->thread, NULL);
        vm->rollback = NULL;
        rollback_free(b);
}
