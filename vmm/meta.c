/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/meta.h"

#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "vmm/kvm.h"
#include "vmm/ram.h"

struct json_object *meta_encode(const struct meta *m)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "version", META_VERSION);
        json_put_str(o, "program", PACKAGE_STRING);
        json_put_str(o, "name", m->name);
        json_put_u64(o, "memory", m->memory_bytes);
        json_put_u64(o, "cpus", m->cpus);
        json_put_u64(o, "saved_wall_ns", m->saved_wall_ns);

        struct json_object *machine = json_object_new_object();

        machine_config_encode(&m->machine, machine);
        json_object_object_add(o, "machine", machine);
        return o;
}

/* Versions before there were devices wrote none. */
static int decode_machine(struct json_object *o, struct meta *m, struct err *e)
{
        struct json_object *machine;
        int rc = 0;

        if (json_object_object_get_ex(o, "machine", NULL)) {
                rc = json_take_obj(o, "machine", &machine, e);
                if (rc == 0)
                        rc = machine_config_decode(machine, &m->machine, e);
        }
        return rc;
}

static int decode(struct json_object *o, struct meta *m, struct err *e)
{
        const char *name;
        uint64_t version, cpus;
        int rc = json_take_u64(o, "version", UINT32_MAX, &version, e);

        if (rc == 0 && version > META_VERSION)
                return err_msg(e, ENOTSUP, "the VM was saved by a newer version (%llu, this one "
                               "knows %d): use a newer vmm", (unsigned long long)version,
                               META_VERSION);
        if (rc == 0)
                rc = json_take_str(o, "name", &name, e);
        if (rc == 0)
                rc = rundir_check_name(name, e);
        if (rc == 0)
                rc = json_take_u64(o, "memory", RAM_BYTES_MAX, &m->memory_bytes, e);
        if (rc == 0)
                rc = json_take_u64(o, "cpus", VCPUS_MAX, &cpus, e);
        if (rc == 0)
                rc = json_take_u64(o, "saved_wall_ns", UINT64_MAX, &m->saved_wall_ns, e);
        if (rc == 0) {
                strcpy(m->name, name);
                m->cpus = (unsigned)cpus;
                rc = decode_machine(o, m, e);
        }
        if (rc == 0)
                rc = kept_disks_decode(o, &m->disks, e);
        return rc;
}

int meta_decode(const char *text, size_t bytes, struct meta *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        struct meta m = { 0 };
        int rc = json_parse(text, bytes, &o, e);

        if (rc == 0)
                rc = decode(o, &m, e);
        if (rc < 0)
                return err_in(e, rc, "section " SECTION_META);
        *ret = m;
        return 0;
}
