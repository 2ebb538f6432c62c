/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/options.h"
#include "common/rate.h"
#include "common/size.h"

#define PROGRAM "qemu-snapshot"

#define SAVE_MEMORY_MIN (16ull << 20)
/* a day; whoever waits longer asks */
#define SECONDS_MAX 86400

static const char help[] =
        "usage: qemu-snapshot [save options] [transport] IMAGE\n"
        "                                  a migration stream of QEMU's becomes IMAGE\n"
        "       qemu-snapshot --revert [revert options] [transport] IMAGE\n"
        "                                  IMAGE becomes a migration stream for QEMU\n"
        "       qemu-snapshot --import STREAM [save options] IMAGE\n"
        "       qemu-snapshot --export STREAM [--tag TAG] [--allow-parent DIR] [--force] IMAGE\n"
        "                                  the same with a file: a stream, or what 'virsh\n"
        "                                  save' wrote\n"
        "       qemu-snapshot --status IMAGE [--tag TAG] [--json]\n"
        "       qemu-snapshot --wait IMAGE [--tag TAG] [--timeout SECONDS] [--json]\n"
        "                                  what became of a save, now or when it ends\n\n"
        "QEMU starts it: migrate \"exec:exec qemu-snapshot IMAGE\" saves,\n"
        "migrate-incoming \"exec:exec qemu-snapshot --revert --postcopy IMAGE\" reverts.\n\n"
        "Save options:\n"
        "  --tag TAG           name of the snapshot; an IMAGE that exists gets it in addition\n"
        "  --force             replace IMAGE if it exists; with --tag, only its snapshot of\n"
        "                      that name\n"
        "  --compress none|zstd[:LEVEL]\n"
        "                      how clusters are stored (default: none, or as they are in an\n"
        "                      IMAGE that exists)\n"
        "  --cluster-size N    4K to 2M, a power of two (default: 16K, or as it is)\n"
        "  --backing PARENT    store only what differs from PARENT, an image in the same folder\n"
        "  --ram-split BYTES   RAM below 4 GiB, where max-ram-below-4g was given to QEMU\n"
        "  --map NAME=GPA      the RAM block NAME lies at that guest-physical address\n"
        "  --page-size NAME=SIZE\n"
        "                      the RAM block NAME has pages of this size, like pc.ram=2M: those\n"
        "                      of the backend of the QEMU that reverts\n"
        "  --memory SIZE       for pages that are sent again while they wait (default: 1G)\n"
        "  --sync              do not end, and let QEMU wait, before IMAGE is complete\n"
        "Revert options:\n"
        "  --revert            revert\n"
        "  --postcopy[=PCT]    start the guest at once, after PCT % of its RAM (default: 0),\n"
        "                      and send pages as it touches them\n"
        "  --recover           go on with a postcopy that was interrupted\n"
        "  --prefetch on|off|RATE\n"
        "                      what is sent besides pages that are asked for: all (default),\n"
        "                      nothing, or bytes per second with K, M, G\n"
        "  --record[=SECONDS]  what the guest asks for, at first or in all, is stored in IMAGE\n"
        "                      and sent first the next time\n"
        "  --allow-parent DIR  parents of IMAGE may lie in DIR too\n"
        "Transport (default: standard input and output):\n"
        "  --uri fd:N          an inherited socket, or two descriptors fd:IN,OUT\n"
        "  --listen ADDRESS    accept one connection at unix:PATH or tcp:HOST:PORT\n"
        "  --connect ADDRESS   connect to it\n"
        "Files and states:\n"
        "  --import STREAM     make IMAGE of a file\n"
        "  --export STREAM     make a file of IMAGE\n"
        "  --status            say whether a save of IMAGE is done (exit status 0), failed (1)\n"
        "                      or at work (3)\n"
        "  --wait              wait for its end, then say it\n"
        "  --timeout SECONDS   wait no longer; also for a connection (default: no end)\n"
        "  --json              print the state as JSON\n"
        "  --help              show this\n"
        "  --version           show the version\n";

