/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-info.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "common/auto.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/size.h"
#include "vmm/cli.h"
#include "vmm/image-firecracker.h"
#include "vmm/image-qemu.h"
#include "vmm/meta.h"

static const char *date_text(uint64_t wall_ns, char *buf, size_t room)
{
        time_t t = (time_t)(wall_ns / NS_PER_SEC);
        struct tm tm;

        localtime_r(&t, &tm);
        strftime(buf, room, "%Y-%m-%d %H:%M:%S", &tm);
        return buf;
}

static void add_vm(struct qs_image *image, struct json_object *o)
{
        struct qs_reader *reader;
        AUTO_FREE void *data = NULL;
        struct meta m;
        size_t bytes;

        if (qs_reader_new(image, &reader, NULL) < 0)
                return;
        if (qs_section_read(reader, SECTION_META, &data, &bytes, NULL) == 0 &&
            meta_decode(data, bytes, &m, NULL) == 0) {
                struct json_object *vm = json_object_new_object();

                json_put_str(vm, "name", m.name);
                json_put_u64(vm, "memory", m.memory_bytes);
                json_put_u64(vm, "cpus", m.cpus);
                json_object_object_add(o, "vm", vm);
        }
        qs_reader_free(reader);
}

/* all of them, the nearest first */
static void add_parents(const struct qs_image *image, struct json_object *o)
{
        unsigned layers = qs_image_info(image)->layers;
        struct json_object *parents = json_object_new_array();

        for (unsigned n = 1; n < layers; n++)
                json_object_array_add(parents, json_object_new_string(qs_image_name(image, n)));
        json_object_object_add(o, "parents", parents);
}

/* nothing when there is none */
static void add_working_set(struct qs_image *image, struct json_object *o)
{
        AUTO_FREE struct qs_ram_range *set = NULL;
        struct json_object *w;
        uint64_t bytes = 0;
        size_t n;

        if (qs_working_set_read(image, &set, &n, NULL) < 0)
                return;
        for (size_t i = 0; i < n; i++)
                bytes += set[i].bytes;
        w = json_object_new_object();
        json_put_u64(w, "bytes", bytes);
        json_put_u64(w, "extents", n);
        json_object_object_add(o, "working_set", w);
}

static void print_working_set(struct json_object *o)
{
        struct json_object *w;
        char size[SIZE_TEXT_MAX];

        if (json_object_object_get_ex(o, "working_set", &w))
                printf("first:    a working set of %s, in %llu extents\n",
                       size_text(json_object_get_uint64(json_object_object_get(w, "bytes")),
                                 size),
                       (unsigned long long)
                       json_object_get_uint64(json_object_object_get(w, "extents")));
}

static struct json_object *describe(const char *path, struct qs_image *image)
{
        const struct qs_image_info *i = qs_image_info(image);
        struct json_object *o = json_object_new_object();
        char uuid[33];

        for (size_t n = 0; n < sizeof(i->uuid); n++)
                snprintf(uuid + 2 * n, 3, "%02x", i->uuid[n]);
        json_put_str(o, "image", path);
        json_put_u64(o, "format_version", i->format_version);
        json_put_str(o, "uuid", i->format_version ? uuid : "");
        json_put_bool(o, "checksums", i->format_version > 0);
        json_put_bool(o, "changed", i->changed);
        if (i->parent)
                json_put_str(o, "parent", i->parent);
        add_parents(image, o);
        json_put_u64(o, "layers", i->layers);
        json_put_str(o, "tag", i->tag);
        json_put_u64(o, "date_ns", i->date_ns);
        json_put_u64(o, "disk_bytes", i->disk_bytes);
        json_put_u64(o, "file_bytes", i->file_bytes);
        json_put_bool(o, "is_parent", i->is_parent);
        json_put_u64(o, "cluster_size", 1ull << i->cluster_bits);
        json_put_str(o, "compress", i->compress == QS_COMPRESS_ZSTD ? "zstd" : "none");
        add_working_set(image, o);
        add_vm(image, o);
        image_firecracker_describe(image, o);
        image_qemu_describe(image, o);
        return o;
}

