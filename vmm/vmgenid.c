/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmgenid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/hex.h"

#define VMGENID_VERSION 1

int vmgenid_renew(const struct ram *ram, struct vmgenid *ret, struct err *e)
{
        struct vmgenid g;
        void *there = ram_at(ram, VMGENID_GPA, VMGENID_BYTES);

        ASSERT(there);                  /* below RAM_BYTES_MIN */
        if (getrandom(g.id, sizeof(g.id), 0) != sizeof(g.id))
                return err_set(e, errno, "draw a generation id");
        memcpy(there, g.id, sizeof(g.id));
        *ret = g;
        return 0;
}

int vmgenid_describe(const struct vmgenid *g, struct json_object *o, const char *key)
{
        return hex_put(o, key, g->id, sizeof(g->id));
}

int vmgenid_save(const struct vmgenid *g, struct json_object **ret, struct err *e)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_u64(o, "version", VMGENID_VERSION);
        if (vmgenid_describe(g, o, "id") < 0)
                return err_msg(e, ENOMEM, "no memory to save the generation id");
        *ret = ptr_take(&o);
        return 0;
}

int vmgenid_load(struct vmgenid *g, struct json_object *o, struct err *e)
{
        struct vmgenid loaded;
        uint64_t version;
        size_t bytes;
        int rc = json_take_u64(o, "version", VMGENID_VERSION, &version, e);

        if (rc == 0)
                rc = hex_take(o, "id", VMGENID_BYTES, loaded.id, &bytes, e);
        if (rc < 0)
                return rc;
        if (bytes != VMGENID_BYTES)
                return err_msg(e, EBADMSG, "JSON field 'id' has %zu bytes, not %d", bytes,
                               VMGENID_BYTES);
        *g = loaded;
        return 0;
}
