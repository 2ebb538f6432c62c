/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - everything KVM holds about a guest, as versioned JSON plus blobs.
 *
 * What is saved and in which order it is read and written back, with the
 * reasons: state-vm.c, state-vcpu.c. All vCPUs are parked during state_save() and
 * state_capture_take(); a VM that is loaded has never run. The JSON object "kvm" has
 * version, clock, irqchips, pit and one object a vCPU with named registers; xsave
 * areas and LAPIC pages lie in the blob, referred to by offset and length.
 * The JSON and the blob of a load are untrusted input.
 */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/kvm.h"

#define STATE_VERSION 1

struct state_blob {
        uint8_t *data;                  /* heap; freed by state_blob_fini */
        size_t bytes;
};
void state_blob_fini(struct state_blob *blob);

/* A save in three steps, so that a guest stands still for KVM's calls alone:
 *   new     while it runs; no call on a vCPU, which would wait for it to pause
 *   take    in the pause, once; allocates nothing, opens nothing, takes no lock
 *   encode  afterwards, as often as wanted
 * kvm outlives it. One thread at a time. */
struct state_capture;
int state_capture_new(struct kvm *kvm, struct state_capture **ret, struct err *e);
int state_capture_take(struct state_capture *c, struct err *e);
int state_capture_encode(const struct state_capture *c, struct json_object **ret_kvm,
                         struct state_blob *ret_blob, struct err *e);
void state_capture_free(struct state_capture *c);
/* All of it in one, vCPUs parked. */
int state_save(struct kvm *kvm, struct json_object **ret_kvm, struct state_blob *ret_blob,
               struct err *e);
/* The number of vCPUs a saved state has, to create the VM before loading. */
int state_vcpu_count(struct json_object *kvm_state, unsigned *ret, struct err *e);
/* Into a VM that has never run.
 * Everything but the irqchips' interrupt lines of devices (platform_replay_lines). */
int state_load(struct kvm *kvm, struct json_object *kvm_state, const struct state_blob *blob,
               struct err *e);
/* The same of what state_parse() returned. If KVM refuses it, the sentence names what the
 * guest was shown of its CPU and this host lacks. */
struct machine_state;
int state_load_parsed(struct kvm *kvm, struct machine_state *m, struct err *e);
/* The CPU that the guest was shown. */
struct cpu_model;
void state_cpu_model(const struct machine_state *m, struct cpu_model *ret);

/* The same for a VM that has run, in three steps:
 *   parse   says what is wrong with the document; *ret is the caller's, for free()
 *   fits    vCPUs are parked from here on: whether they are such as the state is of
 *   reload  RAM is what belongs to the state. When it fails the VM cannot run, but it may
 *           be tried again. */
int state_parse(const struct kvm *kvm, struct json_object *kvm_state,
                const struct state_blob *blob, struct machine_state **ret, struct err *e);
int state_fits(struct kvm *kvm, const struct machine_state *m, struct err *e);
int state_reload(struct kvm *kvm, struct machine_state *m, struct err *e);

/* Right before the vCPUs go on: tells kvmclock guests that they were stopped. */
void state_before_resume(struct kvm *kvm);

/* Compares two saved states field by field. Calls diff for every field that
 * differs and is not expected to (state-compare.c lists those that move). */
typedef void state_diff_fn(void *ctx, const char *field, const char *was, const char *is);
int state_compare(struct json_object *a, const struct state_blob *a_blob,
                  struct json_object *b, const struct state_blob *b_blob,
                  state_diff_fn *diff, void *ctx, struct err *e);

#endif
