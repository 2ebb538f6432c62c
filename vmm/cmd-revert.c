/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/launch.h"
#include "vmm/revert.h"

#define USAGE "revert IMAGE [OPTIONS]"

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --tag TAG             the snapshot to go back to (default: the latest)\n"
        "  --allow-parent DIR    backing files of IMAGE may lie in DIR too\n"
        "  --name NAME           name of the VM (default: the name it was saved under)\n"
        "  --postcopy[=PCT]      run at once and load memory as it is touched, after PCT % of it\n"
        "  --prefetch on|off|RATE\n"
        "                        load the rest in the background: on (default), off, or bytes/s\n"
        "  --lane shared|copy    how pages reach the guest (default: shared)\n"
        "  --pageserver SOCK     use the page server that listens there, not a private one\n"
        "  --paused              do not let the guest run yet\n"
        "  --console FILE        write the serial console to FILE\n"
        "  --foreground          stay, with the console on this terminal; Ctrl-] ends the VM\n"
        "  --wait                return only when all memory is loaded\n"
        "  --json                print phases and times as JSON\n"
        "  --help                show this\n";

struct revert_cmd {
        struct revert_options revert;
        struct launch_options launch;
        bool postcopy_only;             /* an option was given that needs --postcopy */
        bool json;
        bool help;
};

static int parse_prefetch(const char *text, uint64_t *ret, struct err *e)
{
        if (!strcmp(text, "on"))
                *ret = PS_PREFETCH_UNLIMITED;
        else if (!strcmp(text, "off"))
                *ret = PS_PREFETCH_OFF;
        else if (size_parse(text, ret) < 0 || *ret == 0)
                return err_msg(e, EINVAL, "prefetch '%s' is neither 'on', 'off' nor a rate in "
                               "bytes a second such as 100M", text);
        return 0;
}

static int parse_lane(const char *text, enum ps_lane *ret, struct err *e)
{
        if (!strcmp(text, "shared"))
                *ret = PS_LANE_SHARED;
        else if (!strcmp(text, "copy"))
                *ret = PS_LANE_COPY;
        else
                return err_msg(e, EINVAL, "lane '%s' is neither 'shared' nor 'copy'", text);
        return 0;
}

static int parse_postcopy(const char *text, struct revert_cmd *o, struct err *e)
{
        uint64_t percent = 0;
        int rc = 0;

        if (text)
                rc = cli_parse_number(text, 0, 100, "percentage", &percent, e);
        o->revert.postcopy = true;
        o->revert.hold_percent = (unsigned)percent;
        return rc;
}

static int parse_name(const char *text, struct launch_options *launch, struct err *e)
{
        int rc = rundir_check_name(text, e);

        if (rc == 0)
                snprintf(launch->name, sizeof(launch->name), "%s", text);
        return rc;
}

static int parse_option(int c, struct revert_cmd *o, char **argv, struct err *e)
{
        switch (c) {
        case 't':
                o->revert.tag = optarg;
                return 0;
        case 'a':
                o->revert.allow_parent = optarg;
                return 0;
        case 'n':
                return parse_name(optarg, &o->launch, e);
        case 'p':
                return parse_postcopy(optarg, o, e);
        case 'r':
                o->postcopy_only = true;
                return parse_prefetch(optarg, &o->revert.prefetch_rate, e);
        case 'l':
                o->postcopy_only = true;
                return parse_lane(optarg, &o->revert.lane, e);
        case 's':
                o->postcopy_only = true;
                o->revert.pageserver = optarg;
                return 0;
        case 'u':
                o->launch.paused = true;
                return 0;
        case 'o':
                o->launch.console_file = optarg;
                return 0;
        case 'f':
                o->launch.foreground = true;
                return 0;
        case 'w':
                o->launch.wait_resident = true;
                return 0;
        case 'j':
                o->json = true;
                return 0;
        case 'h':
                o->help = true;
                return 0;
        default:
                return cli_bad_option("revert", argv, e);
        }
}

static int parse(int argc, char **argv, struct revert_cmd *o, struct err *e)
{
        static const struct option longopts[] = {
                { "tag", required_argument, NULL, 't' }, { "name", required_argument, NULL, 'n' },
                { "allow-parent", required_argument, NULL, 'a' },
                { "postcopy", optional_argument, NULL, 'p' },
                { "prefetch", required_argument, NULL, 'r' },
                { "lane", required_argument, NULL, 'l' },
                { "pageserver", required_argument, NULL, 's' },
                { "paused", no_argument, NULL, 'u' }, { "console", required_argument, NULL, 'o' },
                { "foreground", no_argument, NULL, 'f' }, { "wait", no_argument, NULL, 'w' },
                { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { 0 },
        };
        int c;

        opterr = 0;
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                int rc = parse_option(c, o, argv, e);

                if (rc < 0)
                        return rc;
        }
        if (o->help)
                return 0;

        int rc = cli_operands(argc, argv, 1, USAGE, e);

        if (rc == 0 && o->postcopy_only && !o->revert.postcopy)
                rc = err_msg(e, EINVAL, "--prefetch, --lane and --pageserver go with --postcopy");
        if (rc == 0 && o->launch.wait_resident && o->revert.prefetch_rate == PS_PREFETCH_OFF)
                rc = err_msg(e, EINVAL, "--wait would wait for ever with --prefetch off");
        if (rc == 0)
                o->revert.image_path = argv[optind];
        return rc;
}

static void print_report(const struct revert_cmd *o, struct json_object *report)
{
        struct json_object *phases, *first;

        if (o->json) {
                cli_print_json(report);
                return;
        }
        if (json_object_object_get_ex(report, "phases", &phases) &&
            json_object_object_get_ex(phases, "first_instruction", &first))
                printf("VM '%s' runs, %.1f ms after the command began\n", o->launch.name,
                       json_object_get_double(first) / 1000);
        else
                printf("VM '%s' is there, paused\n", o->launch.name);
}

int cmd_revert(const struct cli *cli, int argc, char **argv, struct err *e)
{
        struct revert_cmd o = {
                .revert = { .lane = PS_LANE_AUTO, .prefetch_rate = PS_PREFETCH_UNLIMITED },
                .launch = { .start_ns = cli->start_ns },
        };
        AUTO_JSON *report = NULL;
        struct revert *r;

        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }
        if (revert_open(&o.revert, &r, e) < 0)
                return CLI_FAILED;
        if (!o.launch.name[0])
                snprintf(o.launch.name, sizeof(o.launch.name), "%s", revert_meta(r)->name);

        int rc = launch(&o.launch, revert_build, r, &report, e);

        revert_close(r);
        if (rc < 0)
                return CLI_FAILED;
        if (report)
                print_report(&o, report);
        return 0;
}
