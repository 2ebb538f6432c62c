/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-control.c - list, info, pause, resume, prefetch, balloon, cancel, stop: one request each. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/rate.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/httpc.h"
#include "vmm/image-info.h"
#include "vmm/rundir.h"

struct simple {
        const char *allow_parent;
        bool json;
        bool help;
};

/* which of the options besides --help a command has */
enum takes { TAKES_NONE, TAKES_JSON, TAKES_PARENT_JSON };

/* options, then n operands */
static int parse(int argc, char **argv, const char *command, int operands, const char *usage,
                 enum takes takes, struct simple *ret, struct err *e)
{
        static const struct option longopts[] = {
                { "help", no_argument, NULL, 'h' }, { "json", no_argument, NULL, 'j' },
                { "allow-parent", required_argument, NULL, 'a' }, { 0 },
        };
        int c;

        opterr = 0;
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                if (c == 'h')
                        ret->help = true;
                else if (c == 'j' && takes >= TAKES_JSON)
                        ret->json = true;
                else if (c == 'a' && takes == TAKES_PARENT_JSON)
                        ret->allow_parent = optarg;
                else
                        return cli_bad_option(command, argv, e);
        }
        return ret->help ? 0 : cli_operands(argc, argv, operands, usage, e);
}

static const char *text_of(struct json_object *o, const char *key)
{
        struct json_object *v;

        return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "-";
}

static uint64_t number_of(struct json_object *o, const char *key)
{
        struct json_object *v;

        return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static int add_to_list(void *ctx, const char *name)
{
        struct json_object *vm = NULL;

        /* one that is just starting or ending does not answer: leave it out */
        if (httpc_request(name, "GET", "/vm", NULL, &vm, NULL) == 0 && vm)
                json_object_array_add(ctx, vm);
        return 0;
}

static void print_list(struct json_object *list)
{
        printf("%-20s %-9s %10s %5s %-7s %8s\n", "NAME", "STATE", "MEMORY", "CPUS", "LANE", "PID");
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *vm = json_object_array_get_idx(list, i);
                char size[SIZE_TEXT_MAX];

                printf("%-20s %-9s %10s %5llu %-7s %8llu\n", text_of(vm, "name"),
                       text_of(vm, "state"), size_text(number_of(vm, "memory"), size),
                       (unsigned long long)number_of(vm, "cpus"), text_of(vm, "lane"),
                       (unsigned long long)number_of(vm, "pid"));
        }
}

