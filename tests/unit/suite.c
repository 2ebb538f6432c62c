/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/suite.h"

#include <CUnit/Basic.h>
#include <stdio.h>

int suite_main(const char *name, const CU_TestInfo *cases)
{
        CU_SuiteInfo suites[] = {
                { .pName = name, .pTests = (CU_TestInfo *)cases },
                CU_SUITE_INFO_NULL,
        };

        if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
                fprintf(stderr, "%s: %s\n", name, CU_get_error_msg());
                return 1;
        }
        CU_basic_set_mode(CU_BRM_VERBOSE);
        CU_basic_run_tests();

        /* before the registry and its counts are gone */
        unsigned failures = CU_get_number_of_failure_records();

        CU_cleanup_registry();
        return failures ? 1 : 0;
}
