/* SPDX-License-Identifier: Apache-2.0 */
#include "common/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>

#include "common/check.h"
#include "common/size.h"

static_assert(OPTIONS_MAX <= 32, "a bit of what was given for each row");

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

int option_bad(const char *command, char **argv, struct err *e)
{
        return err_msg(e, EINVAL, "'%s' is unknown or lacks its value: see '%s --help'",
                       argv[optind - 1], command);
}

int options_parse(const char *command, const struct option_row *rows, int argc, char **argv,
                  void *o, uint32_t *ret_given, struct err *e)
{
        static const int has_arg[] = {
                [OPTION_NOTHING] = no_argument, [OPTION_VALUE] = required_argument,
                [OPTION_MAY] = optional_argument,
        };
        struct option longopts[OPTIONS_MAX + 1] = { 0 };
        uint32_t given = 0;
        int found = 0;
        int rc = 0;
        int c;

        for (int i = 0; rows[i].name; i++) {
                ASSERT(i < OPTIONS_MAX);
                longopts[i] = (struct option){ rows[i].name, has_arg[rows[i].takes], &found, i };
        }
        opterr = 0;
        while (rc == 0 && (c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                rc = c == 0 ? take(&rows[found], o, e) : option_bad(command, argv, e);
                if (rc == 0)
                        given |= UINT32_C(1) << found;
        }
        if (ret_given)
                *ret_given = given;
        return rc;
}

int option_number(const char *text, uint64_t min, uint64_t max, const char *what,
                  uint64_t *ret, struct err *e)
{
        uint64_t n;

        if (size_parse(text, &n) < 0 || n < min || n > max)
                return err_msg(e, EINVAL, "%s '%s' is not a number from %llu to %llu", what, text,
                               (unsigned long long)min, (unsigned long long)max);
        *ret = n;
        return 0;
}
