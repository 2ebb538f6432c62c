/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "common/options.h"

int cli_bad_option(const char *command, char **argv, struct err *e)
{
        char full[32];

        snprintf(full, sizeof(full), "vmm %s", command);
        return option_bad(full, argv, e);
}

int cli_operands(int argc, char **argv, int n, const char *usage, struct err *e)
{
        (void)argv;
        if (argc - optind != n)
                return err_msg(e, EINVAL, "usage: vmm %s", usage);
        return 0;
}

void cli_help(const char *text)
{
        fputs(text, stdout);
}

void cli_print_json(struct json_object *o)
{
        puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                            JSON_C_TO_STRING_NOSLASHESCAPE));
}
