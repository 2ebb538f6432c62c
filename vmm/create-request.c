/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/create-request.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/rate.h"
#include "common/size.h"
#include "vmm/kvm.h"
#include "vmm/ram.h"

/* Theory of operation
 *
 * A table of keys: where each may stand, and what reads it. A body is read key by key, so
 * that one nobody knows is met. What goes together is checked afterwards, in one place
 * (settle): the order of keys means nothing. */

#define MEMORY_DEFAULT (256ull << 20)
#define KERNEL_CMDLINE_DEFAULT "console=ttyS0"

/* Where a key may stand. */
enum where {
        IN_CREATE = 1 << 0,
        IN_LOAD = 1 << 1,
        OF_FRESH = 1 << 2,
        OF_SNAPSHOT = 1 << 3,
        OF_POSTCOPY = 1 << 4,           /* and of a snapshot */
};

/* key is in o. */
typedef int read_fn(struct json_object *o, const char *key, void *field, size_t room,
                    struct err *e);

/* ---- values ------------------------------------------------------------------- */

static int read_text(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        const char *text;
        int rc = json_take_str(o, key, &text, e);

        if (rc < 0)
                return rc;
        if (strlen(text) >= room)
                return err_msg(e, ENAMETOOLONG, "'%s' is longer than %zu bytes", key, room - 1);
        strcpy(field, text);
        return 0;
}

static int read_path(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        char *path = field;
        int rc = read_text(o, key, path, room, e);

        if (rc == 0 && path[0] != '/')
                rc = err_msg(e, EINVAL, "%s '%.200s' is not absolute", key, path);
        return rc;
}

static int read_bool(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        ASSERT(room == sizeof(bool));
        return json_take_bool(o, key, field, e);
}

static int read_name(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        int rc = read_text(o, key, field, room, e);

        return rc == 0 ? rundir_check_name(field, e) : rc;
}

static int read_cpus(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        uint64_t n;
        int rc = json_take_u64(o, key, VCPUS_MAX, &n, e);

        ASSERT(room == sizeof(unsigned));
        if (rc == 0 && n == 0)
                rc = err_msg(e, EINVAL, "0 vCPUs: a guest has 1 to %d", VCPUS_MAX);
        if (rc == 0)
                *(unsigned *)field = (unsigned)n;
        return rc;
}

static int read_memory(struct json_object *o, const char *key, void *field, size_t room,
                       struct err *e)
{
        struct json_object *v = json_object_object_get(o, key);
        uint64_t *bytes = field;
        struct ram ram;

        ASSERT(room == sizeof(*bytes));
        if (json_object_is_type(v, json_type_string)) {
                if (size_parse(json_object_get_string(v), bytes) < 0)
                        return err_msg(e, EINVAL, "memory size '%.40s' is not a size such as 256M "
                                       "or 4G", json_object_get_string(v));
        } else {
                int rc = json_take_u64(o, key, RAM_BYTES_MAX, bytes, e);

                if (rc < 0)
                        return rc;
        }
        return ram_init(&ram, *bytes, e);
}

static int read_postcopy(struct json_object *o, const char *key, void *field, size_t room,
                         struct err *e)
{
        struct create_snapshot *s = field;
        uint64_t percent = 0;
        int rc;

        ASSERT(room == sizeof(*s));
        if (json_object_is_type(json_object_object_get(o, key), json_type_boolean))
                return json_take_bool(o, key, &s->postcopy, e);
        rc = json_take_u64(o, key, 100, &percent, e);
        s->postcopy = rc == 0;
        s->hold_percent = (unsigned)percent;
        return rc;
}

static int read_prefetch(struct json_object *o, const char *key, void *field, size_t room,
                         struct err *e)
{
        const char *text;
        int rc;

        ASSERT(room == sizeof(uint64_t));
        if (json_object_is_type(json_object_object_get(o, key), json_type_int))
                return json_take_u64(o, key, RATE_UNLIMITED, field, e);
        rc = json_take_str(o, key, &text, e);
        return rc == 0 ? rate_parse(text, field, e) : rc;
}

static int read_lane(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        enum ps_lane *lane = field;
        const char *text;
        int rc = json_take_str(o, key, &text, e);

        ASSERT(room == sizeof(*lane));
        if (rc < 0)
                return rc;
        if (!strcmp(text, "shared"))
                *lane = PS_LANE_SHARED;
        else if (!strcmp(text, "copy"))
                *lane = PS_LANE_COPY;
        else
                return err_msg(e, EINVAL, "lane '%.40s' is neither 'shared' nor 'copy'", text);
        return 0;
}

