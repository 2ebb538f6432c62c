/* SPDX-License-Identifier: Apache-2.0 */
/* vm.h - one virtual machine in its own process: its parts and its event loop.
 *
 * Built by boot.c's or revert.c's builder, driven by the event loop, changed
 * only through the functions here.
 * Threads: all functions on the event loop's thread, but vm_post() and
 *          vm_give_up() from any.
 */
#ifndef VMM_VM_H
#define VMM_VM_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/rate.h"
#include "qcowstore/store.h"
#include "vmm/cpu-compat.h"
#include "vmm/kvm.h"
#include "vmm/machine-config.h"
#include "vmm/platform.h"
#include "vmm/ram.h"
#include "vmm/rundir.h"
#include "vmm/snapshot.h"
#include "vmm/vcpus.h"

/* STARTING  parts are being built; no control socket answers yet
 *           -> RUNNING / PAUSED  vm_started()
 *           -> EMPTY             there is nothing to build yet
 * EMPTY     the process waits to be told what to load (control-load.c)
 *           -> STARTING          then
 * RUNNING   vCPUs run
 *           -> PAUSED   vm_pause(), a bad page, a save that keeps it paused
 *           -> HALTED   the guest crashed, or a rollback failed half way
 * PAUSED    vCPUs are parked, or will be when the page they wait for arrives
 *           -> RUNNING  vm_resume()
 * HALTED    triple fault or KVM error: can be looked at and stopped, or
 *           -> RUNNING / PAUSED  rolled back                                  */
enum vm_state { VM_STARTING, VM_EMPTY, VM_RUNNING, VM_PAUSED, VM_HALTED };

/* Moments, CLOCK_MONOTONIC; 0 = not reached. first_instruction: the page that
 * holds vCPU 0's next instruction is in place and KVM_RUN is being entered. */
struct vm_phases {
        uint64_t start_ns;              /* of the command, or when the request had come */
        uint64_t order_ns;              /* a process that waited was told; else 0 */
        uint64_t process_ns;            /* the VM's process has name and sockets */
        uint64_t open_ns;
        uint64_t memory_ns;             /* RAM is loaded, or served */
        uint64_t kvm_create_ns;
        uint64_t state_restore_ns;
        uint64_t first_instruction_ns;
        uint64_t resident_ns;
        uint64_t kvm_calls_ns;          /* a duration: inside KVM's calls until then */
};

enum vm_backing {
        VM_BACKING_BOOT,                /* anonymous; untouched pages are zero       */
        VM_BACKING_LOADED,              /* anonymous, loaded whole from an image     */
        VM_BACKING_SHARED,              /* MAP_PRIVATE of an image cache             */
        VM_BACKING_COPY,                /* anonymous, filled by the page server      */
        VM_BACKING_CLONE,               /* MAP_PRIVATE of a sealed memfd, all there  */
};

/* What became of its saves. */
struct vm_saves {
        uint64_t completed, failed;
        uint64_t last_pause_ns;         /* of the last one completed */
};

struct clone;
struct confine;
struct console;
struct control;
struct event;
struct event_base;
struct gate;
struct giveback;
struct pager;
struct prepared;
struct recorder;
struct rollback;
struct save;
struct starter;
struct virtio_bus;

struct vm {
        /* set while the VM is built, constant after */
        const char *name;
        enum vm_backing backing;
        struct ram ram;
        struct kvm kvm;
        struct machine_config machine;
        const struct disk_files *disk_files;    /* of it, while it is built; NULL = none */
        struct platform *platform;
        struct virtio_bus *bus;         /* NULL = no virtio devices */
        struct giveback *giveback;      /* NULL = the guest has no balloon */
        struct vcpus *vcpus;
        struct pager *pager;            /* NULL when no page server is needed */
        struct qs_image *parent;        /* what RAM came from; NULL: absent pages are zero, */
        int flat_fd;                    /* or this memfd's, of a clone; -1 = none */
        char clone_of[VM_NAME_MAX + 1]; /* "" = of no other VM */
        bool reverted;
        struct cpu_model saved_cpu;     /* reverted: what its guest was shown */
        bool was_prepared;              /* KVM's part was there before it was asked for */
        bool was_foreseen;              /* so was all that its image decides */

        struct starter *starter;        /* of all its threads */
        const struct confine *confine;  /* of its files; NULL = wherever its user may */

        /* until it runs, and was told of */
        struct prepared *prepared;      /* NULL = nothing */

