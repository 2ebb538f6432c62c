/* SPDX-License-Identifier: Apache-2.0 */
/* http-ask ADDRESS METHOD PATH [BODY] - prints the body of the answer; exit status 0 for
 * a status of 2xx, else 1 with the status on standard error. */
#include <stdio.h>

#include "common/auto.h"
#include "tests/stress/http-ask.h"

int main(int argc, char **argv)
{
        if (argc != 4 && argc != 5) {
                fprintf(stderr, "usage: http-ask ADDRESS METHOD PATH [BODY]\n");
                return 2;
        }

        AUTO_FREE char *answer = http_ask(argv[1], argv[2], argv[3], argc == 5 ? argv[4] : NULL);
        int status = http_status(answer);

        if (answer)
                fputs(http_body(answer), stdout);
        if (status / 100 == 2)
                return 0;
        fprintf(stderr, "status %d\n", status);
        return 1;
}