/* An array of at most max texts, each of less than room bytes, one behind the other. */
static int read_texts(struct json_object *o, const char *key, unsigned max, char *texts,
                      size_t room, unsigned *ret_n, struct err *e)
{
        struct json_object *list;
        int rc = json_take_array(o, key, max, &list, e);

        if (rc < 0)
                return rc;
        for (unsigned i = 0; i < json_object_array_length(list); i++) {
                struct json_object *v = json_object_array_get_idx(list, i);
                const char *text = json_object_get_string(v);

                if (!json_object_is_type(v, json_type_string) || strlen(text) >= room)
                        return err_msg(e, EINVAL, "'%s' holds something that is no text of the "
                                       "form 'ID=VALUE'", key);
                strcpy(texts + i * room, text);
        }
        *ret_n = (unsigned)json_object_array_length(list);
        return 0;
}

static int read_net_changes(struct json_object *o, const char *key, void *field, size_t room,
                            struct err *e)
{
        struct create_snapshot *s = field;

        ASSERT(room == sizeof(*s));
        return read_texts(o, key, MACHINE_NETS_MAX, s->net[0], sizeof(s->net[0]), &s->nnets, e);
}

static int read_disk_changes(struct json_object *o, const char *key, void *field, size_t room,
                             struct err *e)
{
        struct create_snapshot *s = field;

        ASSERT(room == sizeof(*s));
        return read_texts(o, key, MACHINE_DISKS_MAX, s->disk[0], sizeof(s->disk[0]), &s->ndisks,
                          e);
}

static int read_disk_mode(struct json_object *o, const char *key, void *field, size_t room,
                          struct err *e)
{
        const char *text;
        int rc = json_take_str(o, key, &text, e);

        ASSERT(room == sizeof(bool));
        if (rc == 0 && strcmp(text, "overlay") && strcmp(text, "inplace"))
                rc = err_msg(e, EINVAL, "disks '%.40s' is neither 'overlay' nor 'inplace'", text);
        if (rc == 0)
                *(bool *)field = !strcmp(text, "inplace");
        return rc;
}

static int read_disks(struct json_object *o, const char *key, void *field, size_t room,
                      struct err *e)
{
        ASSERT(room == sizeof(struct create_devices));
        return create_disks(o, key, field, e);
}

static int read_nets(struct json_object *o, const char *key, void *field, size_t room,
                     struct err *e)
{
        ASSERT(room == sizeof(struct create_devices));
        return create_nets(o, key, field, e);
}

static int read_vsock(struct json_object *o, const char *key, void *field, size_t room,
                      struct err *e)
{
        ASSERT(room == sizeof(struct create_devices));
        return create_vsock(o, key, field, e);
}

/* ---- keys --------------------------------------------------------------------- */

#define KEY(key, where, reader, member) \
        { key, where, reader, offsetof(struct create_request, member), \
          sizeof(((struct create_request *)0)->member) }

static const struct key {
        const char *key;
        unsigned where;
        read_fn *read;
        size_t at, room;
} keys[] = {
        KEY("name", IN_CREATE, read_name, name),
        KEY("resume", IN_CREATE | IN_LOAD, read_bool, resume),
        KEY("resume_vm", IN_LOAD, read_bool, resume),
        KEY("console", IN_CREATE, read_path, console),
        KEY("hugepages", IN_CREATE | IN_LOAD, read_bool, hugepages),
        KEY("snapshot", IN_CREATE | OF_SNAPSHOT, read_path, snapshot.path),
        KEY("snapshot_path", IN_LOAD | OF_SNAPSHOT, read_path, snapshot.path),
        KEY("tag", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_text, snapshot.tag),
        KEY("allow_parent", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_path, snapshot.allow_parent),
        KEY("postcopy", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_postcopy, snapshot),
        KEY("net_changes", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_net_changes, snapshot),
        KEY("disk_changes", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_disk_changes, snapshot),
        KEY("disk_mode", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_disk_mode,
            snapshot.disks_in_place),
        KEY("vsock_change", IN_CREATE | IN_LOAD | OF_SNAPSHOT, read_text, snapshot.vsock),
        KEY("prefetch", IN_CREATE | IN_LOAD | OF_POSTCOPY, read_prefetch, snapshot.prefetch_rate),
        KEY("lane", IN_CREATE | IN_LOAD | OF_POSTCOPY, read_lane, snapshot.lane),
        KEY("pageserver", IN_CREATE | IN_LOAD | OF_POSTCOPY, read_path, snapshot.pageserver),
        KEY("demo", IN_CREATE | OF_FRESH, read_bool, fresh.demo),
        KEY("kernel", IN_CREATE | OF_FRESH, read_path, fresh.kernel),
        KEY("initrd", IN_CREATE | OF_FRESH, read_path, fresh.initrd),
        KEY("cmdline", IN_CREATE | OF_FRESH, read_text, fresh.cmdline),
        KEY("memory", IN_CREATE | OF_FRESH, read_memory, fresh.memory_bytes),
        KEY("cpus", IN_CREATE | OF_FRESH, read_cpus, fresh.cpus),
        KEY("disks", IN_CREATE | OF_FRESH, read_disks, fresh.devices),
        KEY("nets", IN_CREATE | OF_FRESH, read_nets, fresh.devices),
        KEY("vsock", IN_CREATE | OF_FRESH, read_vsock, fresh.devices),
        KEY("rng", IN_CREATE | OF_FRESH, read_bool, fresh.devices.machine.rng),
        KEY("balloon", IN_CREATE | OF_FRESH, read_bool, fresh.devices.machine.balloon),
        KEY("vmgenid", IN_CREATE | OF_FRESH, read_bool, fresh.devices.machine.vmgenid),
};

