/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/json.h"
#include "common/options.h"
#include "vmm/cli.h"
#include "vmm/httpc.h"

#define USAGE "rollback NAME [OPTIONS]"

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --tag TAG   a snapshot in the image that the VM was last saved to or reverted from\n"
        "              (default: that one)\n"
        "  --paused    leave it paused\n"
        "  --json      print times and what was done as JSON\n"
        "  --help      show this\n";

struct rollback_cmd {
        char tag[QS_TAG_MAX + 1];
        bool paused;
        bool json;
        bool help;
};

static int read_tag(void *command, const char *value, struct err *e)
{
        struct rollback_cmd *o = command;

        return qs_tag_parse(value, o->tag, e);
}

static const struct option_row options[] = {
        OPTION_READ("tag", read_tag),
        OPTION_FLAG("paused", struct rollback_cmd, paused),
        OPTION_FLAG("json", struct rollback_cmd, json),
        OPTION_FLAG("help", struct rollback_cmd, help),
        OPTION_END,
};

static const char *text_of(struct json_object *o, const char *key)
{
        const char *text;

        return json_take_str(o, key, &text, NULL) == 0 ? text : "-";
}

static uint64_t number_of(struct json_object *o, const char *key)
{
        uint64_t v;

        return json_take_u64(o, key, UINT64_MAX, &v, NULL) == 0 ? v : 0;
}

static void print_result(struct json_object *result)
{
        struct json_object *phases = NULL;

        json_object_object_get_ex(result, "phases", &phases);
        printf("VM '%s' is back at snapshot '%s' of '%s': %llu pages written, %llu given back, "
               "in %.1f ms, paused for %.1f ms\n", text_of(result, "name"), text_of(result, "tag"),
               text_of(result, "image"), (unsigned long long)number_of(result, "pages_written"),
               (unsigned long long)number_of(result, "pages_given_back"),
               (double)number_of(phases, "total") / 1000,
               (double)number_of(phases, "pause") / 1000);
}

int cmd_rollback(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        AUTO_JSON *result = NULL;
        struct rollback_cmd o = { 0 };
        int rc = options_parse("vmm rollback", options, argc, argv, &o, NULL, e);

        (void)cli;
        if (rc == 0 && o.help) {
                cli_help(help);
                return 0;
        }
        if (rc < 0 || cli_operands(argc, argv, 1, USAGE, e) < 0)
                return CLI_FAILED;
        if (o.tag[0])
                json_put_str(body, "tag", o.tag);
        json_put_bool(body, "paused", o.paused);
        if (httpc_request(argv[optind], "PUT", "/snapshot/rollback", body, &result, e) < 0)
                return CLI_FAILED;
        if (o.json)
                cli_print_json(result);
        else
                print_result(result);
        return 0;
}
