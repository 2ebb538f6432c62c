/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/save.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/confine.h"
#include "vmm/meta.h"
#include "vmm/moment.h"
#include "vmm/save-disks.h"
#include "vmm/starter.h"
#include "vmm/state.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * A moment of the machine is taken (moment.h); RAM goes from it to the writer, while the
 * guest runs on or stands still, and beside it the disks are kept (save-disks.h); then the
 * state, which is written down only now; then the file is made durable and gets its name.
 * On any failure the guest goes on as it was and the writer leaves nothing behind.
 *
 * While it runs the VM's state is not changed by anyone else (vm_pause and
 * vm_resume refuse), so that "was it running" holds until the end.
 */

/* PREPARE  the file is opened; whatever can be made before the pause is
 * PAUSE    the moment is taken
 * COPY     RAM is read and written
 * PUBLISH  the file is completed, made durable and gets its name: too late to cancel
 * Each leads to the next, by the save thread. */
enum save_phase { PHASE_PREPARE, PHASE_PAUSE, PHASE_COPY, PHASE_PUBLISH };

static const char *const phase_names[] = {
        [PHASE_PREPARE] = "prepare", [PHASE_PAUSE] = "pause", [PHASE_COPY] = "copy",
        [PHASE_PUBLISH] = "publish",
};

struct save {
        struct vm *vm;
        struct save_request request;
        save_done_fn *done;
        void *done_ctx;
        pthread_t thread;
        bool was_running;
        _Atomic bool cancelled;

        /* stored by the threads that save, read by the event loop when it likes: nobody is
         * told, so that nobody who copies has to ring */
        _Atomic(enum save_phase) phase;
        _Atomic uint64_t done_bytes;
        _Atomic uint64_t total_bytes;
        _Atomic uint64_t disks_done_bytes;
        _Atomic uint64_t disks_total_bytes;

        /* save thread, until it posts */
        struct qs_writer *writer;
        struct moment *moment;
        struct save_disks *disks;
        struct json_object *result;
        uint64_t pause_ns;
        struct err err;
        uint64_t start_ns;
};

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        struct save *s = ctx;

        s->total_bytes = total_bytes;
        s->done_bytes = done_bytes;
        return !s->cancelled;
}

/* -ECANCELED: not any more */
static int enter(struct save *s, enum save_phase phase, struct err *e)
{
        if (s->cancelled)
                return err_msg(e, ECANCELED, "cancelled");
        s->phase = phase;
        return 0;
}

/* What a cancelled save failed with says less than that it was cancelled. */
static int explain(struct save *s, int rc, struct err *e)
{
        if (rc == 0 || !s->cancelled || s->phase == PHASE_PUBLISH)
                return confine_explain(s->vm->confine, rc, e);
        return err_msg(e, ECANCELED, "the save of VM '%s' was cancelled; the VM %s", s->vm->name,
                       s->was_running ? "runs on" : "stays paused");
}

static int put_json(struct save *s, const char *section, struct json_object *o, struct err *e)
{
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

        return qs_writer_section(s->writer, section, text, strlen(text), e);
}

static int put_state(struct save *s, struct err *e)
{
        struct moment_state state;
        int rc = moment_encode(s->moment, &state, e);

        if (rc < 0)
                return rc;
        kept_disks_encode(save_disks_kept(s->disks), state.meta);
        rc = put_json(s, SECTION_META, state.meta, e);
        if (rc == 0)
                rc = put_json(s, SECTION_KVM, state.kvm, e);
        if (rc == 0)
                rc = put_json(s, SECTION_DEVICES, state.devices, e);
        if (rc == 0)
                rc = qs_writer_section(s->writer, SECTION_BLOB, state.blob.data, state.blob.bytes,
                                       e);
        moment_state_fini(&state);
        return rc;
}

static int put_ram(struct save *s, struct err *e)
{
        const struct ram *ram = &s->vm->ram;
        const struct qs_ram_source source = moment_ram(s->moment);
        struct qs_ram_range ranges[RAM_SLOTS_MAX];

        for (unsigned i = 0; i < ram->nslots; i++)
                ranges[i] = (struct qs_ram_range){ ram->slots[i].gpa, ram->slots[i].bytes };
        return qs_writer_ram(s->writer, ranges, ram->nslots, &source, on_progress, s, e);
}

static bool is_cancelled(void *ctx)
{
        const struct save *s = ctx;

        return s->cancelled;
}

static void on_disks_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        struct save *s = ctx;

        s->disks_total_bytes = total_bytes;
        s->disks_done_bytes = done_bytes;
}

static int on_standing(void *ctx, struct err *e)
{
        struct save *s = ctx;

        return save_disks_moment(s->disks, e);
}

