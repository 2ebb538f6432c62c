/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/create-devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"

#define ARG_MAX_BYTES (CREATE_DISK_MAX + 1)

/* One member of a device: what stands before it in a text. */
struct member {
        const char *key;
        const char *before;
};

/* Of one kind of device; the first member is needed, and stands in front. */
struct kind {
        struct member members[2];
        bool is_path;
        int (*add)(struct create_devices *d, const char *arg, struct err *e);
};

static int add_disk(struct create_devices *d, const char *arg, struct err *e)
{
        (void)e;
        ASSERT(d->ndisks < MACHINE_DISKS_MAX && strlen(arg) <= CREATE_DISK_MAX);
        strcpy(d->disk[d->ndisks++], arg);
        return 0;
}

static int add_net(struct create_devices *d, const char *arg, struct err *e)
{
        return machine_config_add_net(&d->machine, arg, e);
}

static int set_vsock(struct create_devices *d, const char *arg, struct err *e)
{
        return machine_config_set_vsock(&d->machine, arg, e);
}

static const struct kind disk = {
        { { "path", "" }, { "read_only", ",ro" } }, true, add_disk,
};
static const struct kind net = {
        { { "tap", "" }, { "mac", ",mac=" } }, false, add_net,
};
static const struct kind vsock = {
        { { "path", "" }, { "cid", ",cid=" } }, true, set_vsock,
};

static int append(char *arg, const char *before, const char *text, struct err *e)
{
        size_t n = strlen(arg);

        if ((size_t)snprintf(arg + n, ARG_MAX_BYTES - n, "%s%s", before, text) >=
            ARG_MAX_BYTES - n)
                return err_msg(e, ENAMETOOLONG, "a device is said in too many bytes");
        return 0;
}

/* A value as it stands in a text. A comma in it would begin an option there. */
static int append_member(char *arg, const struct member *member, struct json_object *o,
                         struct err *e)
{
        struct json_object *v = json_object_object_get(o, member->key);
        const char *text;
        int rc;

        if (json_object_is_type(v, json_type_boolean))
                return json_object_get_boolean(v) ? append(arg, member->before, "", e) : 0;
        if (json_object_is_type(v, json_type_int))
                return append(arg, member->before, json_object_get_string(v), e);
        rc = json_take_str(o, member->key, &text, e);
        if (rc == 0 && strchr(text, ','))
                rc = err_msg(e, EINVAL, "'%s' of a device holds a comma", member->key);
        return rc == 0 ? append(arg, member->before, text, e) : rc;
}

static int text_of_object(const struct kind *kind, struct json_object *o, char *arg,
                          struct err *e)
{
        int rc = append_member(arg, &kind->members[0], o, e);

        json_object_object_foreach(o, key, value) {
                (void)value;
                if (rc < 0 || !strcmp(key, kind->members[0].key))
                        continue;
                rc = strcmp(key, kind->members[1].key)
                     ? err_msg(e, EINVAL, "a device has no '%.40s' here: see vmm-api(7)", key)
                     : append_member(arg, &kind->members[1], o, e);
        }
        return rc;
}

static int add(const struct kind *kind, struct json_object *v, struct create_devices *d,
               struct err *e)
{
        char arg[ARG_MAX_BYTES] = "";
        int rc;

        if (json_object_is_type(v, json_type_object)) {
                rc = text_of_object(kind, v, arg, e);
        } else if (json_object_is_type(v, json_type_string)) {
                const char *text = json_object_get_string(v);

                rc = strlen(text) == (size_t)json_object_get_string_len(v)
                     ? append(arg, "", text, e)
                     : err_msg(e, EINVAL, "a device's text holds a NUL character");
        } else {
                rc = err_msg(e, EINVAL, "a device is a text or an object: see vmm-api(7)");
        }
        if (rc == 0 && kind->is_path && arg[0] != '/')
                rc = err_msg(e, EINVAL, "the path of a device, '%.200s', is not absolute", arg);
        return rc == 0 ? kind->add(d, arg, e) : rc;
}

static int add_all(const struct kind *kind, struct json_object *o, const char *key, size_t max,
                   struct create_devices *d, struct err *e)
{
        struct json_object *list;
        int rc = json_take_array(o, key, max, &list, e);

        for (size_t i = 0; rc == 0 && i < json_object_array_length(list); i++)
                rc = add(kind, json_object_array_get_idx(list, i), d, e);
        return rc;
}

int create_disks(struct json_object *o, const char *key, struct create_devices *d, struct err *e)
{
        return add_all(&disk, o, key, MACHINE_DISKS_MAX, d, e);
}

int create_nets(struct json_object *o, const char *key, struct create_devices *d, struct err *e)
{
        return add_all(&net, o, key, MACHINE_NETS_MAX, d, e);
}

int create_vsock(struct json_object *o, const char *key, struct create_devices *d, struct err *e)
{
        return add(&vsock, json_object_object_get(o, key), d, e);
}

int create_devices_find(const struct create_devices *d, struct machine_config *ret,
                        struct err *e)
{
        int rc = 0;

        *ret = d->machine;
        for (unsigned i = 0; rc == 0 && i < d->ndisks; i++)
                rc = machine_config_add_disk(ret, d->disk[i], e);
        return rc;
}
