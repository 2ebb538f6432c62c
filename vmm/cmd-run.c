/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/options.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/coldboot.h"
#include "vmm/confine.h"
#include "vmm/launch.h"
#include "vmm/prepared.h"
#include "vmm/privileges.h"

#define USAGE "run NAME [--kernel IMAGE [--initrd FILE] | --demo | --empty] [OPTIONS]"
#define MEMORY_DEFAULT (256ull << 20)

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --demo            boot the built-in payload guest, which verifies a pattern in RAM\n"
        "  --kernel IMAGE    bzImage or PVH ELF to boot\n"
        "  --empty           boot nothing: wait for PUT /snapshot/load, see vmm-api(7);\n"
        "                    with --memory, and --cpus, as the snapshot has\n"
        "  --initrd FILE     its initial RAM disk\n"
        "  --cmdline TEXT    kernel command line (default 'console=ttyS0'), or payload options\n"
        "  --memory SIZE     RAM, 64M or more, a multiple of 2M (default 256M)\n"
        "  --hugepages       RAM in pages of 2 MiB out of the host's pool (vm.nr_hugepages)\n"
        "  --cpus N          virtual CPUs, 1 to 8 (default 1)\n"
        "  --disk PATH[,ro]  a disk (virtio-blk): a raw file or block device; repeatable\n"
        "  --net TAP[,mac=MAC]\n"
        "                    a network device (virtio-net) on a tap device; repeatable\n"
        "  --vsock PATH[,cid=N]\n"
        "                    sockets between guest and host (virtio-vsock), at unix socket PATH\n"
        "  --balloon         memory that can be taken back while the guest runs\n"
        "  --console FILE    write the serial console to FILE\n"
        "  --sandbox on|off|log\n"
        "                    limit the system calls of the VM's threads: on (default), off, or\n"
        "                    have the kernel log what on would refuse\n"
        "  --confine DIR     make, write and read files only beneath DIR, besides those of the\n"
        "                    VM; repeatable\n"
        "  --user NAME       who starts as root: become that user at once\n"
        "  --foreground      stay, with the console on this terminal; Ctrl-] ends the VM\n"
        "  --trace           print when each phase of the start was reached\n"
        "  --json            print what was started as JSON\n"
        "  --help            show this\n";

struct run_options {
        struct coldboot boot;
        struct launch_options launch;
        struct confine *confine;
        const char *user;               /* NULL = who we are */
        bool empty;
        struct shape shape;             /* of the guest to come; memory 0 = not said */
        bool json;
        bool help;
};

static int read_memory(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;

        if (size_parse(value, &o->boot.memory_bytes) < 0)
                return err_msg(e, EINVAL, "memory size '%s' is not a size such as 256M or 4G",
                               value);
        o->shape.memory_bytes = o->boot.memory_bytes;
        return 0;
}

static int read_cpus(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;
        uint64_t n = 0;
        int rc = option_number(value, 1, VCPUS_MAX, "number of CPUs", &n, e);

        o->boot.cpus = (unsigned)n;
        return rc;
}

static int read_disk(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;

        return machine_config_add_disk(&o->boot.machine, value, e);
}

static int read_net(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;

        return machine_config_add_net(&o->boot.machine, value, e);
}

static int read_vsock(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;

        return machine_config_set_vsock(&o->boot.machine, value, e);
}

static int read_sandbox(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;

        return sandbox_mode_parse(value, &o->launch.sandbox, e);
}

static int read_confine(void *command, const char *value, struct err *e)
{
        struct run_options *o = command;

        return confine_add(o->confine, value, e);
}

static const struct option_row options[] = {
        OPTION_FLAG("demo", struct run_options, boot.demo),
        OPTION_FLAG("empty", struct run_options, empty),
        OPTION_TEXT("kernel", struct run_options, boot.kernel_path),
        OPTION_TEXT("initrd", struct run_options, boot.initrd_path),
        OPTION_TEXT("cmdline", struct run_options, boot.cmdline),
        OPTION_READ("memory", read_memory),
        OPTION_FLAG("hugepages", struct run_options, boot.hugepages),
        OPTION_READ("cpus", read_cpus),
        OPTION_READ("disk", read_disk),
        OPTION_READ("net", read_net),
        OPTION_READ("vsock", read_vsock),
        OPTION_FLAG("balloon", struct run_options, boot.machine.balloon),
        OPTION_TEXT("console", struct run_options, launch.console_file),
        OPTION_READ("sandbox", read_sandbox),
        OPTION_READ("confine", read_confine),
        OPTION_TEXT("user", struct run_options, user),
        OPTION_FLAG("foreground", struct run_options, launch.foreground),
        OPTION_FLAG("trace", struct run_options, launch.trace),
        OPTION_FLAG("json", struct run_options, json),
        OPTION_FLAG("help", struct run_options, help),
        OPTION_END,
};

static int check_what(struct run_options *o, struct err *e)
{
        if (o->boot.demo + (o->boot.kernel_path != NULL) + o->empty != 1)
                return err_msg(e, EINVAL, "give one of --kernel IMAGE, --demo and --empty");
        if (o->boot.initrd_path && !o->boot.kernel_path)
                return err_msg(e, EINVAL, "--initrd goes with --kernel");
        if (o->empty && (o->boot.cmdline || o->boot.hugepages))
                return err_msg(e, EINVAL, "--cmdline and --hugepages do not go with --empty: what "
                               "is loaded says that");
        o->shape.cpus = o->boot.cpus;
        return o->empty ? shape_check(&o->shape, e) : 0;
}

static int parse(int argc, char **argv, struct run_options *o, struct err *e)
{
        int rc = options_parse("vmm run", options, argc, argv, o, NULL, e);

        if (rc < 0 || o->help)
                return rc;
        rc = cli_operands(argc, argv, 1, USAGE, e);
        if (rc == 0)
                rc = rundir_check_name(argv[optind], e);
        if (rc == 0)
                rc = check_what(o, e);
        if (rc == 0)
                snprintf(o->launch.name, sizeof(o->launch.name), "%s", argv[optind]);
        if (rc == 0 && !o->boot.cmdline)
                o->boot.cmdline = o->boot.demo ? "" : "console=ttyS0";
        return rc;
}

/* launch_build_fn: what can be made before it is known what it will be; ctx is the shape */
static int prepare(struct vm *vm, void *ctx, struct err *e)
{
        vm->state = VM_EMPTY;
        return prepared_make(ctx, &vm->prepared, e);
}

int cmd_run(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_CONFINE confine = { 0 };
        struct run_options o = {
                .confine = &confine,
                /* every guest has entropy, and can learn that it is a copy */
                .boot = { .memory_bytes = MEMORY_DEFAULT, .cpus = 1,
                          .machine = { .rng = true, .vmgenid = true } },
                .launch = { .start_ns = cli->start_ns, .sandbox = SANDBOX_ON },
        };
        AUTO_JSON *report = NULL;

        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }

        if (o.user && privileges_become(o.user, e) < 0)
                return CLI_FAILED;
        o.launch.confine = o.confine;

        int rc = o.empty ? launch(&o.launch, prepare, &o.shape, &report, e)
                         : launch(&o.launch, coldboot_build, &o.boot, &report, e);

        if (rc < 0)
                return CLI_FAILED;
        if (report && o.json)
                cli_print_json(report);
        else if (report)
                printf(o.empty ? "VM '%s' waits, empty\n" : "VM '%s' runs\n", o.launch.name);
        return 0;
}
