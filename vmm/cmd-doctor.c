/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-doctor.c - vmm doctor: a line for each thing that the host has or lacks. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "common/check.h"
#include "common/json.h"
#include "common/options.h"
#include "vmm/cli.h"
#include "vmm/doctor-probe.h"

struct doctor_cmd {
        bool json;
        bool help;
};

static const struct option_row options[] = {
        OPTION_FLAG("json", struct doctor_cmd, json),
        OPTION_FLAG("help", struct doctor_cmd, help),
        OPTION_END,
};

static const char help[] =
        "usage: vmm doctor [FOLDER] [--json]\n\n"
        "Checks whether VMs can run here and be reverted with postcopy, and how well;\n"
        "FOLDER is where disks are, the default is the current one.\n\n"
        "  --json    as JSON\n"
        "  --help    show this\n";

static void print_findings(const struct doctor_finding *findings)
{
        for (size_t i = 0; i < DOCTOR_CHECKS; i++) {
                const struct doctor_finding *f = &findings[i];

                printf("%-7s  %-11s  %s%s%s\n", doctor_verdict_name(f->verdict),
                       doctor_checks[i].name, f->text, f->remedy[0] ? "; " : "", f->remedy);
        }
}

static void print_json(const struct doctor_finding *findings, bool usable)
{
        AUTO_JSON *o = json_object_new_object();
        struct json_object *checks = json_object_new_array();

        for (size_t i = 0; i < DOCTOR_CHECKS; i++) {
                struct json_object *check = json_object_new_object();

                json_put_str(check, "check", doctor_checks[i].name);
                json_put_str(check, "verdict", doctor_verdict_name(findings[i].verdict));
                json_put_str(check, "text", findings[i].text);
                if (findings[i].remedy[0])
                        json_put_str(check, "remedy", findings[i].remedy);
                else
                        json_put_null(check, "remedy");
                json_object_array_add(checks, check);
        }
        json_put_bool(o, "usable", usable);
        json_object_object_add(o, "checks", checks);
        cli_print_json(o);
}

static int examine(const char *folder, bool json)
{
        struct doctor_finding findings[DOCTOR_CHECKS];
        struct doctor_host host;
        bool usable = true;

        doctor_probe(folder, &host);
        for (size_t i = 0; i < DOCTOR_CHECKS; i++) {
                doctor_checks[i].judge(&host, &findings[i]);
                usable = usable && findings[i].verdict != DOCTOR_MISSING;
        }
        if (json)
                print_json(findings, usable);
        else
                print_findings(findings);
        return usable ? 0 : CLI_FAILED;
}

int cmd_doctor(const struct cli *cli, int argc, char **argv, struct err *e)
{
        struct doctor_cmd o = { 0 };

        (void)cli;
        if (options_parse("vmm doctor", options, argc, argv, &o, NULL, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }
        if (argc - optind > 1) {
                err_msg(e, EINVAL, "usage: vmm doctor [FOLDER] [--json]");
                return CLI_FAILED;
        }
        return examine(optind < argc ? argv[optind] : ".", o.json);
}
