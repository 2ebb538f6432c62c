/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - the subcommands of vmm and what they share.
 *
 * A command parses its own options with getopt_long; the first error it meets
 * becomes the one sentence on standard error.
 */
#ifndef VMM_CLI_H
#define VMM_CLI_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/store.h"

struct cli {
        uint64_t start_ns;              /* clock_now_ns() when the command began */
};

/* Exit status 0, or 1 after *e was filled; other statuses are the command's own. */
typedef int cli_fn(const struct cli *cli, int argc, char **argv, struct err *e);

cli_fn cmd_run, cmd_revert, cmd_save, cmd_clone, cmd_list, cmd_info, cmd_pause, cmd_resume,
       cmd_prefetch, cmd_balloon, cmd_cancel, cmd_rollback, cmd_stop, cmd_console, cmd_image,
       cmd_serve, cmd_workingset, cmd_doctor;

#define CLI_FAILED 1
/* option_bad() of "vmm COMMAND" */
int cli_bad_option(const char *command, char **argv, struct err *e);
/* -EINVAL unless exactly n operands are left */
int cli_operands(int argc, char **argv, int n, const char *usage, struct err *e);
void cli_help(const char *text);

/* pretty JSON and a newline on standard output */
void cli_print_json(struct json_object *o);

#endif