/* what options_parse() fills; help and version are no part of a command */
struct words {
        struct command c;
        bool revert, status, wait;
        bool help, version;
};

/* ---- one function for each value that is no text ------------------------------- */

static int read_compress(void *words, const char *value, struct err *e)
{
        return qs_compress_parse(value, &((struct words *)words)->c.save.writer, e);
}

static int read_cluster_size(void *words, const char *value, struct err *e)
{
        return qs_cluster_size_parse(value, &((struct words *)words)->c.save.writer, e);
}

static int read_tag(void *words, const char *value, struct err *e)
{
        struct command *c = &((struct words *)words)->c;

        c->tag = c->revert.open.tag = value;
        c->save.writer.append = true;
        return qs_tag_parse(value, c->save.writer.tag, e);
}

static int read_ram_split(void *words, const char *value, struct err *e)
{
        uint64_t *split = &((struct words *)words)->c.save.ram_split;

        if (size_parse(value, split) < 0 || *split == 0 || !IS_ALIGNED(*split, 4096) ||
            *split > 4ull << 30)
                return err_msg(e, EINVAL, "--ram-split needs a multiple of 4K up to 4G, not '%s'",
                               value);
        return 0;
}

static int read_map(void *words, const char *value, struct err *e)
{
        return named_add(&((struct words *)words)->c.save.map, value, "--map", e);
}

/* of both directions, of which only one is used */
static int read_page_size(void *words, const char *value, struct err *e)
{
        struct command *c = &((struct words *)words)->c;
        int rc = named_add(&c->save.page_size, value, "--page-size", e);
        uint64_t bytes;

        if (rc < 0)
                return rc;
        bytes = c->save.page_size.at[c->save.page_size.n - 1].value;
        if (bytes < 4096 || bytes > 16ull << 30 || (bytes & (bytes - 1)))
                return err_msg(e, EINVAL, "--page-size needs a power of two from 4K to 16G, not "
                               "'%s'", value);
        c->revert.page_size = c->save.page_size;
        return 0;
}

static int read_memory(void *words, const char *value, struct err *e)
{
        uint64_t *bytes = &((struct words *)words)->c.save.memory_bytes;

        if (size_parse(value, bytes) < 0 || *bytes < SAVE_MEMORY_MIN)
                return err_msg(e, EINVAL, "--memory needs a size of at least 16M, not '%s'",
                               value);
        return 0;
}

static int read_postcopy(void *words, const char *value, struct err *e)
{
        struct revert_options *r = &((struct words *)words)->c.revert;
        uint64_t percent = 0;
        int rc = value ? option_number(value, 0, 100, "percentage", &percent, e) : 0;

        r->postcopy = true;
        r->percent = (unsigned)percent;
        return rc;
}

static int read_prefetch(void *words, const char *value, struct err *e)
{
        return rate_parse(value, &((struct words *)words)->c.revert.prefetch_rate, e);
}

static int read_record(void *words, const char *value, struct err *e)
{
        struct revert_options *r = &((struct words *)words)->c.revert;
        uint64_t seconds = 0;
        int rc = value ? option_number(value, 1, SECONDS_MAX, "number of seconds", &seconds, e) :
                         0;

        r->record = true;
        r->record_seconds = (unsigned)seconds;
        return rc;
}

static int read_uri(void *words, const char *value, struct err *e)
{
        return transport_parse_uri(value, &((struct words *)words)->c.transport, e);
}

static int read_listen(void *words, const char *value, struct err *e)
{
        return transport_parse_address(value, TRANSPORT_LISTEN,
                                       &((struct words *)words)->c.transport, e);
}

static int read_connect(void *words, const char *value, struct err *e)
{
        return transport_parse_address(value, TRANSPORT_CONNECT,
                                       &((struct words *)words)->c.transport, e);
}

