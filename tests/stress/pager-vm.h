/* SPDX-License-Identifier: Apache-2.0 */
/* pager-vm.h - RAM and a pager (vmm/pager.h) without a VM, over the fake store; its private
 * page servers are the test's own program.
 */
#ifndef TESTS_STRESS_PAGER_VM_H
#define TESTS_STRESS_PAGER_VM_H

#include <stdint.h>
#include <sys/types.h>

#include "tests/stress/ps-guest.h"
#include "vmm/pager.h"

struct vm {
        struct fake_image image;
        int image_fd;
        struct qs_image *qs;
        struct ram ram;
        struct pager *pager;
};

/* In main(), first of all; a server does not return. None is left behind, nor does the test
 * take for ever. */
void vm_servers(int argc, char **argv);
/* of the latest */
pid_t vm_server_pid(void);
/* n are there in the place of others */
void vm_await_restarts(struct vm *vm, unsigned n);

/* RAM_BYTES_MIN of it, no prefetch. Skips the test where nothing can be protected. */
void vm_up(struct vm *vm, enum ps_lane lane, unsigned slow_us);
void vm_down(struct vm *vm);
void *vm_page(const struct vm *vm, uint64_t page);

#endif
