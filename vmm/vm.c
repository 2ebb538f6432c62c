/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/json.h"
#include "vmm/clone.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/gate.h"
#include "vmm/giveback.h"
#include "vmm/pager.h"
#include "vmm/prepared.h"
#include "vmm/recorder.h"
#include "vmm/rollback.h"
#include "vmm/rundir.h"
#include "vmm/save.h"
#include "vmm/standstill.h"
#include "vmm/starter.h"
#include "vmm/state.h"
#include "vmm/virtio/bus.h"

/* Theory of operation
 *
 * Everything that changes a VM happens on one thread, the event loop: requests
 * from the control socket, console input, signals, and what other threads tell
 * it. Those (vCPUs, pager watch, save) only set a bit in `posted` and ring
 * wake_fd; the details lie with the part that posted.
 *
 * INV-LOOP: the event loop never touches guest memory. A page may be missing,
 * its server dead, and the loop must stay able to say so. (The pager's watch
 * thread, which replaces the server, obeys the same rule.)
 */

/* A vCPU comes back from the guest within microseconds; one that waits for a
 * page comes back when it is served, which may be never. */
#define PAUSE_WAIT_NS (2 * NS_PER_SEC)
/* for a client that does not read its answer */
#define STOP_GRACE_SECONDS 1
/* A disk or a file that has been repaired is noticed after one to two of these. */
#define RETRY_SECONDS 1
#define STOP_WAIT_NS (1 * NS_PER_SEC)

void vm_post(struct vm *vm, enum vm_post what)
{
        uint64_t one = 1;

        vm->posted |= what;
        (void)!write(vm->wake_fd, &one, sizeof(one));
}

void vm_halt(struct vm *vm, const char *why)
{
        vm->state = VM_HALTED;
        snprintf(vm->problem, sizeof(vm->problem), "%s", why);
        fprintf(stderr, "vmm: VM '%s' has halted: %s\n", vm->name, why);
        if (vm->console_is_terminal)
                vm_stop(vm);
}

static void retry_later(struct vm *vm)
{
        static const struct timeval soon = { .tv_sec = RETRY_SECONDS };

        event_add(vm->retry_event, &soon);
}

static void take_pager_news(struct vm *vm)
{
        struct pager_news news;

        pager_news(vm->pager, false, &news);
        if (news.stats.resident_ns && !vm->phases.resident_ns) {
                vm->phases.resident_ns = news.stats.resident_ns;
                if (vm->want_resident_report) {
                        struct json_object *o = json_object_new_object();

                        vm_describe_phases(vm, o);
                        vm_report(vm, o, true);
                        json_object_put(o);
                }
        }
        if (news.bad_page && vm->state == VM_RUNNING && !vm->save && !vm->rollback && !vm->clone) {
                snprintf(vm->problem, sizeof(vm->problem), "memory at 0x%llx cannot be loaded: %s",
                         (unsigned long long)news.bad_gpa, news.text);
                fprintf(stderr, "vmm: VM '%s' is paused: %s\n", vm->name, vm->problem);
                vm->state = VM_PAUSED;
                /* the vCPU that waits for the page cannot park: only the others do */
                vcpus_pause(vm->vcpus, clock_now_ns(), NULL);
                vm->waits_for_memory = true;
                retry_later(vm);
        }
}

/* The try before this one was not answered by a complaint: the page came, or its vCPU
 * will wait for it anew. */
static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
        struct vm *vm = ctx;
        struct pager_news news;

        (void)fd;
        (void)what;
        if (!vm->waits_for_memory)
                return;
        pager_news(vm->pager, false, &news);
        if (news.bad_page) {
                pager_retry(vm->pager);
                retry_later(vm);
        } else if (vm_resume(vm, NULL) == 0) {
                fprintf(stderr, "vmm: VM '%s' goes on: its memory can be loaded again\n",
                        vm->name);
        } else {
                retry_later(vm);                /* a save runs */
        }
}

/* One that is being rolled back has yet to see whether that life of it was the last: what
 * it posts before it goes on is of the life before. */