int cmd_list(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *list = json_object_new_array();
        struct simple o = { 0 };

        (void)cli;
        if (parse(argc, argv, "list", 0, "list [--json]", TAKES_JSON, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help("usage: vmm list [--json]\n\n"
                         "  --json    as a JSON array\n"
                         "  --help    show this\n");
                return 0;
        }
        if (rundir_each(add_to_list, list, e) < 0)
                return CLI_FAILED;
        if (o.json)
                cli_print_json(list);
        else
                print_list(list);
        return 0;
}

static void print_pageserver(struct json_object *p)
{
        char size[SIZE_TEXT_MAX];
        char all[SIZE_TEXT_MAX];
        struct json_object *l;

        printf("loaded:  %s of %s, %llu faults served\n",
               size_text(number_of(p, "present_bytes"), size),
               size_text(number_of(p, "total_bytes"), all),
               (unsigned long long)number_of(p, "demand_faults"));
        if (json_object_object_get_ex(p, "demand_us", &l) && number_of(p, "demand_faults"))
                printf("faults:  p50 %s us, p99 %s us, max %s us\n", text_of(l, "p50"),
                       text_of(l, "p99"), text_of(l, "max"));
        if (!strcmp(text_of(p, "prefetch"), "limited"))
                printf("ahead:   %s a second\n", size_text(number_of(p, "prefetch_rate"), size));
        else
                printf("ahead:   %s\n", text_of(p, "prefetch"));
}

static void print_save(struct json_object *save)
{
        char done[SIZE_TEXT_MAX];
        char all[SIZE_TEXT_MAX];

        printf("saving:  %s of %s to '%s' (%s)\n", size_text(number_of(save, "done"), done),
               size_text(number_of(save, "total"), all), text_of(save, "image"),
               text_of(save, "phase"));
}

static void print_balloon(struct json_object *b)
{
        char given[SIZE_TEXT_MAX];

        printf("balloon: %llu of %llu MiB, %s given back in all\n",
               (unsigned long long)number_of(b, "actual_mib"),
               (unsigned long long)number_of(b, "target_mib"),
               size_text(number_of(b, "given_back_bytes"), given));
}

static unsigned long long counted(struct json_object *counters, const char *key)
{
        return (unsigned long long)number_of(counters, key);
}

static void print_disk(struct json_object *c)
{
        char read[SIZE_TEXT_MAX], written[SIZE_TEXT_MAX];

        printf("%llu reads (%s), %llu writes (%s), %llu flushes, %llu errors\n",
               counted(c, "reads"), size_text(number_of(c, "read_bytes"), read),
               counted(c, "writes"), size_text(number_of(c, "written_bytes"), written),
               counted(c, "flushes"), counted(c, "errors"));
}

static void print_net(struct json_object *c)
{
        char in[SIZE_TEXT_MAX], out[SIZE_TEXT_MAX];

        printf("%llu packets in (%s), %llu out (%s), %llu dropped\n", counted(c, "rx_packets"),
               size_text(number_of(c, "rx_bytes"), in), counted(c, "tx_packets"),
               size_text(number_of(c, "tx_bytes"), out),
               counted(c, "rx_dropped") + counted(c, "tx_dropped"));
}

static void print_vsock(struct json_object *c)
{
        char in[SIZE_TEXT_MAX], out[SIZE_TEXT_MAX];

        printf("%llu connections, %s in, %s out\n", counted(c, "connections"),
               size_text(number_of(c, "to_guest_bytes"), in),
               size_text(number_of(c, "to_host_bytes"), out));
}

static void print_device(struct json_object *d)
{
        static const struct {
                const char *kind;
                void (*print)(struct json_object *counters);
        } kinds[] = { { "blk", print_disk }, { "net", print_net }, { "vsock", print_vsock } };
        struct json_object *counters;

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                if (strcmp(text_of(d, "kind"), kinds[i].kind) ||
                    !json_object_object_get_ex(d, "counters", &counters))
                        continue;
                printf("%s: %*s", text_of(d, "name"),
                       (int)(8 - MIN(strlen(text_of(d, "name")) + 1, 8)), "");
                kinds[i].print(counters);
        }
}

static void print_vm(struct json_object *vm)
{
        char size[SIZE_TEXT_MAX];
        struct json_object *p, *save;

        printf("name:    %s\nstate:   %s\nmemory:  %s\ncpus:    %llu\nlane:    %s\npid:     %llu\n",
               text_of(vm, "name"), text_of(vm, "state"), size_text(number_of(vm, "memory"), size),
               (unsigned long long)number_of(vm, "cpus"), text_of(vm, "lane"),
               (unsigned long long)number_of(vm, "pid"));
        if (json_object_object_get_ex(vm, "clone_of", NULL))
                printf("clone:   of '%s'\n", text_of(vm, "clone_of"));
        if (json_object_object_get_ex(vm, "problem", NULL))
                printf("problem: %s\n", text_of(vm, "problem"));
        if (json_object_object_get_ex(vm, "snapshot", &p))
                printf("image:   %s, snapshot '%s'\n", text_of(p, "image"), text_of(p, "tag"));
        if (json_object_object_get_ex(vm, "save", &save))
                print_save(save);
        if (json_object_object_get_ex(vm, "pageserver", &p))
                print_pageserver(p);
        if (json_object_object_get_ex(vm, "balloon", &p))
                print_balloon(p);
        for (size_t i = 0; json_object_object_get_ex(vm, "devices", &p) &&
                           i < json_object_array_length(p); i++)
                print_device(json_object_array_get_idx(p, i));
}

