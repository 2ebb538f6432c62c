/* SPDX-License-Identifier: Apache-2.0 */
/* the body of PUT /snapshot/create */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "vmm/control.h"
#include "vmm/save-disks.h"

static int parse_compress(struct json_object *o, struct qs_writer_options *w, struct err *e)
{
        const char *how = "none";
        int rc = 0;
        uint64_t level;

        w->compress_alike = !json_object_object_get_ex(o, "compress", NULL);
        if (!w->compress_alike)
                rc = json_take_str(o, "compress", &how, e);
        if (rc < 0)
                return rc;
        if (!strcmp(how, "zstd"))
                w->compress = QS_COMPRESS_ZSTD;
        else if (!strcmp(how, "none"))
                w->compress = QS_COMPRESS_NONE;
        else
                return err_msg(e, EINVAL, "compression '%s' is neither 'none' nor 'zstd'", how);
        w->zstd_level = QS_ZSTD_LEVEL_DEFAULT;
        if (json_object_object_get_ex(o, "level", NULL)) {
                rc = json_take_u64(o, "level", QS_ZSTD_LEVEL_MAX, &level, e);
                if (rc == 0)
                        w->zstd_level = (int)level;
        }
        return rc;
}

static int parse_cluster_size(struct json_object *o, struct qs_writer_options *w, struct err *e)
{
        uint64_t bytes;
        int rc;

        w->cluster_bits = QS_CLUSTER_BITS_DEFAULT;
        if (!json_object_object_get_ex(o, "cluster_size", NULL))
                return 0;
        rc = json_take_u64(o, "cluster_size", 1u << QS_CLUSTER_BITS_MAX, &bytes, e);
        if (rc < 0)
                return rc;
        if (bytes < (1u << QS_CLUSTER_BITS_MIN) || (bytes & (bytes - 1)))
                return err_msg(e, EINVAL, "cluster size %llu is not a power of two from 4K to 2M",
                               (unsigned long long)bytes);
        w->cluster_bits = (unsigned)__builtin_ctzll(bytes);
        return 0;
}

static int parse_text(struct json_object *o, const char *key, char *buf, size_t room, bool needed,
                      struct err *e)
{
        const char *text;
        int rc;

        buf[0] = '\0';
        if (!needed && !json_object_object_get_ex(o, key, NULL))
                return 0;
        rc = json_take_str(o, key, &text, e);
        if (rc < 0)
                return rc;
        if (strlen(text) >= room)
                return err_msg(e, ENAMETOOLONG, "'%s' is longer than %zu bytes", key, room - 1);
        strcpy(buf, text);
        return 0;
}

static int check_absolute(const char *key, const char *path, struct err *e)
{
        if (path[0] != '/')
                return err_msg(e, EINVAL, "%s '%s' is not absolute", key, path);
        return 0;
}

static int parse_mode(struct json_object *o, enum save_mode *ret, struct err *e)
{
        static const struct {
                const char *name;
                enum save_mode mode;
        } modes[] = {
                { "live", SAVE_LIVE }, { "paused", SAVE_PAUSED }, { "stop", SAVE_STOP },
        };
        const char *name = "live";
        int rc = 0;

        if (json_object_object_get_ex(o, "mode", NULL))
                rc = json_take_str(o, "mode", &name, e);
        if (rc < 0)
                return rc;
        for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
                if (strcmp(modes[i].name, name))
                        continue;
                *ret = modes[i].mode;
                return 0;
        }
        return err_msg(e, EINVAL, "mode '%s' is neither 'live' nor 'paused' nor 'stop'", name);
}

static int parse_staging(struct json_object *o, uint64_t *ret_bytes, struct err *e)
{
        uint64_t bytes = 0;
        int rc = 0;

        if (json_object_object_get_ex(o, "staging", NULL))
                rc = json_take_u64(o, "staging", INT64_MAX, &bytes, e);
        if (rc < 0)
                return rc;
        if (bytes && bytes < SAVE_STAGING_MIN)
                return err_msg(e, EINVAL, "staging memory of %llu bytes is less than %u",
                               (unsigned long long)bytes, SAVE_STAGING_MIN);
        *ret_bytes = bytes;
        return 0;
}

static int parse_disks(struct json_object *o, enum disks_mode *ret, struct err *e)
{
        const char *name = "auto";
        int rc = 0;

        if (json_object_object_get_ex(o, "disks", NULL))
                rc = json_take_str(o, "disks", &name, e);
        return rc == 0 ? disks_mode_parse(name, ret, e) : rc;
}

int control_parse_save(const char *text, size_t bytes, struct save_request *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        int rc = json_parse(text, bytes, &o, e);

        memset(ret, 0, sizeof(*ret));
        if (rc == 0)
                rc = parse_text(o, "snapshot_path", ret->path, sizeof(ret->path), true, e);
        if (rc == 0)
                rc = parse_text(o, "backing", ret->backing, sizeof(ret->backing), false, e);
        if (rc == 0)
                rc = check_absolute("snapshot_path", ret->path, e);
        if (rc == 0 && json_object_object_get_ex(o, "backing", NULL))
                rc = check_absolute("backing", ret->backing, e);
        if (rc == 0)
                rc = parse_text(o, "tag", ret->writer.tag, sizeof(ret->writer.tag), false, e);
        ret->writer.append = ret->writer.tag[0] != '\0';
        if (rc == 0)
                rc = parse_mode(o, &ret->mode, e);
        if (rc == 0)
                rc = parse_staging(o, &ret->staging_bytes, e);
        if (rc == 0)
                rc = parse_disks(o, &ret->disks, e);
        if (rc == 0)
                rc = parse_compress(o, &ret->writer, e);
        if (rc == 0)
                rc = parse_cluster_size(o, &ret->writer, e);
        if (rc == 0 && json_object_object_get_ex(o, "force", NULL))
                rc = json_take_bool(o, "force", &ret->writer.force, e);
        if (rc == 0 && json_object_object_get_ex(o, "progress", NULL))
                rc = json_take_bool(o, "progress", &ret->progress, e);
        return rc;
}
