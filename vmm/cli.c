/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/size.h"

int cli_bad_option(const char *command, char **argv, struct err *e)
{
        return err_msg(e, EINVAL, "'%s' is unknown or lacks its value: see 'vmm %s --help'",
                       argv[optind - 1], command);
}

int cli_operands(int argc, char **argv, int n, const char *usage, struct err *e)
{
        (void)argv;
        if (argc - optind != n)
                return err_msg(e, EINVAL, "usage: vmm %s", usage);
        return 0;
}

void cli_help(const char *text)
{
        fputs(text, stdout);
}

int cli_parse_number(const char *text, uint64_t min, uint64_t max, const char *what,
                     uint64_t *ret, struct err *e)
{
        uint64_t n;

        if (size_parse(text, &n) < 0 || n < min || n > max)
                return err_msg(e, EINVAL, "%s '%s' is not a number from %llu to %llu", what, text,
                               (unsigned long long)min, (unsigned long long)max);
        *ret = n;
        return 0;
}

int cli_parse_compress(const char *text, struct qs_writer_options *w, struct err *e)
{
        uint64_t level = QS_ZSTD_LEVEL_DEFAULT;

        w->zstd_level = QS_ZSTD_LEVEL_DEFAULT;
        w->compress_alike = false;
        if (!strcmp(text, "none")) {
                w->compress = QS_COMPRESS_NONE;
                return 0;
        }
        if (strncmp(text, "zstd", 4) || (text[4] && text[4] != ':'))
                return err_msg(e, EINVAL, "compression '%s' is neither 'none' nor 'zstd[:LEVEL]'",
                               text);
        if (text[4]) {
                int rc = cli_parse_number(text + 5, 1, QS_ZSTD_LEVEL_MAX, "zstd level", &level, e);

                if (rc < 0)
                        return rc;
        }
        w->compress = QS_COMPRESS_ZSTD;
        w->zstd_level = (int)level;
        return 0;
}

int cli_parse_cluster_size(const char *text, struct qs_writer_options *w, struct err *e)
{
        uint64_t bytes;

        if (size_parse(text, &bytes) < 0 || bytes < (1u << QS_CLUSTER_BITS_MIN) ||
            bytes > (1u << QS_CLUSTER_BITS_MAX) || (bytes & (bytes - 1)))
                return err_msg(e, EINVAL, "cluster size '%s' is not a power of two from 4K to 2M",
                               text);
        w->cluster_bits = (unsigned)__builtin_ctzll(bytes);
        return 0;
}

int cli_parse_tag(const char *text, char ret[QS_TAG_MAX + 1], struct err *e)
{
        if (!*text || strlen(text) > QS_TAG_MAX)
                return err_msg(e, EINVAL, "tag '%s' must have 1 to %d characters", text,
                               QS_TAG_MAX);
        strcpy(ret, text);
        return 0;
}

void cli_print_json(struct json_object *o)
{
        puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                            JSON_C_TO_STRING_NOSLASHESCAPE));
}
