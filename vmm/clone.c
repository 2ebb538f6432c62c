/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "common/wire/sections.h"
#include "vmm/clone-copy.h"
#include "vmm/clone-door.h"
#include "vmm/clone-parts.h"
#include "vmm/meta.h"
#include "vmm/moment.h"
#include "vmm/ramwhole.h"
#include "vmm/save-disks.h"
#include "vmm/starter.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * A moment is taken as for a save (moment.h), and RAM goes into memory instead of a file.
 * That is two memfds, and a file without a name for each disk that the guest may write; the
 * client gets them when they are whole, and stays connected until then. Whatever goes wrong, and
 * when it goes away, the guest goes on as it was, and nothing of ours holds the memory and the
 * files: they are gone with the last descriptor. Disks are kept as by a save (save-disks.h),
 * beside the copy of RAM.
 *
 * INV-SEALED: what the client gets is sealed against writing, growing and shrinking.
 *             So what many VMs map, and take their state from, never changes under them,
 *             neither by us nor by each other.
 *
 * The copy is of all that RAM shows: what the guest has of its own, and what its parent
 * (an image, a memfd) has of the rest. So the copies need neither us nor that image.
 */
#define CLONE_SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

struct clone {
        struct vm *vm;
        struct clone_request request;
        struct clone_door door;
        clone_done_fn *done;
        void *done_ctx;
        pthread_t thread;
        _Atomic bool cancelled;

        /* its thread, until it posts */
        struct clone_parts parts;
        struct moment *moment;
        struct save_disks *disks;
        struct json_object *result;
        struct err err;
        /* durations */
        uint64_t copy_ns;
        uint64_t total_ns;
};

static bool stop(void *ctx)
{
        struct clone *c = ctx;

        return c->cancelled || clone_door_gone(&c->door);
}

static int copy_ram(struct clone *c, struct err *e)
{
        const struct qs_ram_source own = moment_ram(c->moment);
        uint64_t from_ns = clock_now_ns();
        struct ramwhole *whole;
        int rc = ramwhole_new(&own, -1, &whole, e);

        if (rc < 0)
                return rc;
        rc = clone_copy(&(struct clone_copy_options){
                .ram = &c->vm->ram, .source = ramwhole_source(whole), .fd = c->parts.ram_fd,
                .stop = stop, .stop_ctx = c, .starter = c->vm->starter,
        }, e);
        ramwhole_free(whole);
        c->copy_ns = clock_now_ns() - from_ns;
        return rc;
}

static int on_standing(void *ctx, struct err *e)
{
        struct clone *c = ctx;

        return save_disks_moment(c->disks, e);
}

static void on_disks_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
        (void)ctx, (void)done_bytes, (void)total_bytes;
}

static int prepare(struct clone *c, struct err *e)
{
        const struct save_disks_options disks = {
                .files = &c->parts.disks, .mode = DISKS_AUTO, .cancelled = stop,
                .progress = on_disks_progress, .ctx = c,
        };
        const struct moment_options moment = {
                .live = true, .cancelled = stop, .standing = on_standing, .ctx = c,
        };
        int rc = save_disks_new(c->vm, &disks, &c->disks, e);

        return rc == 0 ? moment_new(c->vm, &moment, &c->moment, e) : rc;
}

static int take_moment(struct clone *c, struct err *e)
{
        int rc = prepare(c, e);

        if (rc == 0)
                rc = moment_take(c->moment, e);
        if (rc == 0)
                rc = save_disks_start(c->disks, e);
        if (rc == 0)
                rc = copy_ram(c, e);
        if (rc < 0)
                return rc;
        moment_over(c->moment);
        return save_disks_finish(c->disks, e);
}

/* ---- the state ------------------------------------------------------------------- */

static struct section json_section(const char *name, struct json_object *o)
{
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        struct section s = { .data = text, .bytes = strlen(text) };

        snprintf(s.name, sizeof(s.name), "%s", name);
        return s;
}

static int write_state(struct clone *c, const struct moment_state *state, struct err *e)
{
        const struct section s[] = {
                json_section(SECTION_META, state->meta), json_section(SECTION_KVM, state->kvm),
                json_section(SECTION_DEVICES, state->devices),
                { .name = SECTION_BLOB, .data = state->blob.data, .bytes = state->blob.bytes },
        };
        size_t bytes = sections_bytes(s, ARRAY_SIZE(s));
        AUTO_FREE uint8_t *buf = bytes ? malloc(bytes) : NULL;

        if (!buf)
                return err_msg(e, ENOMEM, "no memory for the state of VM '%s'", c->vm->name);
        sections_encode(s, ARRAY_SIZE(s), buf);

        int rc = io_pwrite_full(c->parts.state_fd, buf, bytes, 0);

        return rc < 0 ? err_set(e, -rc, "write the state of VM '%s'", c->vm->name) : 0;
}

/* Those that are only read are said to be what they were: the clones look for them. */
static int put_state(struct clone *c, struct err *e)
{
        AUTO_FREE struct kept_disks *read_only = malloc(sizeof(*read_only));
        struct moment_state state;
        int rc = read_only ? moment_encode(c->moment, &state, e)
                           : err_msg(e, ENOMEM, "no memory for the disks of a VM");

        if (rc < 0)
                return rc;
        save_disks_identified(c->disks, read_only);
        kept_disks_encode(read_only, state.meta);
        rc = write_state(c, &state, e);
        moment_state_fini(&state);
        return rc;
}

