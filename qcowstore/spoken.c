/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/store.h"

#include <errno.h>
#include <string.h>

#include "common/options.h"
#include "common/size.h"

int qs_compress_parse(const char *text, struct qs_writer_options *w, struct err *e)
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
                int rc = option_number(text + 5, 1, QS_ZSTD_LEVEL_MAX, "zstd level", &level, e);

                if (rc < 0)
                        return rc;
        }
        w->compress = QS_COMPRESS_ZSTD;
        w->zstd_level = (int)level;
        return 0;
}

int qs_cluster_size_parse(const char *text, struct qs_writer_options *w, struct err *e)
{
        uint64_t bytes;

        if (size_parse(text, &bytes) < 0 || bytes < (1u << QS_CLUSTER_BITS_MIN) ||
            bytes > (1u << QS_CLUSTER_BITS_MAX) || (bytes & (bytes - 1)))
                return err_msg(e, EINVAL, "cluster size '%s' is not a power of two from 4K to 2M",
                               text);
        w->cluster_bits = (unsigned)__builtin_ctzll(bytes);
        return 0;
}

int qs_tag_parse(const char *text, char ret[QS_TAG_MAX + 1], struct err *e)
{
        if (!*text || strlen(text) > QS_TAG_MAX)
                return err_msg(e, EINVAL, "tag '%s' must have 1 to %d characters", text,
                               QS_TAG_MAX);
        strcpy(ret, text);
        return 0;
}
