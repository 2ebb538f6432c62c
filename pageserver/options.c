/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/size.h"
#include "pageserver/prefetch.h"

#define OPTIONS_MAX 32
#define AROUND_MIN 8192u
#define AROUND_MAX (2u << 20)
/* where the explanations begin in --help */
#define HELP_COLUMN 20

/* the socket of a private server's client */
#define PRIVATE_SOCK 3

/* value: NULL without an argument. 0, or -EINVAL and a sentence that names the value */
typedef int option_fn(struct server_options *o, const char *value, struct err *e);

struct option_row {
        const char *name;               /* without "--" */
        const char *arg;                /* as --help calls it; NULL = takes none */
        const char *help;               /* its lines, parted by '\n' */
        option_fn *take;
};

/* ---- one function for each row ------------------------------------------------- */

static int take_socket(struct server_options *o, const char *value, struct err *e)
{
        (void)e;
        o->socket_path = value;
        return 0;
}

static int take_private(struct server_options *o, const char *value, struct err *e)
{
        (void)value;
        (void)e;
        o->is_private = true;
        return 0;
}

static int take_http(struct server_options *o, const char *value, struct err *e)
{
        (void)e;
        o->http_address = value;                /* http_open() says what is wrong with it */
        return 0;
}

static int take_workers(struct server_options *o, const char *value, struct err *e)
{
        char *end;
        unsigned long n = strtoul(value, &end, 10);

        if (*end || n < 1 || n > WORKERS_MAX)
                return err_msg(e, EINVAL, "--workers needs a number from 1 to %d, not '%s'",
                               WORKERS_MAX, value);
        o->workers = (unsigned)n;
        return 0;
}

static int take_prefetch(struct server_options *o, const char *value, struct err *e)
{
        if (!strcmp(value, "on"))
                o->prefetch_limit = UINT64_MAX;
        else if (!strcmp(value, "off"))
                o->prefetch_limit = 0;
        else if (size_parse(value, &o->prefetch_limit) < 0)
                return err_msg(e, EINVAL, "--prefetch needs on, off or a rate, not '%s'", value);
        return 0;
}

static int take_placement(struct server_options *o, const char *value, struct err *e)
{
        static const char *const name[] = {
                [PLACEMENT_AUTO] = "auto", [PLACEMENT_PINNED] = "pinned", [PLACEMENT_FREE] = "free",
        };

        for (size_t i = 0; i < ARRAY_SIZE(name); i++) {
                if (!strcmp(value, name[i])) {
                        o->placement = (enum placement)i;
                        return 0;
                }
        }
        return err_msg(e, EINVAL, "--placement needs auto, pinned or free, not '%s'", value);
}

static int take_around(struct server_options *o, const char *value, struct err *e)
{
        uint64_t bytes;

        if (!strcmp(value, "off"))
                bytes = 0;
        else if (size_parse(value, &bytes) < 0 || bytes < AROUND_MIN || bytes > AROUND_MAX ||
                 (bytes & (bytes - 1)))
                return err_msg(e, EINVAL, "--fault-around needs off or a power of two from 8K to "
                               "2M, not '%s'", value);
        o->around_bytes = bytes;
        return 0;
}

static int take_user(struct server_options *o, const char *value, struct err *e)
{
        int rc = account_parse(value, &o->account, e);

        return rc < 0 ? err_in(e, rc, "--user") : 0;
}

static int take_sandbox(struct server_options *o, const char *value, struct err *e)
{
        static const char *const names[] = {
                [SANDBOX_OFF] = "off", [SANDBOX_LOG] = "log", [SANDBOX_ON] = "on",
        };

        for (size_t i = SANDBOX_OFF; i < ARRAY_SIZE(names); i++) {
                if (!strcmp(value, names[i])) {
                        o->sandbox = (enum sandbox_mode)i;
                        return 0;
                }
        }
        return err_msg(e, EINVAL, "--sandbox needs on, off or log, not '%s'", value);
}