static int read_timeout(void *words, const char *value, struct err *e)
{
        uint64_t seconds;
        int rc = option_number(value, 1, SECONDS_MAX, "number of seconds", &seconds, e);

        if (rc == 0)
                ((struct words *)words)->c.transport.timeout_s = (unsigned)seconds;
        return rc;
}

/* ---- the tables ---------------------------------------------------------------- */

enum row {
        ROW_TAG, ROW_FORCE, ROW_COMPRESS, ROW_CLUSTER_SIZE, ROW_BACKING, ROW_RAM_SPLIT, ROW_MAP,
        ROW_PAGE_SIZE, ROW_MEMORY, ROW_SYNC,
        ROW_REVERT, ROW_POSTCOPY, ROW_RECOVER, ROW_PREFETCH, ROW_RECORD, ROW_ALLOW_PARENT,
        ROW_URI, ROW_LISTEN, ROW_CONNECT, ROW_TIMEOUT,
        ROW_IMPORT, ROW_EXPORT, ROW_STATUS, ROW_WAIT, ROW_JSON, ROW_HELP, ROW_VERSION, ROW_END
};

static const struct option_row rows[] = {
        [ROW_TAG] = OPTION_READ("tag", read_tag),
        [ROW_FORCE] = OPTION_FLAG("force", struct words, c.save.writer.force),
        [ROW_COMPRESS] = OPTION_READ("compress", read_compress),
        [ROW_CLUSTER_SIZE] = OPTION_READ("cluster-size", read_cluster_size),
        [ROW_BACKING] = OPTION_TEXT("backing", struct words, c.save.writer.backing),
        [ROW_RAM_SPLIT] = OPTION_READ("ram-split", read_ram_split),
        [ROW_MAP] = OPTION_READ("map", read_map),
        [ROW_PAGE_SIZE] = OPTION_READ("page-size", read_page_size),
        [ROW_MEMORY] = OPTION_READ("memory", read_memory),
        [ROW_SYNC] = OPTION_FLAG("sync", struct words, c.save.sync),
        [ROW_REVERT] = OPTION_FLAG("revert", struct words, revert),
        [ROW_POSTCOPY] = OPTION_MAY_READ("postcopy", read_postcopy),
        [ROW_RECOVER] = OPTION_FLAG("recover", struct words, c.revert.recover),
        [ROW_PREFETCH] = OPTION_READ("prefetch", read_prefetch),
        [ROW_RECORD] = OPTION_MAY_READ("record", read_record),
        [ROW_ALLOW_PARENT] = OPTION_TEXT("allow-parent", struct words, c.revert.open.allow_parent),
        [ROW_URI] = OPTION_READ("uri", read_uri),
        [ROW_LISTEN] = OPTION_READ("listen", read_listen),
        [ROW_CONNECT] = OPTION_READ("connect", read_connect),
        [ROW_TIMEOUT] = OPTION_READ("timeout", read_timeout),
        [ROW_IMPORT] = OPTION_TEXT("import", struct words, c.stream),
        [ROW_EXPORT] = OPTION_TEXT("export", struct words, c.stream),
        [ROW_STATUS] = OPTION_FLAG("status", struct words, status),
        [ROW_WAIT] = OPTION_FLAG("wait", struct words, wait),
        [ROW_JSON] = OPTION_FLAG("json", struct words, c.json),
        [ROW_HELP] = OPTION_FLAG("help", struct words, help),
        [ROW_VERSION] = OPTION_FLAG("version", struct words, version),
        [ROW_END] = OPTION_END,
};

static_assert(ARRAY_SIZE(rows) - 1 <= OPTIONS_MAX, "a bit of what was given for each row");

#define IN(mode) (1u << MODE_##mode)
#define ANYWHERE (~0u)
#define WRITES (IN(SAVE) | IN(IMPORT))
#define STREAMS (IN(SAVE) | IN(REVERT))
#define ASKS (IN(STATUS) | IN(WAIT))

