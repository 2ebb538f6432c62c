/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/options.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/httpc.h"

#define USAGE "workingset NAME [--json]"

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "Stores what the guest has touched until now as the working set of the snapshot it\n"
        "was reverted from, with 'vmm revert --record'.\n\n"
        "  --json    print what was stored as JSON\n"
        "  --help    show this\n";

struct workingset_cmd {
        bool json;
        bool help;
};

static const struct option_row options[] = {
        OPTION_FLAG("json", struct workingset_cmd, json),
        OPTION_FLAG("help", struct workingset_cmd, help),
        OPTION_END,
};

static void print_result(struct json_object *o)
{
        char size[SIZE_TEXT_MAX];

        printf("working set of '%s': %s in %llu extents\n",
               json_object_get_string(json_object_object_get(o, "image")),
               size_text(json_object_get_uint64(json_object_object_get(o, "bytes")), size),
               (unsigned long long)json_object_get_uint64(json_object_object_get(o, "extents")));
}

int cmd_workingset(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *result = NULL;
        struct workingset_cmd o = { 0 };

        (void)cli;
        if (options_parse("vmm workingset", options, argc, argv, &o, NULL, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }
        if (cli_operands(argc, argv, 1, USAGE, e) < 0 ||
            httpc_request(argv[optind], "PUT", "/working-set", NULL, &result, e) < 0)
                return CLI_FAILED;
        if (o.json)
                cli_print_json(result);
        else
                print_result(result);
        return 0;
}
