/* SPDX-License-Identifier: Apache-2.0 */
/* create.h - a VM out of a create request, whatever that asks for. */
#ifndef VMM_CREATE_H
#define VMM_CREATE_H

#include "common/err.h"
#include "vmm/create-request.h"

struct revert;
struct vm;

/* launch_build_fn; ctx is the struct create_request, which has been parsed */
int create_build(struct vm *vm, void *ctx, struct err *e);

/* What prepared_foresee() takes, of a request that may come. q outlives it, until a VM that it
 * became runs. */
int create_foresee(const struct create_request *q, struct revert **ret, struct err *e);

#endif
