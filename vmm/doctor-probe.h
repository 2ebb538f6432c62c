/* SPDX-License-Identifier: Apache-2.0 */
/* doctor-probe.h - finds out what doctor.h judges. Nothing it does outlives it: no file, no
 * folder, no machine.
 *
 * Threads: one at a time in a process: doctor_try_kvm() has SIGALRM for itself.
 * Errors:  none; what fails is a finding.
 */
#ifndef VMM_DOCTOR_PROBE_H
#define VMM_DOCTOR_PROBE_H

#include "vmm/doctor.h"

/* folder: where disks are or will be */
void doctor_probe(const char *folder, struct doctor_host *ret);

/* The part of it that makes machines and runs one: kvm, vm, create_us, ring0_per_s. */
void doctor_try_kvm(struct doctor_host *host);

#endif