        /* event loop only */
        struct event_base *base;
        struct console *console;
        struct control *control;
        struct save *save;              /* NULL = none runs */
        struct rollback *rollback;      /* NULL = none runs */
        struct clone *clone;            /* the same: somebody clones this VM */
        struct gate *gate;              /* set while it waits for its siblings */
        struct recorder *recorder;      /* NULL = nothing is recorded */
        struct snapshot snapshot;       /* last saved to, reverted from or rolled back to */
        struct json_object *cpu_differences;    /* to this host; NULL = none */
        enum vm_state state;
        char problem[ERR_TEXT_MAX + 64]; /* why it is PAUSED or HALTED without being asked */
        bool waits_for_memory;          /* PAUSED by a page that cannot be loaded; it goes
                                           on by itself once it can */
        bool ends_unless_rolled_back;   /* the guest did, while a rollback is under way */
        bool stopping;                  /* vm_stop_soon() was called */
        bool leaving;                   /* the loop is about to end */
        bool console_is_terminal;
        bool want_resident_report;
        int report_fd;                  /* where launch() waits; -1 = nobody does */
        struct vm_phases phases;
        struct vm_saves saves;

        struct event *wake_event;
        struct event *signal_events[2];
        struct event *retry_event;      /* while it waits for memory */

        /* the vCPU thread that ends the guest, before it posts ENDED */
        enum vcpus_end end_why;
        char end_text[256];

        /* any thread */
        _Atomic bool started;           /* no page of its own memory is waited for any more */
        /* any thread, by vm_post() */
        _Atomic unsigned posted;
        int wake_fd;
};

enum vm_post {
        VM_POST_POWER_OFF = 1 << 0,
        VM_POST_RESET = 1 << 1,
        VM_POST_ENDED = 1 << 2,         /* a vCPU cannot go on: end_text says why */
        VM_POST_PAGER = 1 << 3,         /* look at pager_news() */
        VM_POST_SAVE = 1 << 4,          /* the save thread is done */
        VM_POST_INPUT = 1 << 5,         /* the serial port takes input again */
        VM_POST_RECORD = 1 << 6,        /* a working set was stored, or not */
        VM_POST_ROLLBACK = 1 << 7,      /* the rollback thread is done */
        VM_POST_CLONE = 1 << 8,         /* the thread that hands out a clone is done */
};
void vm_post(struct vm *vm, enum vm_post what);

/* Console, control socket, event loop; claims nothing. */
int vm_init(struct vm *vm, const char *name, const char *console_file, bool terminal,
            struct err *e);
void vm_fini(struct vm *vm);
/* The devices of vm->machine and vCPU threads (parked) on top of kvm, which has been created */
int vm_add_machine(struct vm *vm, struct err *e);
/* The first entry into the guest, unless paused. */
int vm_started(struct vm *vm, bool paused, struct err *e);
/* Until the VM ends. */
void vm_loop(struct vm *vm);

/* -EBUSY: it is VM_EMPTY. */
int vm_has_guest(const struct vm *vm, struct err *e);
/* The same; or a save, rollback or clone runs, or it waits at its gate. */
int vm_is_free(const struct vm *vm, struct err *e);
/* The same, or -EINVAL: it is halted. */
int vm_may_change(const struct vm *vm, struct err *e);
/* -ETIMEDOUT: asked for, but a vCPU still waits for a page; else as vm_may_change(). */
int vm_pause(struct vm *vm, struct err *e);
int vm_resume(struct vm *vm, struct err *e);
/* It cannot go on; why is what `vmm info` says. */
void vm_halt(struct vm *vm, const char *why);
/* Of memory that is not there yet. -EINVAL: all of it was from the start. */
int vm_prefetch(struct vm *vm, const struct rate_order *order, struct err *e);
/* How much memory the guest is to do without. -EINVAL: it has no balloon, or less memory;
 * -EBUSY as vm_is_free(): what it gave back meanwhile would stay. */
int vm_set_balloon(struct vm *vm, uint64_t bytes, struct err *e);
/* Ends the loop; the VM's state is gone. */
void vm_stop(struct vm *vm);
/* The same once the answer to the present request is out, or after a moment. */
void vm_stop_soon(struct vm *vm);

/* Ends the process of a VM that is being built, from another thread, while its
 * own waits inside the kernel for what will not come. */
_Noreturn void vm_give_up(struct vm *vm, const char *why);

/* How this host's CPU falls short of the one that a reverted guest was shown. Once, before
 * anyone else calls KVM. */
void vm_compare_cpu(struct vm *vm);
/* What `vmm info` prints. */
struct json_object *vm_describe(struct vm *vm);
/* "phases", "first_faults", "kvm_us", "own_us" into o. */
void vm_describe_phases(struct vm *vm, struct json_object *o);
/* One line of JSON to whoever launched the VM; last closes the pipe. */
void vm_report(struct vm *vm, struct json_object *o, bool last);

#endif
