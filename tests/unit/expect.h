/* SPDX-License-Identifier: Apache-2.0 */
/* expect.h - what CUnit lacks: assertions that name their row of a case table,
 * and calls that must end in an ASSERT.
 *
 * Threads: the test's main thread only.
 */
#ifndef TESTS_UNIT_EXPECT_H
#define TESTS_UNIT_EXPECT_H

#include <stdbool.h>

/* Integers are equal; a failure says "row '<row>': <expression> is 3, not 4". */
#define EXPECT_EQUAL(row, got, want) \
        expect_equal((row), #got, (long long)(got), (long long)(want), __FILE__, __LINE__)
#define EXPECT_TEXT(row, got, want) \
        expect_text((row), #got, (got), (want), __FILE__, __LINE__)
#define EXPECT_TRUE(row, cond) EXPECT_EQUAL((row), !!(cond), 1)

void expect_equal(const char *row, const char *what, long long got, long long want,
                  const char *file, unsigned line);
void expect_text(const char *row, const char *what, const char *got, const char *want,
                 const char *file, unsigned line);

/* True when call() aborts; it runs in a child whose stderr is dropped. */
bool expect_abort(void (*call)(void));

/* Descriptors this process has open: equal before and after = none leaked. */
unsigned expect_open_fds(void);

#endif
