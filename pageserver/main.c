/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/check.h"
#include "common/size.h"
#include "pageserver/prefetch.h"
#include "pageserver/server.h"

#define PRIVATE_SOCK 3

#define EXIT_USAGE 2

static const char usage[] =
        "Usage: pageserver --socket PATH [--workers N] [--prefetch on|off|RATE]\n"
        "       pageserver --private [--workers N] [--prefetch on|off|RATE]\n"
        "Serves the memory faults of virtual machines from snapshot images.\n"
        "\n"
        "  --socket PATH     listen for clients at PATH\n"
        "  --private         serve one client, on descriptor 3\n"
        "  --workers N       threads that serve faults (default: one per CPU, at least 2)\n"
        "  --prefetch RATE   the most that is read ahead for each client: on (default), off,\n"
        "                    or bytes per second with K, M, G\n"
        "  --help, --version\n";

static int bad_usage(const char *what, const char *value)
{
        fprintf(stderr, "pageserver: %s '%s'; try --help\n", what, value);
        return EXIT_USAGE;
}

static bool parse_workers(const char *text, unsigned *ret)
{
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        if (*end || n < 1 || n > WORKERS_MAX)
                return false;
        *ret = (unsigned)n;
        return true;
}

static bool parse_prefetch(const char *text, uint64_t *ret)
{
        if (!strcmp(text, "on"))
                *ret = UINT64_MAX;
        else if (!strcmp(text, "off"))
                *ret = 0;
        else
                return size_parse(text, ret) == 0;
        return true;
}

enum { OPT_SOCKET = 1, OPT_PRIVATE, OPT_WORKERS, OPT_PREFETCH, OPT_HELP, OPT_VERSION };

static const struct option options[] = {
        { "socket", required_argument, NULL, OPT_SOCKET },
        { "private", no_argument, NULL, OPT_PRIVATE },
        { "workers", required_argument, NULL, OPT_WORKERS },
        { "prefetch", required_argument, NULL, OPT_PREFETCH },
        { "help", no_argument, NULL, OPT_HELP },
        { "version", no_argument, NULL, OPT_VERSION },
        { NULL, 0, NULL, 0 },
};

/* -1 = go on, else the exit status */
static int take_option(int opt, struct server_options *o, bool *is_private)
{
        switch (opt) {
        case OPT_SOCKET:
                o->socket_path = optarg;
                return -1;
        case OPT_PRIVATE:
                *is_private = true;
                return -1;
        case OPT_WORKERS:
                return parse_workers(optarg, &o->workers) ? -1 :
                       bad_usage("--workers needs a number from 1 to 64, not", optarg);
        case OPT_PREFETCH:
                return parse_prefetch(optarg, &o->prefetch_limit) ? -1 :
                       bad_usage("--prefetch needs on, off or a rate, not", optarg);
        case OPT_HELP:
                fputs(usage, stdout);
                return 0;
        case OPT_VERSION:
                printf("pageserver (snapback) %s\n", PACKAGE_VERSION);
                return 0;
        default:
                return EXIT_USAGE;              /* getopt has said what */
        }
}

static int take_options(int argc, char **argv, struct server_options *o)
{
        bool is_private = false;
        int opt;

        while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
                int rc = take_option(opt, o, &is_private);

                if (rc >= 0)
                        return rc;
        }
        if (optind < argc)
                return bad_usage("unexpected argument", argv[optind]);
        if (is_private == (o->socket_path != NULL)) {
                fputs("pageserver: either --socket PATH or --private is needed; try --help\n",
                      stderr);
                return EXIT_USAGE;
        }
        return -1;
}

/* each client brings many descriptors */
static void raise_file_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
}

static_assert(WORKERS_MAX == 64, "as the message of --workers says");

int main(int argc, char **argv)
{
        struct server_options o = {
                .private_sock = PRIVATE_SOCK,
                .workers = server_default_workers(),
                .prefetch_limit = UINT64_MAX,
                .around_bytes = PREFETCH_AROUND_BYTES,
        };
        struct err e;
        int status = take_options(argc, argv, &o);

        if (status >= 0)
                return status;
        raise_file_limit();
        signal(SIGPIPE, SIG_IGN);               /* of stderr; sockets do without */
        if (server_run(&o, &e) < 0) {
                err_print("pageserver", &e);
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