static void print_origin(struct json_object *o, const struct qs_image_info *i)
{
        char date[32];

        if (i->format_version)
                printf("uuid:     %s\n",
                       json_object_get_string(json_object_object_get(o, "uuid")));
        else
                puts("uuid:     none: made by another program, without checksums");
        if (i->changed)
                puts("changed:  by another program; snapshots are as they were saved");
        if (i->parent)
                printf("parent:   %s, %u files in all\n", i->parent, i->layers);
        if (i->tag[0])
                printf("snapshot: %s, %s\n", i->tag, date_text(i->date_ns, date, sizeof(date)));
        else
                puts("snapshot: none, the active layer");
}

static void print_info(struct json_object *o, const struct qs_image_info *i)
{
        struct json_object *vm;
        char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

        printf("image:    %s\n", json_object_get_string(json_object_object_get(o, "image")));
        print_origin(o, i);
        printf("memory:   %s in clusters of %llu, %s\nfile:     %s\n",
               size_text(i->disk_bytes, a), 1ull << i->cluster_bits,
               i->compress == QS_COMPRESS_ZSTD ? "zstd" : "not compressed",
               size_text(i->file_bytes, b));
        print_working_set(o);
        if (i->is_parent)
                puts("deltas:   were made of it, so it must not change");
        if (image_firecracker_print(o) || image_qemu_print(o))
                return;
        if (!json_object_object_get_ex(o, "vm", &vm)) {
                puts("vm:       none, memory only");
                return;
        }
        printf("vm:       '%s', %s, %llu vCPUs\n",
               json_object_get_string(json_object_object_get(vm, "name")),
               size_text(json_object_get_uint64(json_object_object_get(vm, "memory")), a),
               (unsigned long long)json_object_get_uint64(json_object_object_get(vm, "cpus")));
}

int image_info(const char *path, const struct qs_open_options *options, bool json,
               struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_path(path, options, &image, e);

        if (rc < 0)
                return rc;

        AUTO_JSON *o = describe(path, image);

        if (json)
                cli_print_json(o);
        else
                print_info(o, qs_image_info(image));
        qs_image_close(image);
        return 0;
}

static int open_image(const char *path, int *ret_fd, struct err *e)
{
        *ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        return *ret_fd < 0 ? err_set(e, errno, "open '%s'", path) : 0;
}

static struct json_object *snapshot_json(const struct qs_snapshot_info *s)
{
        struct json_object *o = json_object_new_object();

        json_put_str(o, "id", s->id);
        json_put_str(o, "tag", s->tag);
        json_put_u64(o, "date_ns", s->date_ns);
        json_put_u64(o, "state_bytes", s->state_bytes);
        json_put_bool(o, "default", s->is_default);
        json_put_bool(o, "changed", s->changed);
        return o;
}

int image_list(const char *path, bool json, struct err *e)
{
        AUTO_FREE struct qs_snapshot_info *list = NULL;
        AUTO_JSON *array = json_object_new_array();
        AUTO_FD fd = -1;
        size_t n;

        int rc = open_image(path, &fd, e);

        if (rc == 0)
                rc = qs_snapshot_list(fd, path, &list, &n, e);
        if (rc < 0)
                return rc;
        if (!json)
                printf("%-4s %-24s %-20s %12s\n", "ID", "TAG", "DATE", "STATE");
        for (size_t i = 0; i < n; i++) {
                char date[32], size[SIZE_TEXT_MAX];

                if (json)
                        json_object_array_add(array, snapshot_json(&list[i]));
                else
                        printf("%-4s %-24s %-20s %12s%s\n", list[i].id, list[i].tag,
                               date_text(list[i].date_ns, date, sizeof(date)),
                               size_text(list[i].state_bytes, size),
                               list[i].is_default ? "  (default)" : "");
        }
        if (json)
                cli_print_json(array);
        else if (n > 0 && list[0].changed)
                puts("The file was changed by another program.");
        return 0;
}
