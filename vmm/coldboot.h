/* SPDX-License-Identifier: Apache-2.0 */
/* coldboot.h - a VM that starts a kernel, or the built-in payload guest. */
#ifndef VMM_COLDBOOT_H
#define VMM_COLDBOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "vmm/machine-config.h"
#include "vmm/vm.h"

struct coldboot {
        bool demo;                      /* the payload guest instead of kernel and initrd */
        const char *kernel_path;
        const char *initrd_path;        /* NULL = none */
        const char *cmdline;
        uint64_t memory_bytes;
        unsigned cpus;
        bool hugepages;                 /* RAM of hugetlbfs */
        struct machine_config machine;
};

/* launch_build_fn; ctx is the struct coldboot */
int coldboot_build(struct vm *vm, void *ctx, struct err *e);

#endif
