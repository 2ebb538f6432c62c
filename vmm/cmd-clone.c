/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/options.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/clone-build.h"
#include "vmm/clone-door.h"
#include "vmm/confine.h"
#include "vmm/gate.h"
#include "vmm/httpc.h"
#include "vmm/launch.h"
#include "vmm/rundir.h"

#define USAGE "clone NAME NEW [OPTIONS]"

/* Their words go through the gate in one write, which is whole up to PIPE_BUF. */
#define CLONES_MAX 1000

static_assert(CLONES_MAX <= PIPE_BUF, "a write of one word for each is atomic");

static const char help[] =
        "usage: vmm " USAGE "\n\n"
        "  --count N         make N clones, named NEW-1 to NEW-N, of the same moment\n"
        "  --paused          do not let the clones run yet\n"
        "  --console FILE    write the clone's serial console to FILE; with --count, to FILE-1\n"
        "                    to FILE-N\n"
        "  --sandbox on|off|log\n"
        "                    limit the system calls of the clones' threads: on (default), off,\n"
        "                    or have the kernel log what on would refuse\n"
        "  --confine DIR     have the clones make, write and read files only beneath DIR, besides\n"
        "                    their own; repeatable\n"
        "  --json            print names, times and sizes as JSON\n"
        "  --help            show this\n";

struct clone_cmd {
        const char *parent;
        const char *name;               /* of the clone, or what their names begin with */
        unsigned count;                 /* 0 = one, named just so */
        bool paused;
        const char *console_file;
        enum sandbox_mode sandbox;
        struct confine *confine;
        bool json;
        bool help;
        uint64_t start_ns;

        struct clone_birth birth;
        unsigned launched;
};

static int read_count(void *command, const char *value, struct err *e)
{
        struct clone_cmd *o = command;
        uint64_t n = 0;
        int rc = option_number(value, 1, CLONES_MAX, "number of clones", &n, e);

        o->count = (unsigned)n;
        return rc;
}

static int read_sandbox(void *command, const char *value, struct err *e)
{
        struct clone_cmd *o = command;

        return sandbox_mode_parse(value, &o->sandbox, e);
}

static int read_confine(void *command, const char *value, struct err *e)
{
        struct clone_cmd *o = command;

        return confine_add(o->confine, value, e);
}

static const struct option_row options[] = {
        OPTION_READ("count", read_count),
        OPTION_FLAG("paused", struct clone_cmd, paused),
        OPTION_TEXT("console", struct clone_cmd, console_file),
        OPTION_READ("sandbox", read_sandbox),
        OPTION_READ("confine", read_confine),
        OPTION_FLAG("json", struct clone_cmd, json),
        OPTION_FLAG("help", struct clone_cmd, help),
        OPTION_END,
};

static unsigned clones(const struct clone_cmd *o)
{
        return o->count ? o->count : 1;
}

/* text, or text-1, text-2 ... */
static int numbered(const struct clone_cmd *o, unsigned i, const char *text, char *buf, size_t room,
                    struct err *e)
{
        int n = o->count ? snprintf(buf, room, "%s-%u", text, i + 1)
                         : snprintf(buf, room, "%s", text);

        return (size_t)n < room ? 0 : err_msg(e, ENAMETOOLONG, "'%s' is too long", text);
}

static int name_of(const struct clone_cmd *o, unsigned i, char buf[VM_NAME_MAX + 1],
                   struct err *e)
{
        char name[VM_NAME_MAX + sizeof("-1000")];
        int rc = rundir_check_name(o->name, e);

        if (rc == 0)
                rc = numbered(o, i, o->name, name, sizeof(name), e);
        if (rc == 0)
                rc = rundir_check_name(name, e);
        if (rc == 0)
                strcpy(buf, name);
        return rc;
}

/* Before the guest stands still for nothing. Whoever takes a name from here on makes the
 * launch fail. */
static int check_names(const struct clone_cmd *o, struct err *e)
{
        for (unsigned i = 0; i < clones(o); i++) {
                char name[VM_NAME_MAX + 1];
                int rc = name_of(o, i, name, e);

                if (rc < 0)
                        return rc;
                if (rundir_find(name, NULL) == 0)
                        return err_msg(e, EEXIST, "a VM named '%s' is already running: choose "
                                       "another name or stop it", name);
        }
        return 0;
}

static int parse(int argc, char **argv, struct clone_cmd *o, struct err *e)
{
        int rc = options_parse("vmm clone", options, argc, argv, o, NULL, e);

        if (rc < 0 || o->help)
                return rc;
        rc = cli_operands(argc, argv, 2, USAGE, e);
        if (rc < 0)
                return rc;
        o->parent = argv[optind];
        o->name = argv[optind + 1];
        return check_names(o, e);
}

static int ask(struct clone_cmd *o, int door, struct json_object **ret_result, struct err *e)
{
        AUTO_JSON *body = json_object_new_object();
        struct clone_parts parts;
        int rc;

        json_put_str(body, "to", o->name);
        rc = httpc_request(o->parent, "PUT", "/clone", body, ret_result, e);
        if (rc == 0)
                rc = clone_door_take(door, &parts, e);
        return rc == 0 ? clone_image_new(&parts, &o->birth.image, e) : rc;
}

