/* SPDX-License-Identifier: Apache-2.0 */
/* blank.h - a process that will be a VM: it prepares what it can, waits to be told what to
 * become, and becomes that.
 *
 * EXPECTED, if there is one, is the request that may come, or what of it matters.
 *
 * Started as a program anew, not forked off: it inherits neither memory nor descriptors of
 * who starts it, but a stream socket. There it says
 *      {"ready": true}                                 once prepared, if it was to prepare
 * reads one order,
 *      {"name": "...", "start_ns": N, "request": {...}}       create-request.h
 * and says what `vmm info` would of the VM, or {"error": "sentence", "errno": N}; a line of
 * JSON each. When the socket ends before an order has come so does the process; afterwards
 * the VM is nobody's child in anything but name.
 */
#ifndef VMM_BLANK_H
#define VMM_BLANK_H

/* where it finds its socket */
#define BLANK_SOCK 3
#define BLANK_ORDER_BYTES_MAX (96u << 10)

/* The subcommand, which is for programs only: blank CPUS MEMORY MODE EXPECTED [DIR...]: of
 * struct shape, the mode of the sandbox, and the folders of struct confine. EXPECTED may be empty;
 * MEMORY 0 = what its image says, and its CPUs. */
#define BLANK_COMMAND "blank"

/* an exit status */
int blank_main(int argc, char **argv);

#endif