static const struct key *find_key(const char *name, enum where in)
{
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                if ((keys[i].where & in) && !strcmp(keys[i].key, name))
                        return &keys[i];
        }
        return NULL;
}

/* Reads what o holds; *ret_where: of what the keys were that it holds. */
static int read_keys(struct json_object *o, enum where in, struct create_request *r,
                     unsigned *ret_where, struct err *e)
{
        *ret_where = 0;
        json_object_object_foreach(o, name, value) {
                const struct key *k = find_key(name, in);
                int rc;

                (void)value;
                if (!k)
                        return err_msg(e, EINVAL, "there is no key '%.60s' here: see vmm-api(7)",
                                       name);
                rc = k->read(o, name, (char *)r + k->at, k->room, e);
                if (rc < 0)
                        return rc;
                *ret_where |= k->where;
        }
        return 0;
}

/* ---- what goes together ------------------------------------------------------- */

static int settle_snapshot(const struct create_request *r, unsigned where, struct err *e)
{
        const struct create_snapshot *s = &r->snapshot;

        if (where & OF_FRESH)
                return err_msg(e, EINVAL, "a VM is made out of a snapshot or fresh: its "
                               "kernel, memory, CPUs and devices are the snapshot's");
        if ((where & OF_POSTCOPY) && !s->postcopy)
                return err_msg(e, EINVAL, "'prefetch', 'lane' and 'pageserver' go with "
                               "'postcopy'");
        if (r->hugepages && s->lane == PS_LANE_SHARED)
                return err_msg(e, EINVAL, "'hugepages' needs memory of the VM's own: leave out "
                               "lane 'shared'");
        return 0;
}

static int settle_fresh(struct create_request *r, unsigned where, struct err *e)
{
        struct create_fresh *f = &r->fresh;

        if (where & (OF_SNAPSHOT | OF_POSTCOPY))
                return err_msg(e, EINVAL, "'tag', 'allow_parent', 'postcopy' and changes go "
                               "with 'snapshot'");
        if (f->demo == (f->kernel[0] != '\0'))
                return err_msg(e, EINVAL, "give one of 'snapshot', 'kernel' and 'demo'");
        if (f->initrd[0] && !f->kernel[0])
                return err_msg(e, EINVAL, "'initrd' goes with 'kernel'");
        if (!f->cmdline[0] && f->kernel[0])
                strcpy(f->cmdline, KERNEL_CMDLINE_DEFAULT);
        return 0;
}

static int settle(struct create_request *r, enum where in, unsigned where, struct err *e)
{
        if (in == IN_LOAD && !r->snapshot.path[0])
                return err_msg(e, EINVAL, "'snapshot_path' is missing");
        if (!r->snapshot.path[0])
                return settle_fresh(r, where, e);
        /* an image cache has small pages */
        if (r->hugepages && r->snapshot.lane == PS_LANE_AUTO && r->snapshot.postcopy)
                r->snapshot.lane = PS_LANE_COPY;
        return settle_snapshot(r, where, e);
}

static int decode(struct json_object *o, enum where in, struct create_request *ret, struct err *e)
{
        unsigned where;

        *ret = (struct create_request){
                .resume = true,
                .snapshot = { .lane = PS_LANE_AUTO, .prefetch_rate = PS_PREFETCH_UNLIMITED },
                /* every guest has entropy, and can learn that it is a copy */
                .fresh = { .memory_bytes = MEMORY_DEFAULT, .cpus = 1,
                           .devices.machine = { .rng = true, .vmgenid = true } },
        };

        int rc = read_keys(o, in, ret, &where, e);

        return rc == 0 ? settle(ret, in, where, e) : rc;
}

int create_request_decode(struct json_object *o, struct create_request *ret, struct err *e)
{
        return decode(o, IN_CREATE, ret, e);
}

static int parse(const char *text, size_t bytes, enum where in, struct create_request *ret,
                 struct err *e)
{
        AUTO_JSON *o = NULL;
        int rc = json_parse(text, bytes, &o, e);

        return rc == 0 ? decode(o, in, ret, e) : rc;
}

int create_request_parse(const char *text, size_t bytes, struct create_request *ret,
                         struct err *e)
{
        return parse(text, bytes, IN_CREATE, ret, e);
}

int create_request_parse_load(const char *text, size_t bytes, struct create_request *ret,
                              struct err *e)
{
        return parse(text, bytes, IN_LOAD, ret, e);
}