static int prepare(struct save *s, struct err *e)
{
        const struct save_disks_options disks = {
                .image = s->request.path, .mode = s->request.disks, .cancelled = is_cancelled,
                .progress = on_disks_progress, .ctx = s,
        };
        const struct moment_options moment = {
                .live = s->request.mode == SAVE_LIVE, .ends = s->request.mode == SAVE_STOP,
                .staging_bytes = s->request.staging_bytes, .cancelled = is_cancelled,
                .standing = on_standing, .ctx = s,
        };
        int rc = save_disks_new(s->vm, &disks, &s->disks, e);

        return rc == 0 ? moment_new(s->vm, &moment, &s->moment, e) : rc;
}

static int copy(struct save *s, struct err *e)
{
        int rc = prepare(s, e);

        if (rc == 0)
                rc = enter(s, PHASE_PAUSE, e);
        if (rc == 0)
                rc = moment_take(s->moment, e);
        if (rc == 0)
                rc = save_disks_start(s->disks, e);
        if (rc == 0)
                rc = enter(s, PHASE_COPY, e);
        if (rc == 0)
                rc = put_ram(s, e);
        if (rc == 0) {
                moment_over(s->moment);
                rc = save_disks_finish(s->disks, e);
        }
        return rc;
}

/* How RAM was copied. */
static void describe_copy(const struct save *s, struct json_object *o)
{
        struct ramguard_stats g;
        bool live = moment_guard_stats(s->moment, &g);

        json_put_bool(o, "live", live);
        if (moment_why_paused(s->moment))
                json_put_str(o, "why_paused", moment_why_paused(s->moment));
        if (!live)
                return;

        struct json_object *guard = json_object_new_object();

        json_put_u64(guard, "own_bytes", g.own_bytes);
        json_put_u64(guard, "faults", g.faults);
        json_put_u64(guard, "aside_bytes", g.aside_bytes);
        json_put_u64(guard, "staging_bytes", g.staging_bytes);
        json_put_u64(guard, "waited", g.waited);
        json_object_object_add(o, "guard", guard);
}

static void describe(struct save *s, const struct qs_writer_stats *stats)
{
        const struct moment_times t = moment_times(s->moment);
        struct json_object *o = json_object_new_object();
        struct json_object *phases = json_object_new_object();
        struct json_object *clusters = json_object_new_object();

        json_put_str(o, "name", s->vm->name);
        json_put_str(o, "image", s->request.path);
        json_put_u64(phases, "stop", t.stop_ns / NS_PER_US);
        json_put_u64(phases, "state", t.state_ns / NS_PER_US);
        json_put_u64(phases, "protect", t.protect_ns / NS_PER_US);
        json_put_u64(phases, "pause", t.pause_ns / NS_PER_US);
        json_put_u64(phases, "total", (clock_now_ns() - s->start_ns) / NS_PER_US);
        json_object_object_add(o, "phases", phases);
        describe_copy(s, o);
        save_disks_describe(s->disks, o);
        json_put_u64(o, "ram_bytes", stats->ram_bytes);
        json_put_u64(o, "bytes", stats->file_bytes);
        json_put_u64(clusters, "zero", stats->clusters_zero);
        json_put_u64(clusters, "same", stats->clusters_same);
        json_put_u64(clusters, "raw", stats->clusters_raw);
        json_put_u64(clusters, "packed", stats->clusters_packed);
        json_put_u64(clusters, "shared", stats->clusters_shared);
        json_object_object_add(o, "clusters", clusters);
        s->pause_ns = t.pause_ns;
        s->result = o;
}

/* Disks first: an image never names one that is not there. One that could not be made durable
 * may be there in spite of that. */
static int publish(struct save *s, struct err *e)
{
        int rc = save_disks_publish(s->disks, e);

        if (rc < 0)
                return rc;
        rc = put_state(s, e);
        if (rc == 0)
                rc = enter(s, PHASE_PUBLISH, e);
        if (rc == 0)
                rc = qs_writer_publish(s->writer, e);
        if (rc < 0 &&
            kept_disks_named(s->request.path, save_disks_kept(s->disks)) == KEPT_NOT_NAMED)
                save_disks_retract(s->disks);
        return rc;
}

/* Kept disks of snapshots that are replaced go with them. */
static int replace(struct save *s, struct err *e)
{
        const struct qs_writer_options *w = &s->request.writer;
        AUTO_FREE struct kept_disks *old = NULL;
        size_t n = 0;
        int rc;

        if (w->force)
                (void)kept_disks_of_image(s->request.path, w->append ? w->tag : NULL, &old, &n);
        rc = publish(s, e);
        if (rc == 0)
                kept_disks_remove(s->request.path, old, n);
        return rc;
}

