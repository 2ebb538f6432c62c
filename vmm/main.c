/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - vmm: run, save and revert virtual machines. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "vmm/blank.h"
#include "vmm/cli.h"

static const struct {
        const char *name;
        cli_fn *run;
        const char *summary;
} commands[] = {
        { "run", cmd_run, "start a VM from a kernel, or the built-in demo guest" },
        { "save", cmd_save, "write a running VM's RAM and state into a QCOW2 image" },
        { "cancel", cmd_cancel, "give up a save of a VM, which runs on" },
        { "revert", cmd_revert, "start a VM from an image, at once with --postcopy" },
        { "rollback", cmd_rollback, "take a VM back to a snapshot of its own, in place" },
        { "clone", cmd_clone, "make live copies of a running VM, which share memory" },
        { "serve", cmd_serve, "make and steer VMs by HTTP" },
        { "list", cmd_list, "show the VMs that run" },
        { "info", cmd_info, "show one VM or one image" },
        { "console", cmd_console, "connect to a VM's serial console" },
        { "pause", cmd_pause, "let a VM stand still" },
        { "resume", cmd_resume, "let it go on" },
        { "prefetch", cmd_prefetch, "change how fast a VM's memory is loaded in the background" },
        { "balloon", cmd_balloon, "change how much memory a VM is to do without" },
        { "stop", cmd_stop, "end a VM now; what was not saved is lost" },
        { "workingset", cmd_workingset, "store what a recorded VM has touched until now" },
        { "image", cmd_image, "check, show, export and import images" },
        { "doctor", cmd_doctor, "check what this host has and lacks, with remedies" },
};

static void print_help(FILE *out)
{
        fputs("usage: vmm COMMAND [OPTIONS]\n\n", out);
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
        fputs("\n'vmm COMMAND --help' shows a command's options; the manual is vmm(1).\n"
              "  --help      show this\n"
              "  --version   show the version\n", out);
}

int main(int argc, char **argv)
{
        const struct cli cli = { .start_ns = clock_now_ns() };

        if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
                print_help(argc < 2 ? stderr : stdout);
                return argc < 2 ? CLI_FAILED : 0;
        }
        if (!strcmp(argv[1], "--version")) {
                puts("vmm (" PACKAGE_NAME ") " PACKAGE_VERSION);
                return 0;
        }
        if (!strcmp(argv[1], BLANK_COMMAND))
                return blank_main(argc - 1, argv + 1);
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
                struct err e = { 0 };

                if (strcmp(commands[i].name, argv[1]))
                        continue;

                int status = commands[i].run(&cli, argc - 1, argv + 1, &e);

                if (e.code)
                        err_print("vmm", &e);
                return status;
        }
        fprintf(stderr, "vmm: there is no command '%s': see 'vmm --help'\n", argv[1]);
        return CLI_FAILED;
}