static int take_keep(struct server_options *o, const char *value, struct err *e)
{
        if (!strcmp(value, "0"))
                o->cache_keep = 0;
        else if (size_parse(value, &o->cache_keep) < 0)
                return err_msg(e, EINVAL, "--cache-keep needs a size, or 0, not '%s'", value);
        return 0;
}

static int take_supervise(struct server_options *o, const char *value, struct err *e)
{
        (void)value;
        (void)e;
        o->supervise = true;
        return 0;
}

static int take_firecracker(struct server_options *o, const char *value, struct err *e)
{
        const char *equals = strchr(value, '=');

        if (!equals || equals == value || !equals[1])
                return err_msg(e, EINVAL, "--firecracker needs SOCK=IMAGE, not '%s'", value);
        if (o->fcs == SERVER_FC_MAX)
                return err_msg(e, EINVAL, "--firecracker can be given %d times", SERVER_FC_MAX);

        struct server_fc *fc = &o->fc[o->fcs];
        size_t bytes = (size_t)(equals - value);

        if (bytes >= sizeof(fc->socket_path))
                return err_msg(e, EINVAL, "--firecracker: the path of the socket in '%s' has more "
                               "than %zu characters", value, sizeof(fc->socket_path) - 1);
        memcpy(fc->socket_path, value, bytes);  /* a NUL follows: all was zeros */
        fc->image_path = equals + 1;
        o->fcs++;
        return 0;
}

static int take_on_bad(struct server_options *o, const char *value, struct err *e)
{
        static const char *const names[] = {
                [FC_BAD_WAIT] = "wait", [FC_BAD_POISON] = "poison", [FC_BAD_KILL] = "kill",
        };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (strcmp(value, names[i]))
                        continue;
                o->fc_on_bad = (enum fc_on_bad)i;
                return 0;
        }
        return err_msg(e, EINVAL, "--on-bad needs wait, poison or kill, not '%s'", value);
}

static int take_kill_on_error(struct server_options *o, const char *value, struct err *e)
{
        (void)value;
        (void)e;
        o->fc_kill_on_error = true;
        return 0;
}

static const struct option_row rows[] = {
        { "socket", "PATH", "listen for clients at PATH", take_socket },
        { "private", NULL, "serve one client, on descriptor 3", take_private },
        { "http", "ADDR", "show clients, caches and metrics, and take orders, at ADDR: a path,\n"
          "127.0.0.1:PORT or [::1]:PORT", take_http },
        { "workers", "N", "threads that serve faults, and as many that work ahead of them\n"
          "(default: one per CPU, at least 2, at most 8)",
          take_workers },
        { "prefetch", "RATE", "the most that is read ahead for each client: on (default), off,\n"
          "or bytes per second with K, M, G", take_prefetch },
        { "placement", "HOW", "pinned: a worker on each CPU, all are woken for each fault;\n"
          "free: as the scheduler likes; auto (default): pinned on up to 4 CPUs",
          take_placement },
        { "fault-around", "SIZE", "an aligned block of this size around each fault comes right\n"
          "behind it, also with prefetch off (default: 64K); or off", take_around },
        { "user", "USER[:GROUP]", "become this user, for a server that root starts", take_user },
        { "sandbox", "HOW", "limit system calls and files: on (default), off, or log what on\n"
          "would refuse", take_sandbox },
        { "firecracker", "SOCK=IMAGE", "serve Firecracker's guests that are restored from IMAGE "
          "at\nSOCK, their UFFD backend; may be given several times", take_firecracker },
        { "on-bad", "ACTION", "what a Firecracker's page that cannot be read does to who needs\n"
          "it: wait (default), poison or kill", take_on_bad },
        { "kill-on-error", NULL, "kill a Firecracker that cannot be served", take_kill_on_error },
        { "cache-keep", "SIZE", "memory for image caches that no guest uses (default: a quarter\n"
          "of this machine's; 0 = none)", take_keep },
        { "supervise", NULL, "run the server as a child: start it anew whenever it dies, and\n"
          "upgrade it on SIGHUP", take_supervise },
};

