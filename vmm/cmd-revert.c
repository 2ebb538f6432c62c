/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/options.h"
#include "common/rate.h"
#include "vmm/cli.h"
#include "vmm/confine.h"
#include "vmm/launch.h"
#include "vmm/privileges.h"
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
        "  --hugepages           RAM in pages of 2 MiB out of the host's pool (vm.nr_hugepages)\n"
        "  --record[=SECONDS]    note what the guest touches first, and store it in IMAGE as\n"
        "                        the snapshot's working set: after SECONDS, at 'vmm\n"
        "                        workingset NAME', or when the VM ends\n"
        "  --pageserver SOCK     use the page server that listens there, not a private one\n"
        "  --net ID=TAP|ID=none  another tap device than when it was saved, or none; repeatable\n"
        "  --vsock PATH|none     another socket than when it was saved, or none\n"
        "  --disk ID=PATH[,trust]\n"
        "                        a disk that is elsewhere now; trust: whatever is in it;\n"
        "                        repeatable\n"
        "  --disks overlay|inplace\n"
        "                        keep what the guest writes apart, until the VM ends (default),\n"
        "                        or write to the disks\n"
        "  --paused              do not let the guest run yet\n"
        "  --console FILE        write the serial console to FILE\n"
        "  --sandbox on|off|log  limit the system calls of the VM's threads: on (default), off,\n"
        "                        or have the kernel log what on would refuse\n"
        "  --confine DIR         make, write and read files only beneath DIR, besides those of\n"
        "                        the VM; repeatable\n"
        "  --user NAME           who starts as root: become that user at once\n"
        "  --foreground          stay, with the console on this terminal; Ctrl-] ends the VM\n"
        "  --wait                return only when all memory is loaded\n"
        "  --trace               print when each phase of the start was reached\n"
        "  --json                print phases and times as JSON\n"
        "  --help                show this\n";

struct revert_cmd {
        struct revert_options revert;
        struct launch_options launch;
        struct confine *confine;
        const char *user;               /* NULL = who we are */
        bool postcopy_only;             /* an option was given that needs --postcopy */
        bool prefetch_given;
        bool json;
        bool help;
};

static int read_prefetch(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        o->postcopy_only = true;
        o->prefetch_given = true;
        return rate_parse(value, &o->revert.prefetch_rate, e);
}

static int read_lane(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        o->postcopy_only = true;
        if (!strcmp(value, "shared"))
                o->revert.lane = PS_LANE_SHARED;
        else if (!strcmp(value, "copy"))
                o->revert.lane = PS_LANE_COPY;
        else
                return err_msg(e, EINVAL, "lane '%s' is neither 'shared' nor 'copy'", value);
        return 0;
}

static int read_pageserver(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        (void)e;
        o->postcopy_only = true;
        o->revert.pageserver = value;
        return 0;
}

static int read_postcopy(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;
        uint64_t percent = 0;
        int rc = 0;

        if (value)
                rc = option_number(value, 0, 100, "percentage", &percent, e);
        o->revert.postcopy = true;
        o->revert.hold_percent = (unsigned)percent;
        return rc;
}

/* a day; whoever waits longer asks */
#define RECORD_SECONDS_MAX 86400

static int read_record(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;
        uint64_t seconds = 0;
        int rc = 0;

        if (value)
                rc = option_number(value, 1, RECORD_SECONDS_MAX, "number of seconds", &seconds,
                                      e);
        o->postcopy_only = true;
        o->revert.record = true;
        o->revert.record_seconds = (unsigned)seconds;
        return rc;
}

static int read_net(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        if (o->revert.nnets == MACHINE_NETS_MAX)
                return err_msg(e, E2BIG, "a VM has at most %d network devices: leave out "
                               "--net %s", MACHINE_NETS_MAX, value);
        o->revert.net[o->revert.nnets++] = value;
        return 0;
}

static int read_disk(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        return kept_disks_wish(&o->revert.disks, value, e);
}

static int read_disks(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        o->revert.disks.in_place = !strcmp(value, "inplace");
        if (strcmp(value, "overlay") && !o->revert.disks.in_place)
                return err_msg(e, EINVAL, "disks '%s' is neither 'overlay' nor 'inplace'", value);
        return 0;
}

static int read_name(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;
        int rc = rundir_check_name(value, e);

        if (rc == 0)
                snprintf(o->launch.name, sizeof(o->launch.name), "%s", value);
        return rc;
}

static int read_sandbox(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        return sandbox_mode_parse(value, &o->launch.sandbox, e);
}

static int read_confine(void *command, const char *value, struct err *e)
{
        struct revert_cmd *o = command;

        return confine_add(o->confine, value, e);
}