/* what each option goes with; who chooses the mode goes with itself */
static const unsigned modes[] = {
        [ROW_TAG] = ANYWHERE,
        [ROW_FORCE] = WRITES | IN(EXPORT),
        [ROW_COMPRESS] = WRITES,
        [ROW_CLUSTER_SIZE] = WRITES,
        [ROW_BACKING] = WRITES,
        [ROW_RAM_SPLIT] = WRITES,
        [ROW_MAP] = WRITES,
        [ROW_PAGE_SIZE] = WRITES | IN(REVERT),
        [ROW_MEMORY] = WRITES,
        [ROW_SYNC] = IN(SAVE),
        [ROW_REVERT] = IN(REVERT),
        [ROW_POSTCOPY] = IN(REVERT),
        [ROW_RECOVER] = IN(REVERT),
        [ROW_PREFETCH] = IN(REVERT),
        [ROW_RECORD] = IN(REVERT),
        [ROW_ALLOW_PARENT] = IN(REVERT) | IN(EXPORT),
        [ROW_URI] = STREAMS,
        [ROW_LISTEN] = STREAMS,
        [ROW_CONNECT] = STREAMS,
        [ROW_TIMEOUT] = STREAMS | IN(WAIT),
        [ROW_IMPORT] = IN(IMPORT),
        [ROW_EXPORT] = IN(EXPORT),
        [ROW_STATUS] = IN(STATUS),
        [ROW_WAIT] = IN(WAIT),
        [ROW_JSON] = ASKS,
        [ROW_HELP] = ANYWHERE,
        [ROW_VERSION] = ANYWHERE,
};

static_assert(ARRAY_SIZE(modes) == ROW_END, "a set of modes for each row");

/* the option that chooses a mode; without any it is a save */
static const struct {
        enum row row;
        enum mode mode;
} choices[] = {
        { ROW_REVERT, MODE_REVERT }, { ROW_IMPORT, MODE_IMPORT }, { ROW_EXPORT, MODE_EXPORT },
        { ROW_STATUS, MODE_STATUS }, { ROW_WAIT, MODE_WAIT },
};

/* ---- what goes together -------------------------------------------------------- */

static bool has(uint32_t given, enum row row)
{
        return given >> row & 1;
}

static int choose_mode(uint32_t given, enum mode *ret, struct err *e)
{
        const char *first = NULL;

        *ret = MODE_SAVE;
        for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
                if (!has(given, choices[i].row))
                        continue;
                if (first)
                        return err_msg(e, EINVAL, "--%s and --%s exclude each other", first,
                                       rows[choices[i].row].name);
                first = rows[choices[i].row].name;
                *ret = choices[i].mode;
        }
        for (int row = 0; row < ROW_END; row++) {
                if (!has(given, row) || modes[row] & 1u << *ret)
                        continue;
                if (first)
                        return err_msg(e, EINVAL, "--%s does not go with --%s", rows[row].name,
                                       first);
                return err_msg(e, EINVAL, "--%s does not go with a save: see '" PROGRAM
                               " --help'", rows[row].name);
        }
        return 0;
}

static int check_revert(const struct command *c, uint32_t given, struct err *e)
{
        static const enum row only[] = { ROW_RECOVER, ROW_PREFETCH, ROW_RECORD };

        for (size_t i = 0; i < ARRAY_SIZE(only); i++) {
                if (has(given, only[i]) && !c->revert.postcopy)
                        return err_msg(e, EINVAL, "--%s goes with --postcopy", rows[only[i]].name);
        }
        if (c->revert.recover && c->revert.percent)
                return err_msg(e, EINVAL, "--recover goes on with what was begun: --postcopy takes "
                               "no percentage then");
        return 0;
}

static int check_transport(const struct command *c, uint32_t given, struct err *e)
{
        int n = has(given, ROW_URI) + has(given, ROW_LISTEN) + has(given, ROW_CONNECT);

        if (n > 1)
                return err_msg(e, EINVAL, "--uri, --listen and --connect exclude each other");
        if (c->mode != MODE_WAIT && c->transport.timeout_s &&
            !has(given, ROW_LISTEN) && !has(given, ROW_CONNECT))
                return err_msg(e, EINVAL, "--timeout goes with --listen, --connect and --wait");
        return 0;
}