static void end_guest(struct vm *vm)
{
        if (vm->rollback)
                vm->ends_unless_rolled_back = true;
        else
                vm_stop(vm);
}

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
        struct vm *vm = ctx;
        uint64_t count;

        (void)what;
        if (read(fd, &count, sizeof(count)) < 0)
                return;

        unsigned posted = atomic_exchange(&vm->posted, 0);

        if (posted & (VM_POST_POWER_OFF | VM_POST_RESET))
                end_guest(vm);
        if (posted & VM_POST_SAVE)
                save_finish(vm);
        if (posted & VM_POST_CLONE)
                clone_finish(vm);
        /* before a rollback is finished: a guest that had ended by then may live again */
        if (posted & VM_POST_ENDED)
                vm_halt(vm, vm->end_text);
        if (posted & VM_POST_ROLLBACK)
                rollback_finish(vm);
        if (vm->pager && posted & (VM_POST_PAGER | VM_POST_SAVE | VM_POST_ROLLBACK | VM_POST_CLONE))
                take_pager_news(vm);    /* a bad page waits until such work is done */
        if (posted & VM_POST_RECORD)
                recorder_finish(vm->recorder);
        if (posted & VM_POST_INPUT)
                console_input_room(vm->console);
}

static void on_signal(evutil_socket_t signo, short what, void *ctx)
{
        (void)signo;
        (void)what;
        vm_stop(ctx);
}

static int add_events(struct vm *vm, struct err *e)
{
        static const int signals[] = { SIGTERM, SIGINT };

        vm->wake_event = event_new(vm->base, vm->wake_fd, EV_READ | EV_PERSIST, on_wake, vm);
        if (!vm->wake_event || event_add(vm->wake_event, NULL) < 0)
                return err_msg(e, ENOMEM, "no memory for events");
        vm->retry_event = evtimer_new(vm->base, on_retry, vm);
        if (!vm->retry_event)
                return err_msg(e, ENOMEM, "no memory for events");
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                vm->signal_events[i] = evsignal_new(vm->base, signals[i], on_signal, vm);
                if (!vm->signal_events[i] || event_add(vm->signal_events[i], NULL) < 0)
                        return err_msg(e, ENOMEM, "no memory for signal events");
        }
        return 0;
}

int vm_init(struct vm *vm, const char *name, const char *console_file, bool terminal,
            struct err *e)
{
        struct rundir_path console_path;
        struct rundir_path control_path;

        vm->name = name;
        vm->state = VM_STARTING;
        vm->console_is_terminal = terminal;
        vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        vm->base = event_base_new();
        if (vm->wake_fd < 0 || !vm->base)
                return err_msg(e, ENOMEM, "no event loop could be made");

        int rc = add_events(vm, e);

        if (rc == 0)
                rc = rundir_path(&console_path, name, "console", e);
        if (rc == 0)
                rc = rundir_path(&control_path, name, "sock", e);
        if (rc == 0)
                rc = console_new(vm->base, &(struct console_options){
                        .file = console_file, .terminal = terminal,
                        .socket_path = console_path.text }, &vm->console, e);
        if (rc == 0)
                rc = control_new(vm, control_path.text, &vm->control, e);
        vm->phases.process_ns = clock_now_ns();
        return rc;
}

static size_t on_console_in(void *ctx, const uint8_t *data, size_t bytes)
{
        struct vm *vm = ctx;

        return vm->state == VM_RUNNING ? platform_input(vm->platform, data, bytes) : 0;
}

/* Brings the page of vCPU 0's next instruction, and the page tables that lead
 * to it, into place, so that "first instruction" means one that can execute. */
static void fetch_first_page(struct vm *vm)
{
        struct kvm_regs regs;
        struct kvm_sregs sregs;

        if (kvm_call(&vm->kvm, vm->kvm.vcpu_fd[0], KVM_GET_REGS, &regs) < 0 ||
            kvm_call(&vm->kvm, vm->kvm.vcpu_fd[0], KVM_GET_SREGS, &sregs) < 0)
                return;

        struct kvm_translation tr = { .linear_address = sregs.cs.base + regs.rip };

        if (kvm_call(&vm->kvm, vm->kvm.vcpu_fd[0], KVM_TRANSLATE, &tr) < 0 || !tr.valid)
                return;

        const volatile uint8_t *page = ram_at(&vm->ram, tr.physical_address, 1);

        if (page)
                (void)*page;
}

