/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/moment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "vmm/devices.h"
#include "vmm/giveback.h"
#include "vmm/meta.h"
#include "vmm/ram-source.h"
#include "vmm/ramwhole.h"
#include "vmm/standstill.h"
#include "vmm/vm.h"

/* vCPUs that wait for a page may take that long */
#define STOP_WAIT_NS (10 * NS_PER_SEC)
/* who gives up is heard after that */
#define STOP_STEP_NS (100 * NS_PER_MS)
/* No watchdog of a guest counts less; telling it costs a call for each vCPU. */
#define NOTICED_NS NS_PER_SEC

struct moment {
        struct vm *vm;
        struct moment_options o;
        bool was_running;
        bool stands;                    /* the guest does, by our doing */
        bool taken;
        bool ram_stays;                 /* nothing of it is given back (INV-STAYS) */
        struct state_capture *state;
        struct devices_state *devices;
        uint64_t wall_ns;
        uint64_t from_ns;               /* of the pause */
        struct moment_times times;
        struct ramguard *guard;         /* live; else */
        struct ram_source *source;      /* what stands still */
        struct ramwhole *whole;         /* of a clone: reads what it was cloned with */
        struct ramguard_stats stats;
        bool guarded;
        char why_paused[ERR_TEXT_MAX];
};

static int make_guard(struct moment *m, struct err *e)
{
        struct vm *vm = m->vm;
        const struct ramguard_options o = {
                .ram = &vm->ram, .pager = vm->pager, .parent = vm->parent, .cpus = vm->kvm.cpus,
                .staging_bytes = m->o.staging_bytes, .cancelled = m->o.cancelled, .ctx = m->o.ctx,
                .starter = vm->starter,
        };
        int rc = ramguard_new(&o, &m->guard, e);

        m->guarded = rc == 0;
        /* then while it stands still; anything else is a failure */
        if (rc == -EPERM || rc == -ENOSYS || rc == -ENOTSUP) {
                snprintf(m->why_paused, sizeof(m->why_paused), "%s", e->text);
                rc = 0;
        }
        return rc;
}

static struct qs_ram_source own_ram(struct moment *m)
{
        return m->guard ? ramguard_source(m->guard) : ram_source_ops(m->source);
}

/* Devices are read again in the pause; this brings in the pages that they are read to. */
static int prepare(struct moment *m, struct err *e)
{
        struct vm *vm = m->vm;
        int rc = state_capture_new(&vm->kvm, &m->state, e);

        giveback_hold(vm->giveback);
        m->ram_stays = true;
        if (rc == 0 && vm->parent)
                rc = qs_image_settle(vm->parent, e);
        if (rc == 0)
                rc = devices_state_new(&(struct devices){ vm->platform, vm->bus }, &m->devices, e);
        if (rc == 0 && m->o.live && m->was_running)
                rc = make_guard(m, e);
        if (rc == 0 && !m->guard)
                rc = ram_source_new(&vm->ram, vm->parent, &m->source, e);
        if (rc == 0 && vm->flat_fd >= 0) {
                const struct qs_ram_source inner = own_ram(m);

                rc = ramwhole_new(&inner, vm->flat_fd, &m->whole, e);
        }
        return rc;
}

int moment_new(struct vm *vm, const struct moment_options *o, struct moment **ret, struct err *e)
{
        struct moment *m = calloc(1, sizeof(*m));

        if (!m)
                return err_msg(e, ENOMEM, "no memory to take a moment of VM '%s'", vm->name);
        m->vm = vm;
        m->o = *o;
        m->was_running = vm->state == VM_RUNNING;

        int rc = prepare(m, e);

        if (rc < 0)
                moment_free(m, false);
        else
                *ret = m;
        return rc;
}

static int stop_guest(struct moment *m, struct err *e)
{
        uint64_t end_ns = m->from_ns + STOP_WAIT_NS;
        int rc;

        m->stands = true;
        do
                rc = standstill_begin(m->vm, MIN(clock_now_ns() + STOP_STEP_NS, end_ns), e);
        while (rc == -ETIMEDOUT && clock_now_ns() < end_ns && !m->o.cancelled(m->o.ctx));
        m->times.stop_ns = clock_now_ns() - m->from_ns;
        return rc;
}