/* ---- parsing ------------------------------------------------------------------- */

static void set_defaults(struct command *c, uint32_t given)
{
        struct qs_writer_options *w = &c->save.writer;

        if (!has(given, ROW_CLUSTER_SIZE))
                w->cluster_bits = QS_CLUSTER_BITS_DEFAULT;
        if (!has(given, ROW_COMPRESS)) {
                w->compress_alike = true;
                w->zstd_level = QS_ZSTD_LEVEL_DEFAULT;
        }
        if (!has(given, ROW_MEMORY))
                c->save.memory_bytes = SAVE_MEMORY_DEFAULT;
        if (!has(given, ROW_PREFETCH))
                c->revert.prefetch_rate = RATE_UNLIMITED;
}

static int take(int argc, char **argv, struct words *w, struct err *e)
{
        uint32_t given;
        int rc = options_parse(PROGRAM, rows, argc, argv, w, &given, e);

        if (rc < 0 || w->help || w->version)
                return rc;
        rc = choose_mode(given, &w->c.mode, e);
        if (rc == 0)
                rc = check_revert(&w->c, given, e);
        if (rc == 0)
                rc = check_transport(&w->c, given, e);
        if (rc == 0 && argc - optind != 1)
                rc = err_msg(e, EINVAL, "%s: see '" PROGRAM " --help'",
                             argc == optind ? "IMAGE is missing" : "one IMAGE is expected");
        if (rc == 0 && !argv[optind][0])
                rc = err_msg(e, EINVAL, "the name of IMAGE is empty");
        if (rc < 0)
                return rc;
        w->c.image = w->c.save.image = w->c.revert.image = argv[optind];
        set_defaults(&w->c, given);
        return 0;
}

enum options options_take(int argc, char **argv, struct command *ret, struct err *e)
{
        struct words w = { .help = false };

        if (take(argc, argv, &w, e) < 0)
                return OPTIONS_WRONG;
        if (w.help)
                fputs(help, stdout);
        else if (w.version)
                printf(PROGRAM " (snapback) %s\n", PACKAGE_VERSION);
        if (w.help || w.version)
                return OPTIONS_ANSWERED;
        *ret = w.c;
        return OPTIONS_RUN;
}

/* ---- wrong ones ---------------------------------------------------------------- */

/* is arg the option, in full or as much of it as getopt wants? */
static bool is_option(const char *arg, const char *option, size_t least)
{
        size_t bytes = strcspn(arg, "=");

        return bytes >= least && !strncmp(option, arg, bytes);
}

bool options_revert_of(int argc, char **argv, struct transport_options *ret)
{
        bool revert = false;

        *ret = (struct transport_options){ .kind = TRANSPORT_STDIO };
        for (int i = 1; i < argc; i++) {
                const char *equals = strchr(argv[i], '=');

                if (is_option(argv[i], "--revert", 5))
                        revert = true;
                else if (is_option(argv[i], "--uri", 3) && (equals || i + 1 < argc))
                        transport_parse_uri(equals ? equals + 1 : argv[++i], ret, NULL);
                else if (is_option(argv[i], "--listen", 3) || is_option(argv[i], "--connect", 5) ||
                         is_option(argv[i], "--recover", 7))
                        return false;
        }
        return revert;
}

bool options_save_of(int argc, char **argv, struct transport_options *ret)
{
        static const char *const others[] = { "--import", "--export", "--status", "--wait",
                                              "--listen", "--connect", "--help", "--version",
                                              "--recover" };

        for (int i = 1; i < argc; i++) {
                for (size_t k = 0; k < ARRAY_SIZE(others); k++) {
                        if (is_option(argv[i], others[k], 5))
                                return false;
                }
        }
        return !options_revert_of(argc, argv, ret);
}