int vm_started(struct vm *vm, bool paused, struct err *e)
{
        (void)e;
        ASSERT(vm->state == VM_STARTING);
        console_connect(vm->console, on_console_in, vm);
        if (vm->pager)
                fetch_first_page(vm);
        if (vm->reverted)
                state_before_resume(&vm->kvm);
        vm->started = true;
        vm->phases.kvm_calls_ns = vm->kvm.in_calls_ns;
        vm->state = paused ? VM_PAUSED : VM_RUNNING;
        if (!paused) {
                standstill_end(vm);
                vm->phases.first_instruction_ns = vcpus_first_entry_ns(vm->vcpus);
        }
        if (vm->pager)
                pager_prefetch(vm->pager, NULL);
        if (vm->recorder)
                recorder_started(vm->recorder);
        vm_compare_cpu(vm);             /* takes KVM a moment: not before the guest runs */
        return 0;
}

int vm_prefetch(struct vm *vm, const struct rate_order *order, struct err *e)
{
        if (!vm->pager)
                return err_msg(e, EINVAL, "VM '%s' has no page server: its memory was there from "
                               "the start", vm->name);
        pager_prefetch(vm->pager, order);
        return 0;
}

void vm_loop(struct vm *vm)
{
        if (vm->pager)          /* what was posted before the loop ran */
                vm_post(vm, VM_POST_PAGER);
        while (!vm->leaving && !console_wants_exit(vm->console)) {
                if (event_base_loop(vm->base, EVLOOP_ONCE) < 0)
                        break;
        }
}

int vm_has_guest(const struct vm *vm, struct err *e)
{
        if (vm->state != VM_EMPTY)
                return 0;
        return err_msg(e, EBUSY, "VM '%s' is empty: load a snapshot into it first, with "
                       "PUT /snapshot/load", vm->name);
}

int vm_is_free(const struct vm *vm, struct err *e)
{
        int rc = vm_has_guest(vm, e);

        if (rc < 0)
                return rc;
        if (vm->save)
                return err_msg(e, EBUSY, "VM '%s' is being saved: wait until that is done, or "
                               "use 'vmm cancel %s'", vm->name, vm->name);
        if (vm->rollback)
                return err_msg(e, EBUSY, "VM '%s' is being rolled back: wait until that is done",
                               vm->name);
        if (vm->clone)
                return err_msg(e, EBUSY, "VM '%s' is being cloned: wait until that is done",
                               vm->name);
        if (vm->gate)
                return err_msg(e, EBUSY, "VM '%s' is one of several clones that are not all "
                               "there yet: wait until they are", vm->name);
        return 0;
}

int vm_may_change(const struct vm *vm, struct err *e)
{
        int rc = vm_is_free(vm, e);

        if (rc == 0 && vm->state == VM_HALTED)
                rc = err_msg(e, EINVAL, "VM '%s' has halted (%s): only 'vmm rollback' and "
                             "'vmm stop' are left", vm->name, vm->problem);
        return rc;
}

int vm_pause(struct vm *vm, struct err *e)
{
        int rc = vm_may_change(vm, e);

        if (rc < 0)
                return rc;
        vm->state = VM_PAUSED;
        vm->waits_for_memory = false;           /* somebody wants it paused */
        return standstill_begin(vm, clock_now_ns() + PAUSE_WAIT_NS, e);
}

int vm_resume(struct vm *vm, struct err *e)
{
        int rc = vm_may_change(vm, e);

        if (rc < 0 || vm->state == VM_RUNNING)
                return rc;
        vm->state = VM_RUNNING;
        vm->waits_for_memory = false;
        vm->problem[0] = '\0';
        /* so that the guest's watchdogs do not count the pause; a vCPU that is
         * not parked has not paused, and a call on it would wait for its page */
        if (vcpus_paused(vm->vcpus))
                state_before_resume(&vm->kvm);
        if (vm->pager)
                pager_retry(vm->pager);
        standstill_end(vm);
        console_input_room(vm->console);
        if (!vm->phases.first_instruction_ns)
                vm->phases.first_instruction_ns = vcpus_first_entry_ns(vm->vcpus);
        return 0;
}

