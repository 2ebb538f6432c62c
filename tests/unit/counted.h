/* SPDX-License-Identifier: Apache-2.0 */
/* counted.h - what the code under test asks the system for, by kind.
 *
 * Counted are the calls that our own objects and the static libraries make, by
 * the linker's --wrap: link with $(COUNTED_WRAPS). json-c's objects count as
 * allocations. Not for threads.
 */
#ifndef TESTS_UNIT_COUNTED_H
#define TESTS_UNIT_COUNTED_H

struct counted {
        unsigned allocations;           /* and frees */
        unsigned files;
        unsigned locks;
};

/* Since the last call. */
struct counted counted_take(void);

#endif
