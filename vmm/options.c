/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/check.h"
#include "vmm/cli.h"

static int take(const struct option_row *row, void *o, struct err *e)
{
        uint8_t *at = (uint8_t *)o + row->at;

        if (row->read)
                return row->read(o, optarg, e);
        if (row->takes == OPTION_NOTHING)
                *(bool *)at = true;
        else
                *(const char **)(void *)at = optarg;
        return 0;
}

int options_parse(const char *command, const struct option_row *rows, int argc, char **argv,
                  void *o, struct err *e)
{
        static const int has_arg[] = {
                [OPTION_NOTHING] = no_argument, [OPTION_VALUE] = required_argument,
                [OPTION_MAY] = optional_argument,
        };
        struct option longopts[OPTIONS_MAX + 1] = { 0 };
        int found = 0;
        int c;

        for (int i = 0; rows[i].name; i++) {
                ASSERT(i < OPTIONS_MAX);
                longopts[i] = (struct option){ rows[i].name, has_arg[rows[i].takes], &found, i };
        }
        opterr = 0;
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                int rc = c == 0 ? take(&rows[found], o, e) : cli_bad_option(command, argv, e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}