/* INV-SEALED */
static int seal(struct clone *c, struct err *e)
{
        if (fcntl(c->parts.ram_fd, F_ADD_SEALS, CLONE_SEALS) < 0 ||
            fcntl(c->parts.state_fd, F_ADD_SEALS, CLONE_SEALS) < 0)
                return err_set(e, errno, "seal the memfds: they must not be mapped");
        return 0;
}

/* ---- the thread ------------------------------------------------------------------ */

static int make_parts(struct clone *c, struct err *e)
{
        int rc = clone_parts_make(&c->parts, &c->vm->machine, e);

        if (rc == 0 && ftruncate(c->parts.ram_fd, (off_t)ram_end_gpa(&c->vm->ram)) < 0)
                rc = err_set(e, errno, "make a memfd as large as the guest's memory");
        return rc;
}

static void describe(struct clone *c)
{
        struct json_object *o = json_object_new_object();
        struct json_object *phases = json_object_new_object();
        struct moment_times times = moment_times(c->moment);
        struct stat st = { 0 };

        (void)fstat(c->parts.ram_fd, &st);
        json_put_str(o, "name", c->vm->name);
        json_put_u64(o, "shared_bytes", (uint64_t)st.st_blocks * 512);
        json_put_u64(phases, "stop", times.stop_ns / NS_PER_US);
        json_put_u64(phases, "state", times.state_ns / NS_PER_US);
        json_put_u64(phases, "protect", times.protect_ns / NS_PER_US);
        json_put_u64(phases, "pause", times.pause_ns / NS_PER_US);
        json_put_u64(phases, "copy", c->copy_ns / NS_PER_US);
        json_put_u64(phases, "total", c->total_ns / NS_PER_US);
        json_object_object_add(o, "phases", phases);
        if (moment_why_paused(c->moment))
                json_put_str(o, "why_paused", moment_why_paused(c->moment));
        save_disks_describe(c->disks, o);
        c->result = o;
}

static int run(struct clone *c, struct err *e)
{
        uint64_t from_ns = clock_now_ns();
        int rc = clone_door_connect(&c->door, c->request.to, e);

        if (rc == 0)
                rc = make_parts(c, e);
        if (rc == 0)
                rc = take_moment(c, e);
        if (rc == 0)
                rc = put_state(c, e);
        if (rc == 0)
                rc = seal(c, e);
        if (rc == 0)
                rc = clone_door_give(&c->door, &c->parts, e);
        c->total_ns = clock_now_ns() - from_ns;
        if (rc == 0)
                describe(c);
        /* its gate before the guest, which may wait there, is waited for */
        save_disks_free(ptr_take(&c->disks));
        /* here, not on the event loop: it may wait for vCPUs */
        moment_free(ptr_take(&c->moment), rc == 0);
        return rc;
}

static void *clone_thread(void *ctx)
{
        struct clone *c = ctx;
        int rc = run(c, &c->err);

        ASSERT((rc == 0) == (c->result != NULL));
        vm_post(c->vm, VM_POST_CLONE);
        return NULL;
}

static void clone_free(struct clone *c)
{
        clone_door_close(&c->door);
        clone_parts_fini(&c->parts);
        json_object_put(c->result);
        free(c);
}

/* ---- the event loop's ------------------------------------------------------------ */

int clone_request_parse(const char *text, size_t bytes, struct clone_request *ret,
                        struct err *e)
{
        AUTO_JSON *o = NULL;
        const char *to;
        int rc = json_parse(text, bytes, &o, e);

        if (rc == 0)
                rc = json_take_str(o, "to", &to, e);
        if (rc == 0)
                rc = rundir_check_name(to, e);
        if (rc == 0)
                snprintf(ret->to, sizeof(ret->to), "%s", to);
        return rc;
}

static int start(struct clone *c, int sock, struct err *e)
{
        int rc = clone_door_open(sock, &c->door, e);

        if (rc < 0)
                return rc;
        rc = starter_start(c->vm->starter, &(struct starter_thread){
                .role = SANDBOX_JOB, .name = "clone", .run = clone_thread, .ctx = c,
        }, &c->thread);
        return rc ? err_set(e, rc, "start a thread to clone VM '%s'", c->vm->name) : 0;
}

int clone_start(struct vm *vm, int sock, const struct clone_request *request,
                clone_done_fn *done, void *ctx, struct err *e)
{
        int rc = vm_may_change(vm, e);

        if (rc < 0)
                return rc;
        if (vm->problem[0])
                return err_msg(e, EINVAL, "VM '%s' cannot be cloned: %s", vm->name, vm->problem);

        struct clone *c = calloc(1, sizeof(*c));

        if (!c)
                return err_msg(e, ENOMEM, "no memory to clone VM '%s'", vm->name);
        *c = (struct clone){
                .vm = vm, .request = *request, .door = { .sock = -1, .to = -1 },
                .done = done, .done_ctx = ctx,
        };
        clone_parts_init(&c->parts);
        rc = start(c, sock, e);
        if (rc < 0)
                clone_free(c);
        else
                vm->clone = c;
        return rc;
}

void clone_finish(struct vm *vm)
{
        struct clone *c = ptr_take(&vm->clone);

        if (!c)
                return;
        pthread_join(c->thread, NULL);
        /* before it is told: the client's are the only ones then */
        clone_parts_fini(&c->parts);
        c->done(c->done_ctx, c->result, c->result ? NULL : &c->err);
        clone_free(c);
}

void clone_abort(struct vm *vm)
{
        struct clone *c = ptr_take(&vm->clone);

        if (!c)
                return;
        c->cancelled = true;
        pthread_join(c->thread, NULL);
        clone_free(c);
}
