/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/options.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/kvm.h"
#include "vmm/privileges.h"
#include "vmm/rundir.h"
#include "vmm/serve/pool.h"
#include "vmm/serve/server.h"

#define USAGE "serve [OPTIONS]"
#define RATE_DEFAULT 100
#define RATE_MAX 1000000
#define CREATES_DEFAULT 8
#define CREATES_MAX 1024
/* time to read all of a large machine's memory */
#define CREATE_SECONDS_DEFAULT 300
#define CREATE_SECONDS_MAX (24 * 3600)
#define VMS_MAX 100000

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --socket PATH       listen there (default: serve.sock in the runtime directory)\n"
        "  --listen HOST:PORT  and there, for those who know the token\n"
        "  --token-file FILE   the token: one line, in a file that nobody else can read\n"
        "  --pool N            keep N machines prepared for snapshots (default 0)\n"
        "  --pool-image FILE   for this one, with --postcopy (default: the last one's)\n"
        "  --pool-cpus N       with so many virtual CPUs\n"
        "  --pool-memory SIZE  and so much RAM (default for both: as the last one had)\n"
        "  --max-vms N         machines that may run (default: no limit)\n"
        "  --max-creates N     machines that are made at a time (default 8)\n"
        "  --create-timeout N  end one that is not made in N seconds (default 300)\n"
        "  --rate N            requests a second (default 100)\n"
        "  --sandbox on|off|log\n"
        "                      limit the system calls of the machines' threads: on (default),\n"
        "                      off, or have the kernel log what on would refuse\n"
        "  --confine DIR       have the machines make, write and read files only beneath DIR,\n"
        "                      besides their own; repeatable\n"
        "  --user NAME         who starts as root: become that user at once\n"
        "  --help              show this\n";

struct serve_cmd {
        struct serve_options serve;
        const char *token_file;
        const char *user;               /* NULL = who we are */
        struct confine *confine;
        bool help;
};

static int read_unsigned(const char *value, uint64_t min, uint64_t max, const char *what,
                         unsigned *ret, struct err *e)
{
        uint64_t n = 0;
        int rc = option_number(value, min, max, what, &n, e);

        if (rc == 0)
                *ret = (unsigned)n;
        return rc;
}

static int read_pool(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return read_unsigned(value, 0, POOL_SIZE_MAX, "size of the pool", &o->serve.pool_size, e);
}

static int read_pool_cpus(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        o->serve.pool_shape_fixed = true;
        return read_unsigned(value, 1, VCPUS_MAX, "number of CPUs", &o->serve.pool_shape.cpus, e);
}

static int read_pool_memory(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        o->serve.pool_shape_fixed = true;
        if (size_parse(value, &o->serve.pool_shape.memory_bytes) < 0)
                return err_msg(e, EINVAL, "memory size '%s' is not a size such as 256M or 4G",
                               value);
        return shape_check(&o->serve.pool_shape, e);
}

/* The path that requests have: links in it are followed when they come. */
static int read_pool_image(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        if (value[0] != '/')
                return err_msg(e, EINVAL, "--pool-image '%s': say the whole path, as requests do",
                               value);
        o->serve.pool_image = value;
        return 0;
}

static int read_max_vms(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return read_unsigned(value, 1, VMS_MAX, "number of VMs", &o->serve.vms_max, e);
}

static int read_max_creates(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return read_unsigned(value, 1, CREATES_MAX, "number of VMs", &o->serve.creates_max, e);
}

static int read_create_timeout(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return read_unsigned(value, 1, CREATE_SECONDS_MAX, "number of seconds",
                             &o->serve.create_seconds, e);
}

static int read_rate(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return read_unsigned(value, 1, RATE_MAX, "number of requests", &o->serve.rate, e);
}

static int read_sandbox(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return sandbox_mode_parse(value, &o->serve.sandbox, e);
}

static int read_confine(void *command, const char *value, struct err *e)
{
        struct serve_cmd *o = command;

        return confine_add(o->confine, value, e);
}

static const struct option_row options[] = {
        OPTION_TEXT("socket", struct serve_cmd, serve.socket_path),
        OPTION_TEXT("listen", struct serve_cmd, serve.listen),
        OPTION_TEXT("token-file", struct serve_cmd, token_file),
        OPTION_READ("pool", read_pool),
        OPTION_READ("pool-image", read_pool_image),
        OPTION_READ("pool-cpus", read_pool_cpus),
        OPTION_READ("pool-memory", read_pool_memory),
        OPTION_READ("max-vms", read_max_vms),
        OPTION_READ("max-creates", read_max_creates),
        OPTION_READ("create-timeout", read_create_timeout),
        OPTION_READ("rate", read_rate),
        OPTION_READ("sandbox", read_sandbox),
        OPTION_READ("confine", read_confine),
        OPTION_TEXT("user", struct serve_cmd, user),
        OPTION_FLAG("help", struct serve_cmd, help),
        OPTION_END,
};

static int parse(int argc, char **argv, struct serve_cmd *o, struct err *e)
{
        int rc = options_parse("vmm serve", options, argc, argv, o, NULL, e);

        if (rc < 0 || o->help)
                return rc;
        rc = cli_operands(argc, argv, 0, USAGE, e);
        if (rc == 0 && !o->serve.listen != !o->token_file)
                rc = err_msg(e, EINVAL, "--listen and --token-file go together: who reaches the "
                             "port commands all VMs");
        return rc == 0 ? confine_can_be(o->serve.confine, o->serve.sandbox, e) : rc;
}

int cmd_serve(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_CONFINE confine = { 0 };
        struct serve_cmd o = {
                .confine = &confine,
                .serve = {
                        .confine = &confine,
                        .rate = RATE_DEFAULT, .creates_max = CREATES_DEFAULT,
                        .create_seconds = CREATE_SECONDS_DEFAULT,
                        .pool_shape.cpus = 1, .sandbox = SANDBOX_ON,
                },
        };
        struct rundir_path path;
        struct token token;

        (void)cli;
        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }
        if (o.user && privileges_become(o.user, e) < 0)
                return CLI_FAILED;
        if (o.token_file && token_read(o.token_file, &token, e) < 0)
                return CLI_FAILED;
        o.serve.token = &token;
        if (!o.serve.socket_path) {
                if (rundir_make(e) < 0 || rundir_path(&path, RUNDIR_SERVE, "sock", e) < 0)
                        return CLI_FAILED;
                o.serve.socket_path = path.text;
        }
        return serve_run(&o.serve, e) < 0 ? CLI_FAILED : 0;
}