void vm_stop(struct vm *vm)
{
        vm->leaving = true;
        event_base_loopbreak(vm->base);
}

static void on_soon(evutil_socket_t fd, short what, void *ctx)
{
        (void)fd;
        (void)what;
        vm_stop(ctx);
}

void vm_stop_soon(struct vm *vm)
{
        struct timeval grace = { .tv_sec = STOP_GRACE_SECONDS };

        vm->stopping = true;
        if (event_base_once(vm->base, -1, EV_TIMEOUT, on_soon, vm, &grace) < 0)
                vm_stop(vm);
}

void vm_report(struct vm *vm, struct json_object *o, bool last)
{
        if (vm->report_fd < 0)
                return;

        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

        /* whoever launched us may be gone; that is its affair */
        if (io_write_full(vm->report_fd, text, strlen(text)) == 0)
                (void)!io_write_full(vm->report_fd, "\n", 1);
        if (last)
                fd_close(&vm->report_fd);
}

void vm_give_up(struct vm *vm, const char *why)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "error", why);
        vm_report(vm, o, true);
        console_hang_up(vm->console);
        if (vm->console_is_terminal)
                fprintf(stderr, "vmm: %s\n", why);
        rundir_release(vm->name);
        _exit(1);
}

static void free_events(struct vm *vm)
{
        if (vm->wake_event)
                event_free(vm->wake_event);
        if (vm->retry_event)
                event_free(vm->retry_event);
        for (size_t i = 0; i < ARRAY_SIZE(vm->signal_events); i++) {
                if (vm->signal_events[i])
                        event_free(vm->signal_events[i]);
        }
        if (vm->base)
                event_base_free(vm->base);
}

/* A thread that waits for a page may wait for ever: a bad cluster, or no page
 * server left. Not only vCPUs do: KVM brings pages for them with kernel threads
 * of its own, and kvm_close() waits for those, beyond the reach of any signal.
 * Once RAM is unmapped and they are woken they find nothing and come back.
 * That is no closing of userfaultfds: no hole is filled (INV-HOLE).
 *
 * The same holds for a device's thread; but it comes back to find its memory gone. What it
 * had the kernel read or write for it fails; else the process ends there, which is ending. */
static bool stop_guest(struct vm *vm)
{
        uint64_t until_ns = clock_now_ns() + STOP_WAIT_NS;
        bool held = true;

        if (vm->bus) {
                virtio_bus_hold(vm->bus);
                held = virtio_bus_wait_held(vm->bus, until_ns, NULL) == 0;
        }

        bool stopped = !vm->vcpus || vcpus_stop(vm->vcpus, until_ns) == 0;

        if (!held) {
                rundir_release(vm->name);
                signal(SIGSEGV, _exit);
        }
        ram_unmap(&vm->ram);
        if (vm->pager)
                pager_wake(vm->pager);
        if (!stopped)
                stopped = vcpus_stop(vm->vcpus, clock_now_ns() + STOP_WAIT_NS) == 0;
        return held && stopped;
}

void vm_fini(struct vm *vm)
{
        save_abort(vm);
        rollback_abort(vm);
        clone_abort(vm);
        gate_free(vm->gate);
        control_free(vm->control);
        /* a thread that is stuck in KVM even so keeps using all of this, the
         * console too: the process ends right after */
        if (!stop_guest(vm)) {
                console_hang_up(vm->console);
                return;
        }
        console_free(vm->console);
        vcpus_free(vm->vcpus);
        virtio_bus_free(vm->bus);
        giveback_free(vm->giveback);
        prepared_free(vm->prepared);
        platform_free(vm->platform);
        kvm_close(&vm->kvm);
        recorder_end(vm->recorder);
        pager_free(vm->pager);
        qs_image_close(vm->parent);
        snapshot_fini(&vm->snapshot);
        json_object_put(vm->cpu_differences);
        fd_close(&vm->flat_fd);
        free_events(vm);
        starter_free(vm->starter);
        fd_close(&vm->wake_fd);
        fd_close(&vm->report_fd);
}
