/* SPDX-License-Identifier: Apache-2.0 */
/* suite.h - one CUnit suite per program, whose exit status tells the truth.
 *
 * CUnit's own return codes stay green on failure and its assertions are not
 * thread-safe: worker threads return results, only the main thread asserts.
 */
#ifndef TESTS_UNIT_SUITE_H
#define TESTS_UNIT_SUITE_H

#include <CUnit/CUnit.h>

#define SUITE_SKIP 77

/* Runs all cases; 0 when every assertion held, 1 otherwise. */
int suite_main(const char *name, const CU_TestInfo *cases);

#endif