/* The VM sends them to a socket of ours. */
static int take(struct clone_cmd *o, struct json_object **ret_result, struct err *e)
{
        AUTO_FD door = -1;
        int rc = clone_door_listen(o->name, &door, e);

        if (rc == 0)
                rc = ask(o, door, ret_result, e);
        clone_door_end(o->name, &door);
        return rc;
}

static int launch_one(struct clone_cmd *o, struct err *e)
{
        struct launch_options l = {
                .paused = true, .start_ns = o->start_ns, .sandbox = o->sandbox,
                .confine = o->confine,
        };
        char console_file[PATH_MAX];
        AUTO_JSON *report = NULL;
        int rc = name_of(o, o->launched, l.name, e);

        if (rc == 0 && o->console_file) {
                rc = numbered(o, o->launched, o->console_file, console_file,
                              sizeof(console_file), e);
                l.console_file = console_file;
        }
        if (rc == 0)
                rc = launch(&l, clone_build, &o->birth, &report, e);
        return rc < 0 ? err_in(e, rc, "clone '%s'", l.name) : 0;
}

/* Those that are there see the gate's end, and end; not before their names are free is
 * the command over. */
static void end_launched(struct clone_cmd *o)
{
        AUTO_FREE int *gone = calloc(o->launched + 1, sizeof(*gone));

        for (unsigned i = 0; gone && i < o->launched; i++) {
                char name[VM_NAME_MAX + 1];

                gone[i] = -1;
                if (name_of(o, i, name, NULL) == 0)
                        (void)rundir_watch(name, &gone[i], NULL);
        }
        fd_close(&o->birth.gate[1]);
        for (unsigned i = 0; gone && i < o->launched; i++) {
                if (gone[i] >= 0)
                        rundir_wait_free(gone[i]);
                fd_close(&gone[i]);
        }
}

static int open_gate(struct clone_cmd *o, struct err *e)
{
        char words[CLONES_MAX];
        unsigned n = clones(o);

        memset(words, o->paused ? GATE_STAY_PAUSED : GATE_RUN, n);
        if (write(o->birth.gate[1], words, n) != (ssize_t)n)
                return err_set(e, errno, "let the clones go");
        return 0;
}

/* All or none: each waits at the gate until the last is there. */
static int launch_all(struct clone_cmd *o, struct err *e)
{
        int rc = 0;

        if (pipe2(o->birth.gate, O_CLOEXEC | O_NONBLOCK) < 0)
                return err_set(e, errno, "create a pipe");
        while (rc == 0 && o->launched < clones(o)) {
                rc = launch_one(o, e);
                if (rc == 0)
                        o->launched++;
        }
        if (rc == 0)
                rc = open_gate(o, e);
        if (rc < 0)
                end_launched(o);
        return rc;
}

static uint64_t number_of(struct json_object *o, const char *key)
{
        uint64_t v = 0;

        return o && json_take_u64(o, key, UINT64_MAX, &v, NULL) == 0 ? v : 0;
}

static void print_json(const struct clone_cmd *o, struct json_object *result)
{
        struct json_object *names = json_object_new_array();

        for (unsigned i = 0; i < clones(o); i++) {
                char name[VM_NAME_MAX + 1];

                if (name_of(o, i, name, NULL) == 0)
                        json_object_array_add(names, json_object_new_string(name));
        }
        json_object_object_add(result, "clones", names);
        json_put_u64(result, "memory", clone_image_meta(o->birth.image)->memory_bytes);
        json_put_u64(result, "command_us", (clock_now_ns() - o->start_ns) / NS_PER_US);
        cli_print_json(result);
}

static void print_text(const struct clone_cmd *o, struct json_object *result)
{
        struct json_object *phases = NULL;
        struct json_object *why;
        char size[SIZE_TEXT_MAX];

        json_object_object_get_ex(result, "phases", &phases);
        printf("%u clone%s of VM '%s': shared %s, pause %llu us, copied in %.1f ms\n", clones(o),
               clones(o) == 1 ? "" : "s", o->parent,
               size_text(number_of(result, "shared_bytes"), size),
               (unsigned long long)number_of(phases, "pause"),
               (double)number_of(phases, "copy") / 1000);
        if (json_object_object_get_ex(result, "why_paused", &why))
                printf("VM '%s' stood still for the copy: %s\n", o->parent,
                       json_object_get_string(why));
}

int cmd_clone(const struct cli *cli, int argc, char **argv, struct err *e)
{
        AUTO_CONFINE confine = { 0 };
        struct clone_cmd o = {
                .confine = &confine,
                .birth = { .gate = { -1, -1 } }, .start_ns = cli->start_ns,
                .sandbox = SANDBOX_ON,
        };
        AUTO_JSON *result = NULL;

        if (parse(argc, argv, &o, e) < 0)
                return CLI_FAILED;
        if (o.help) {
                cli_help(help);
                return 0;
        }

        int rc = take(&o, &result, e);

        if (rc == 0)
                rc = launch_all(&o, e);
        if (rc == 0 && o.json)
                print_json(&o, result);
        else if (rc == 0)
                print_text(&o, result);
        clone_image_free(o.birth.image);
        fd_close(&o.birth.gate[0]);
        fd_close(&o.birth.gate[1]);
        return rc < 0 ? CLI_FAILED : 0;
}
