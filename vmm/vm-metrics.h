/* SPDX-License-Identifier: Apache-2.0 */
/* vm-metrics.h - what a VM says of itself, for Prometheus.
 *
 * Threads: pure functions.
 */
#ifndef VMM_VM_METRICS_H
#define VMM_VM_METRICS_H

#include <json-c/json.h>
#include <stdio.h>

#define VM_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* vm: of vm_describe(), so both always agree; what it has not is left out. */
void vm_metrics_print(FILE *out, struct json_object *vm);

#endif