static_assert(ARRAY_SIZE(rows) <= OPTIONS_MAX, "all rows fit what getopt is given");

/* ---- help ------------------------------------------------------------------------ */

static void print_row(const struct option_row *row)
{
        int used = printf("  --%s%s%s", row->name, row->arg ? " " : "", row->arg ? row->arg : "");
        const char *line = row->help;

        if (used > HELP_COLUMN - 2) {           /* two spaces part it from what follows */
                putchar('\n');
                used = 0;
        }
        for (;;) {
                int length = (int)strcspn(line, "\n");

                printf("%*s%.*s\n", HELP_COLUMN - used, "", length, line);
                if (!line[length])
                        return;
                line += length + 1;
                used = 0;
        }
}

static void print_help(void)
{
        puts("Usage: pageserver --socket PATH [OPTION]...\n"
             "       pageserver --firecracker SOCK=IMAGE... [OPTION]...\n"
             "       pageserver --private [OPTION]...\n"
             "Serves the memory faults of virtual machines from snapshot images.\n");
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                print_row(&rows[i]);
        puts("  --help, --version");
}

/* ---- parsing --------------------------------------------------------------------- */

/* behind the rows in what getopt is given */
enum { ROW_HELP = OPTIONS_MAX, ROW_VERSION };

static void tell_getopt(struct option *ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                *ret++ = (struct option){
                        rows[i].name, rows[i].arg ? required_argument : no_argument, NULL, (int)i,
                };
        *ret++ = (struct option){ "help", no_argument, NULL, ROW_HELP };
        *ret++ = (struct option){ "version", no_argument, NULL, ROW_VERSION };
        *ret = (struct option){ 0 };
}

/* of options among each other */
static int check(const struct server_options *o, struct err *e)
{
        if (o->is_private == (o->socket_path || o->fcs > 0))
                return err_msg(e, EINVAL, "either --socket PATH or --firecracker SOCK=IMAGE (or "
                               "both) or --private is needed; try --help");
        if (o->is_private && o->supervise)
                return err_msg(e, EINVAL, "--supervise is for daemons: a private server is "
                               "started anew by its guest");
        return 0;
}

static enum options take_one(int row, char **argv, struct server_options *o, struct err *e)
{
        switch (row) {
        case ROW_HELP:
                print_help();
                return OPTIONS_ANSWERED;
        case ROW_VERSION:
                printf("pageserver (snapback) %s\n", PACKAGE_VERSION);
                return OPTIONS_ANSWERED;
        case '?':
                err_msg(e, EINVAL, "'%s' is unknown or lacks its value; try --help",
                        argv[optind - 1]);
                return OPTIONS_WRONG;
        default:
                return rows[row].take(o, optarg, e) < 0 ? OPTIONS_WRONG : OPTIONS_SERVE;
        }
}

static_assert('?' > ROW_VERSION, "getopt's complaint is no row");

enum options options_take(int argc, char **argv, struct server_options *ret, struct err *e)
{
        struct option longopts[OPTIONS_MAX + 3];
        int row;

        *ret = (struct server_options){
                .private_sock = PRIVATE_SOCK,
                .workers = server_default_workers(),
                .prefetch_limit = UINT64_MAX,
                .around_bytes = PREFETCH_AROUND_BYTES,
                .sandbox = SANDBOX_ON,
                .account = ACCOUNT_OWN,
                .cache_keep = server_default_keep(),
        };
        tell_getopt(longopts);
        opterr = 0;
        while ((row = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                enum options o = take_one(row, argv, ret, e);

                if (o != OPTIONS_SERVE)
                        return o;
        }
        if (optind < argc) {
                err_msg(e, EINVAL, "unexpected argument '%s'; try --help", argv[optind]);
                return OPTIONS_WRONG;
        }
        return check(ret, e) < 0 ? OPTIONS_WRONG : OPTIONS_SERVE;
}
