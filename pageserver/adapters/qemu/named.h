/* SPDX-License-Identifier: Apache-2.0 */
/* named.h - numbers that the user gives to RAM blocks: NAME=SIZE.
 *
 * A block's name may hold '/' and ':' and even '='; the last '=' parts it from the size.
 * Ownership: in place, texts are copied.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_NAMED_H
#define PAGESERVER_ADAPTERS_QEMU_NAMED_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* QEMU's own limit: a length of one byte */
#define NAMED_NAME_MAX 255
/* More NUMA nodes and DIMMs than anybody places by hand. */
#define NAMED_MAX 32

struct named {
        char name[NAMED_NAME_MAX + 1];
        uint64_t value;
};

struct named_list {
        struct named at[NAMED_MAX];
        size_t n;
};

/* Adds "NAME=SIZE"; option: "--map", for the sentence. -EINVAL, also when the name is
 * there already. */
int named_add(struct named_list *list, const char *text, const char *option, struct err *e);
/* the number of that name; NULL = none was given */
const uint64_t *named_find(const struct named_list *list, const char *name);

#endif
