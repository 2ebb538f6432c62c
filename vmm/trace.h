/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - where the time until the first instruction went, for people.
 *
 * Shows what is measured in any case: asking for it changes nothing of what is done.
 */
#ifndef VMM_TRACE_H
#define VMM_TRACE_H

#include <json-c/json.h>
#include <stdio.h>

/* report: of a VM (vm_describe()). A line for each phase, with the time since the one before:
 * these add up to the whole. */
void trace_print(FILE *out, struct json_object *report);

#endif
