/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/coldboot.h"
#include "vmm/launch.h"

#define USAGE "run NAME [--kernel IMAGE [--initrd FILE] | --demo] [OPTIONS]"
#define MEMORY_DEFAULT (256ull << 20)

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --demo            boot the built-in payload guest, which verifies a pattern in RAM\n"
        "  --kernel IMAGE    bzImage or PVH ELF to boot\n"
        "  --initrd FILE     its initial RAM disk\n"
        "  --cmdline TEXT    kernel command line (default 'console=ttyS0'), or payload options\n"
        "  --memory SIZE     RAM, 64M or more, a multiple of 2M (default 256M)\n"
        "  --cpus N          virtual CPUs, 1 to 8 (default 1)\n"
        "  --console FILE    write the serial console to FILE\n"
        "  --foreground      stay, with the console on this terminal; Ctrl-] ends the VM\n"
        "  --json            print what was started as JSON\n"
        "  --help            show this\n";

struct run_options {
        struct coldboot boot;
        struct launch_options launch;
        bool json;
        bool help;
};

static int parse_memory(const char *text, uint64_t *ret, struct err *e)
{
        if (size_parse(text, ret) < 0)
                return err_msg(e, EINVAL, "memory size '%s' is not a size such as 256M or 4G",
                               text);
        return 0;
}

static int parse_option(int c, struct run_options *o, char **argv, struct err *e)
{
        uint64_t n;
        int rc = 0;

        switch (c) {
        case 'd':
                o->boot.demo = true;
                return 0;
        case 'k':
                o->boot.kernel_path = optarg;
                return 0;
        case 'i':
                o->boot.initrd_path = optarg;
                return 0;
        case 'a':
                o->boot.cmdline = optarg;
                return 0;
        case 'm':
                return parse_memory(optarg, &o->boot.memory_bytes, e);
        case 'c':
                rc = cli_parse_number(optarg, 1, VCPUS_MAX, "number of CPUs", &n, e);
                if (rc == 0)
                        o->boot.cpus = (unsigned)n;
                return rc;
        case 'o':
                o->launch.console_file = optarg;
                return 0;
        case 'f':
                o->launch.foreground = true;
                return 0;
        case 'j':
                o->json = true;
                return 0;
        case 'h':
                o->help = true;
                return 0;
        default:
                return cli_bad_option("run", argv, e);
        }
}

static int parse(int argc, char **argv, struct run_options *o, struct err *e)
{
        static const struct option longopts[] = {
                { "demo", no_argument, NULL, 'd' }, { "kernel", required_argument, NULL, 'k' },
                { "initrd", required_argument, NULL, 'i' },
                { "cmdline", required_argument, NULL, 'a' },
                { "memory", required_argument, NULL, 'm' },
                { "cpus", required_argument, NULL, 'c' },
                { "console", required_argument, NULL, 'o' },
                { "foreground", no_argument, NULL, 'f' }, { "json", no_argument, NULL, 'j' },
                { "help", no_argument, NULL, 'h' }, { 0 },
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

        if (rc == 0)
                rc = rundir_check_name(argv[optind], e);
        if (rc == 0 && o->boot.demo == (o->boot.kernel_path != NULL))
                rc = err_msg(e, EINVAL, "give either --kernel IMAGE or --demo");
        if (rc == 0 && o->boot.initrd_path && !o->boot.kernel_path)
                rc = err_msg(e, EINVAL, "--initrd goes with --kernel");
        if (rc == 0)
                snprintf(o->launch.name, sizeof(o->launch.name), "%s", argv[optind]);
        if (rc == 0 && !o->boot.cmdline)
                o->boot.cmdline = o->boot.demo ? "" : "console=ttyS0";
        return rc;
}

int cmd_run(const struct cli *cli, int argc, char **argv, struct err *e)
{
        struct run_options o = {
                .boot = { .memory_bytes = MEMORY_DEFAULT, .cpus = 1 },
                .launch = { .start_ns = cli->start_ns },
        };
        AUTO_JSON *report = NULL;

        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }
        if (launch(&o.launch, coldboot_build, &o.boot, &report, e) < 0)
                return CLI_FAILED;
        if (report && o.json)
                cli_print_json(report);
        else if (report)
                printf("VM '%s' runs\n", o.launch.name);
        return 0;
}