static const struct option_row options[] = {
        OPTION_TEXT("tag", struct revert_cmd, revert.tag),
        OPTION_TEXT("allow-parent", struct revert_cmd, revert.allow_parent),
        OPTION_READ("name", read_name),
        OPTION_MAY_READ("postcopy", read_postcopy),
        OPTION_READ("prefetch", read_prefetch),
        OPTION_READ("lane", read_lane),
        OPTION_FLAG("hugepages", struct revert_cmd, revert.hugepages),
        OPTION_MAY_READ("record", read_record),
        OPTION_READ("pageserver", read_pageserver),
        OPTION_READ("net", read_net),
        OPTION_TEXT("vsock", struct revert_cmd, revert.vsock),
        OPTION_READ("disk", read_disk),
        OPTION_READ("disks", read_disks),
        OPTION_FLAG("paused", struct revert_cmd, launch.paused),
        OPTION_TEXT("console", struct revert_cmd, launch.console_file),
        OPTION_READ("sandbox", read_sandbox),
        OPTION_READ("confine", read_confine),
        OPTION_TEXT("user", struct revert_cmd, user),
        OPTION_FLAG("foreground", struct revert_cmd, launch.foreground),
        OPTION_FLAG("wait", struct revert_cmd, launch.wait_resident),
        OPTION_FLAG("trace", struct revert_cmd, launch.trace),
        OPTION_FLAG("json", struct revert_cmd, json),
        OPTION_FLAG("help", struct revert_cmd, help),
        OPTION_END,
};

/* What was loaded before the guest touched it, nobody sees touched: neither what prefetch
 * has brought, nor, in the shared lane, other clones. */
static int settle_record(struct revert_cmd *o, struct err *e)
{
        if (!o->revert.record)
                return 0;
        if (o->revert.lane == PS_LANE_SHARED)
                return err_msg(e, EINVAL, "--record needs memory that no other VM fills: leave out "
                               "--lane shared");
        if (o->revert.hold_percent)
                return err_msg(e, EINVAL, "--record would not see what --postcopy=%u loads before "
                               "the guest runs: use --postcopy", o->revert.hold_percent);
        o->revert.lane = PS_LANE_COPY;
        if (!o->prefetch_given)
                o->revert.prefetch_rate = PS_PREFETCH_OFF;
        return 0;
}

/* An image cache has small pages: what many map cannot be 2 MiB here and 4 KiB there. */
static int settle_hugepages(struct revert_cmd *o, struct err *e)
{
        if (!o->revert.hugepages)
                return 0;
        if (o->revert.lane == PS_LANE_SHARED)
                return err_msg(e, EINVAL, "--hugepages needs memory of the VM's own: leave out "
                               "--lane shared");
        if (o->revert.record)
                return err_msg(e, EINVAL, "--record would note 2 MiB for each page that is "
                               "touched: leave out --hugepages");
        if (o->revert.postcopy)
                o->revert.lane = PS_LANE_COPY;
        return 0;
}

static int parse(int argc, char **argv, struct revert_cmd *o, struct err *e)
{
        int rc = options_parse("vmm revert", options, argc, argv, o, NULL, e);

        if (rc < 0 || o->help)
                return rc;
        rc = cli_operands(argc, argv, 1, USAGE, e);
        if (rc == 0 && o->postcopy_only && !o->revert.postcopy)
                rc = err_msg(e, EINVAL, "--prefetch, --lane, --record and --pageserver go with "
                             "--postcopy");
        if (rc == 0)
                rc = settle_hugepages(o, e);
        if (rc == 0)
                rc = settle_record(o, e);
        if (rc == 0 && o->launch.wait_resident && o->revert.prefetch_rate == PS_PREFETCH_OFF)
                rc = err_msg(e, EINVAL, "--wait would wait for ever with --prefetch off, which "
                             "--record means too");
        if (rc == 0)
                o->revert.image_path = argv[optind];
        return rc;
}

/* It may run well for ever, or until it uses one of these. */
static void print_differences(struct json_object *report)
{
        struct json_object *differences;

        if (json_object_object_get_ex(report, "cpu_differences", &differences))
                printf("its CPU was another one than this host offers: %s\n",
                       json_object_to_json_string_ext(differences, JSON_C_TO_STRING_SPACED));
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
        print_differences(report);
}

int cmd_revert(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_CONFINE confine = { 0 };
        struct revert_cmd o = {
                .confine = &confine,
                .revert = { .lane = PS_LANE_AUTO, .prefetch_rate = PS_PREFETCH_UNLIMITED },
                .launch = { .start_ns = cli->start_ns, .sandbox = SANDBOX_ON },
        };
        AUTO_JSON *report = NULL;
        struct revert *r;

        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }
        if (o.user && privileges_become(o.user, e) < 0)
                return CLI_FAILED;
        o.launch.confine = o.confine;
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