static int run(struct save *s, struct err *e)
{
        struct qs_writer_stats stats;
        int rc;

        s->start_ns = clock_now_ns();
        s->request.writer.disk_bytes = ram_end_gpa(&s->vm->ram);
        s->request.writer.backing = s->request.backing[0] ? s->request.backing : NULL;
        /* the guest comes first while it runs */
        s->request.writer.background = s->request.mode == SAVE_LIVE && s->was_running;
        rc = qs_writer_new(s->request.path, &s->request.writer, &s->writer, e);
        if (rc == 0)
                rc = copy(s, e);
        if (rc == 0)
                rc = replace(s, e);
        if (rc == 0) {
                qs_writer_stats(s->writer, &stats);
                describe(s, &stats);
        }
        /* its gate before the guest, which may wait there, is waited for */
        save_disks_free(s->disks);
        moment_free(s->moment, rc == 0);
        qs_writer_free(s->writer);
        return explain(s, rc, e);
}

static void *save_thread(void *ctx)
{
        struct save *s = ctx;
        int rc = run(s, &s->err);

        ASSERT((rc == 0) == (s->result != NULL));
        vm_post(s->vm, VM_POST_SAVE);
        return NULL;
}

int save_start(struct vm *vm, const struct save_request *request, save_done_fn *done, void *ctx,
               struct err *e)
{
        int rc = vm_may_change(vm, e);

        if (rc < 0)
                return rc;
        if (vm->problem[0])
                return err_msg(e, EINVAL, "VM '%s' cannot be saved: %s", vm->name, vm->problem);
        rc = confine_check(vm->confine, vm->name, request->path, e);
        if (rc < 0)
                return rc;

        struct save *s = calloc(1, sizeof(*s));

        if (!s)
                return err_msg(e, ENOMEM, "no memory to save VM '%s'", vm->name);
        s->vm = vm;
        s->request = *request;
        s->done = done;
        s->done_ctx = ctx;
        s->was_running = vm->state == VM_RUNNING;
        s->total_bytes = vm->ram.bytes;
        vm->save = s;

        rc = starter_start(vm->starter, &(struct starter_thread){
                .role = SANDBOX_JOB, .name = "save", .run = save_thread, .ctx = s,
        }, &s->thread);

        if (rc) {
                vm->save = NULL;
                free(s);
                return err_set(e, rc, "start a thread to save VM '%s'", vm->name);
        }
        return 0;
}

static void count_save(struct vm *vm, const struct save *s)
{
        if (s->result) {
                vm->saves.completed++;
                vm->saves.last_pause_ns = s->pause_ns;
        } else {
                vm->saves.failed++;
        }
}

void save_finish(struct vm *vm)
{
        struct save *s = vm->save;

        if (!s)
                return;
        pthread_join(s->thread, NULL);
        vm->save = NULL;
        count_save(vm, s);
        if (s->result)
                snapshot_set(&vm->snapshot, s->request.path, s->request.writer.tag, NULL);
        if (s->result && s->request.mode == SAVE_STOP)
                vm_stop_soon(vm);
        s->done(s->done_ctx, s->result, s->result ? NULL : &s->err);
        json_object_put(s->result);
        free(s);
}

int save_cancel(struct vm *vm, const char *path, struct err *e)
{
        if (!vm->save && (vm->rollback || vm->clone))
                return err_msg(e, EBUSY, "VM '%s' is not being saved but %s: wait until that is "
                               "done", vm->name, vm->rollback ? "rolled back" : "cloned");
        if (!vm->save)
                return err_msg(e, ENODATA, "VM '%s' is not being saved", vm->name);
        if (path && strcmp(path, vm->save->request.path))
                return err_msg(e, ENODATA, "VM '%s' is not being saved to '%s'", vm->name, path);
        vm->save->cancelled = true;
        return 0;
}

bool save_describe(const struct vm *vm, struct json_object *o)
{
        const struct save *s = vm->save;

        if (!s)
                return false;

        enum save_phase phase = s->phase;       /* not as an index: gcc 12 reads that plainly */

        json_put_u64(o, "done", s->done_bytes + s->disks_done_bytes);
        json_put_u64(o, "total", s->total_bytes + s->disks_total_bytes);
        json_put_str(o, "phase", phase_names[phase]);
        json_put_str(o, "image", s->request.path);
        return true;
}

void save_abort(struct vm *vm)
{
        struct save *s = vm->save;

        if (!s)
                return;
        s->cancelled = true;
        pthread_join(s->thread, NULL);
        vm->save = NULL;
        json_object_put(s->result);
        free(s);
}