int cmd_info(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *vm = NULL;
        struct simple o = { 0 };

        (void)cli;
        if (parse(argc, argv, "info", 1, "info NAME|IMAGE [OPTIONS]", TAKES_PARENT_JSON, &o,
                  e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help("usage: vmm info NAME|IMAGE [OPTIONS]\n\n"
                         "  --allow-parent DIR  backing files of IMAGE may lie in DIR too\n"
                         "  --json              as a JSON object\n"
                         "  --help              show this\n");
                return 0;
        }

        const struct qs_open_options image = { .allow_parent = o.allow_parent };

        /* what runs under that name goes before a file of that name */
        if (rundir_find(argv[optind], NULL) < 0 && access(argv[optind], F_OK) == 0)
                return image_info(argv[optind], &image, o.json, e) < 0 ? CLI_FAILED : 0;
        if (httpc_request(argv[optind], "GET", "/vm", NULL, &vm, e) < 0)
                return CLI_FAILED;
        if (o.json)
                cli_print_json(vm);
        else
                print_vm(vm);
        return 0;
}

static int set_state(int argc, char **argv, const char *command, const char *state, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        struct simple o = { 0 };
        char usage[64];

        snprintf(usage, sizeof(usage), "%s NAME", command);
        if (parse(argc, argv, command, 1, usage, TAKES_NONE, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                printf("usage: vmm %s\n\n  --help    show this\n", usage);
                return 0;
        }
        json_put_str(body, "state", state);
        return httpc_request(argv[optind], "PATCH", "/vm", body, NULL, e) < 0 ? CLI_FAILED : 0;
}

int cmd_pause(const struct cli *cli, int argc, char **argv, struct err *e)
{
        (void)cli;
        return set_state(argc, argv, "pause", "Paused", e);
}

int cmd_resume(const struct cli *cli, int argc, char **argv, struct err *e)
{
        (void)cli;
        return set_state(argc, argv, "resume", "Resumed", e);
}

int cmd_prefetch(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        struct rate_order order;
        struct simple o = { 0 };

        (void)cli;
        if (parse(argc, argv, "prefetch", 2, "prefetch NAME on|off|RATE|pause|resume", TAKES_NONE,
                  &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help("usage: vmm prefetch NAME on|off|RATE|pause|resume\n\n"
                         "RATE is in bytes a second, such as 100M.\n\n"
                         "  --help    show this\n");
                return 0;
        }
        if (rate_order_parse(argv[optind + 1], &order, e) < 0)
                return CLI_FAILED;
        json_put_str(body, "rate", argv[optind + 1]);
        return httpc_request(argv[optind], "PUT", "/prefetch", body, NULL, e) < 0 ? CLI_FAILED : 0;
}

int cmd_balloon(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        struct simple o = { 0 };
        uint64_t bytes;

        (void)cli;
        if (parse(argc, argv, "balloon", 2, "balloon NAME SIZE", TAKES_NONE, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help("usage: vmm balloon NAME SIZE\n\n"
                         "SIZE is what the guest is to do without, such as 512M; 0 gives it\n"
                         "all of its memory.\n\n"
                         "  --help    show this\n");
                return 0;
        }
        if (size_parse(argv[optind + 1], &bytes) < 0 || bytes % (1 << 20)) {
                err_msg(e, EINVAL, "'%s' is no size in MiB, such as 512M", argv[optind + 1]);
                return CLI_FAILED;
        }
        json_put_u64(body, "amount_mib", bytes >> 20);
        return httpc_request(argv[optind], "PATCH", "/balloon", body, NULL, e) < 0 ? CLI_FAILED
                                                                                   : 0;
}

int cmd_cancel(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        struct simple o = { 0 };

        (void)cli;
        if (parse(argc, argv, "cancel", 1, "cancel NAME", TAKES_NONE, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help("usage: vmm cancel NAME\n\n  --help    show this\n");
                return 0;
        }
        json_put_str(body, "action_type", "CancelSave");
        return httpc_request(argv[optind], "PUT", "/actions", body, NULL, e) < 0 ? CLI_FAILED : 0;
}

int cmd_stop(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        struct simple o = { 0 };
        AUTO_FD gone = -1;

        (void)cli;
        if (parse(argc, argv, "stop", 1, "stop NAME", TAKES_NONE, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help("usage: vmm stop NAME\n\n  --help    show this\n");
                return 0;
        }
        json_put_str(body, "action_type", "Stop");
        if (rundir_watch(argv[optind], &gone, e) < 0 ||
            httpc_request(argv[optind], "PUT", "/actions", body, NULL, e) < 0)
                return CLI_FAILED;
        rundir_wait_free(gone);
        return 0;
}