static int read_state(struct moment *m, struct err *e)
{
        uint64_t from_ns = clock_now_ns();

        m->wall_ns = clock_wall_ns();

        int rc = state_capture_take(m->state, e);

        devices_capture(&(struct devices){ m->vm->platform, m->vm->bus }, m->devices);
        m->times.state_ns = clock_now_ns() - from_ns;
        return rc;
}

static int protect(struct moment *m, struct err *e)
{
        uint64_t from_ns = clock_now_ns();
        int rc = m->guard ? ramguard_freeze(m->guard, e) : 0;

        m->times.protect_ns = clock_now_ns() - from_ns;
        return rc;
}

/* parked: all vCPUs are; a call on one that is not would wait for its page */
static void go_on(struct moment *m, bool parked)
{
        if (!m->stands)
                return;
        m->stands = false;
        if (m->was_running) {
                if (parked && clock_now_ns() - m->from_ns >= NOTICED_NS)
                        state_before_resume(&m->vm->kvm);
                standstill_end(m->vm);
        }
        m->times.pause_ns = clock_now_ns() - m->from_ns;
}

int moment_take(struct moment *m, struct err *e)
{
        m->from_ns = clock_now_ns();

        int rc = stop_guest(m, e);
        bool parked = rc == 0;

        if (rc == 0)
                rc = read_state(m, e);
        if (rc == 0 && m->o.standing)
                rc = m->o.standing(m->o.ctx, e);
        if (rc == 0)
                rc = protect(m, e);
        if (rc < 0 || m->guard)
                go_on(m, parked);
        m->taken = rc == 0;
        return rc;
}

const char *moment_why_paused(const struct moment *m)
{
        return m->why_paused[0] ? m->why_paused : NULL;
}

struct qs_ram_source moment_ram(struct moment *m)
{
        ASSERT(m->taken && (m->guard || m->source));
        return m->whole ? ramwhole_source(m->whole) : own_ram(m);
}

void moment_over(struct moment *m)
{
        if (m->guard)
                ramguard_stats(m->guard, &m->stats);
        ramwhole_free(m->whole);
        m->whole = NULL;
        ramguard_free(m->guard);
        m->guard = NULL;
        ram_source_free(m->source);
        m->source = NULL;
        if (m->ram_stays)
                giveback_release(m->vm->giveback);
        m->ram_stays = false;
        if (!m->o.ends)
                go_on(m, true);
        else if (m->stands)
                m->times.pause_ns = clock_now_ns() - m->from_ns;
}

static void describe(struct moment *m, struct moment_state *ret)
{
        struct meta meta = {
                .memory_bytes = m->vm->ram.bytes, .cpus = m->vm->kvm.cpus,
                .saved_wall_ns = m->wall_ns, .machine = m->vm->machine,
        };

        snprintf(meta.name, sizeof(meta.name), "%s", m->vm->name);
        ret->meta = meta_encode(&meta);
}

int moment_encode(struct moment *m, struct moment_state *ret, struct err *e)
{
        struct moment_state s = { 0 };

        ASSERT(m->taken);

        int rc = state_capture_encode(m->state, &s.kvm, &s.blob, e);

        if (rc == 0)
                rc = devices_encode(m->devices, &s.devices, e);
        if (rc < 0) {
                moment_state_fini(&s);
                return rc;
        }
        describe(m, &s);
        *ret = s;
        return 0;
}

void moment_state_fini(struct moment_state *s)
{
        json_object_put(s->meta);
        json_object_put(s->kvm);
        json_object_put(s->devices);
        state_blob_fini(&s->blob);
}

struct moment_times moment_times(const struct moment *m)
{
        return m->times;
}

bool moment_guard_stats(const struct moment *m, struct ramguard_stats *ret)
{
        if (m->guarded)
                *ret = m->stats;
        return m->guarded;
}

void moment_free(struct moment *m, bool well)
{
        if (!m)
                return;
        moment_over(m);
        if (!(m->o.ends && well))
                go_on(m, m->taken);
        devices_state_free(m->devices);
        state_capture_free(m->state);
        free(m);
}
