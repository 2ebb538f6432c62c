/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine-config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/options.h"

/* virtio-vsock: 0 to 2 are reserved, 2 is the host */
#define CID_MIN 3
#define CID_DEFAULT 3
#define CID_MAX (UINT32_MAX - 1)

unsigned machine_config_slots(const struct machine_config *c)
{
        return c->ndisks + c->nnets + c->rng + c->balloon + (c->vsock.cid != 0);
}

/* ---- of the command line ------------------------------------------------------- */

static int absolute(const char *path, char *ret, size_t room, struct err *e)
{
        AUTO_FREE char *real = realpath(path, NULL);

        if (!real)
                return err_set(e, errno, "find '%s'", path);
        if (strlen(real) >= room)
                return err_msg(e, ENAMETOOLONG, "'%s' is longer than %zu bytes", real, room - 1);
        strcpy(ret, real);
        return 0;
}

/* "PATH,word": the word, cut off; NULL = there is none. A path may hold commas before. */
static char *cut_word(char *arg, const char *begins)
{
        char *comma = strrchr(arg, ',');

        if (!comma || strncmp(comma + 1, begins, strlen(begins)))
                return NULL;
        *comma = '\0';
        return comma + 1;
}

int machine_config_add_disk(struct machine_config *c, const char *arg, struct err *e)
{
        AUTO_FREE char *path = strdup(arg);

        if (!path)
                return err_msg(e, ENOMEM, "no memory for a disk's name");
        if (c->ndisks == MACHINE_DISKS_MAX)
                return err_msg(e, E2BIG, "a VM has at most %d disks: leave out '%s'",
                               MACHINE_DISKS_MAX, arg);

        struct disk_config *d = &c->disk[c->ndisks];
        const char *word = cut_word(path, "ro");

        if (word && strcmp(word, "ro"))
                return err_msg(e, EINVAL, "disk '%s' is not PATH or PATH,ro", arg);
        d->read_only = word != NULL;

        int rc = absolute(path, d->path, sizeof(d->path), e);

        if (rc == 0)
                snprintf(d->id, sizeof(d->id), "disk%u", c->ndisks++);
        return rc;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
        unsigned b[6];
        int used = 0;

        if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
                   &used) != 6 || text[used] || (b[0] & 1))
                return false;
        for (unsigned i = 0; i < 6; i++)
                mac[i] = (uint8_t)b[i];
        return true;
}

static int make_up_mac(uint8_t mac[6], struct err *e)
{
        if (getrandom(mac, 6, 0) != 6)
                return err_set(e, errno, "make up a MAC address");
        mac[0] = (uint8_t)((mac[0] | 2) & ~1);  /* local, not a group */
        return 0;
}

int machine_config_add_net(struct machine_config *c, const char *arg, struct err *e)
{
        AUTO_FREE char *tap = strdup(arg);

        if (!tap)
                return err_msg(e, ENOMEM, "no memory for a network device's name");
        if (c->nnets == MACHINE_NETS_MAX)
                return err_msg(e, E2BIG, "a VM has at most %d network devices: leave out '%s'",
                               MACHINE_NETS_MAX, arg);

        struct net_config *n = &c->net[c->nnets];
        const char *mac = cut_word(tap, "mac=");
        int rc = 0;

        if (mac && !parse_mac(mac + strlen("mac="), n->mac))
                return err_msg(e, EINVAL, "'%s' is no MAC address such as 02:00:00:12:34:56",
                               mac + strlen("mac="));
        if (!mac)
                rc = make_up_mac(n->mac, e);
        if (rc == 0 && (strlen(tap) == 0 || strlen(tap) >= sizeof(n->tap)))
                rc = err_msg(e, EINVAL, "'%s' is not TAP or TAP,mac=XX:XX:XX:XX:XX:XX with the "
                             "name of a tap device", arg);
        if (rc < 0)
                return rc;
        strcpy(n->tap, tap);
        snprintf(n->id, sizeof(n->id), "net%u", c->nnets++);
        return 0;
}

int machine_config_set_vsock(struct machine_config *c, const char *arg, struct err *e)
{
        AUTO_FREE char *path = strdup(arg);
        uint64_t cid = CID_DEFAULT;
        int rc = 0;

        if (!path)
                return err_msg(e, ENOMEM, "no memory for the name of a socket");

        const char *word = cut_word(path, "cid=");

        if (word)
                rc = option_number(word + strlen("cid="), CID_MIN, CID_MAX, "cid", &cid, e);
        if (rc < 0)
                return rc;

        int room = (int)sizeof(c->vsock.path);
        /* it need not exist: no realpath() */
        AUTO_FREE char *here = path[0] == '/' ? strdup("") : getcwd(NULL, 0);
        int bytes = here ? snprintf(c->vsock.path, sizeof(c->vsock.path), "%s%s%s", here,
                                    path[0] == '/' ? "" : "/", path) : room;

        if (bytes >= room)
                return err_msg(e, ENAMETOOLONG, "the socket's path '%s' is longer than %d bytes",
                               path, room - 1);
        c->vsock.cid = (uint32_t)cid;
        return 0;
}

int machine_config_change_net(struct machine_config *c, const char *arg, struct err *e)
{
        const char *is = strchr(arg, '=');

        for (unsigned i = 0; is && i < c->nnets; i++) {
                struct net_config *n = &c->net[i];
                const char *tap = strcmp(is + 1, "none") ? is + 1 : "";

                if (strncmp(n->id, arg, (size_t)(is - arg)) || n->id[is - arg])
                        continue;
                if (strlen(tap) >= sizeof(n->tap))
                        return err_msg(e, EINVAL, "'%s' is no name of a tap device", tap);
                strcpy(n->tap, tap);
                return 0;
        }
        return err_msg(e, EINVAL, "'%s' is not ID=TAP or ID=none with the id of one of the "
                       "machine's %u network devices (net0, ...)", arg, c->nnets);
}

int machine_config_change_vsock(struct machine_config *c, const char *arg, struct err *e)
{
        uint32_t cid = c->vsock.cid;

        if (!cid)
                return err_msg(e, EINVAL, "the machine has no vsock");
        c->vsock.path[0] = '\0';
        if (!strcmp(arg, "none"))
                return 0;

        int rc = machine_config_set_vsock(c, arg, e);

        /* the guest knows its own */
        c->vsock.cid = cid;
        return rc;
}

void machine_config_unplug(struct machine_config *c)
{
        for (unsigned i = 0; i < c->nnets; i++)
                c->net[i].tap[0] = '\0';
        c->vsock.path[0] = '\0';
}

/* ---- JSON ------------------------------------------------------------------------ */

static struct json_object *encode_net(const struct net_config *n)
{
        struct json_object *o = json_object_new_object();
        char mac[18];

        snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1],
                 n->mac[2], n->mac[3], n->mac[4], n->mac[5]);
        json_put_str(o, "id", n->id);
        json_put_str(o, "tap", n->tap);
        json_put_str(o, "mac", mac);
        return o;
}

static struct json_object *encode_disk(const struct disk_config *d)
{
        struct json_object *o = json_object_new_object();

        json_put_str(o, "id", d->id);
        json_put_str(o, "path", d->path);
        json_put_bool(o, "read_only", d->read_only);
        return o;
}

void machine_config_encode(const struct machine_config *c, struct json_object *into)
{
        struct json_object *disks = json_object_new_array();
        struct json_object *nets = json_object_new_array();

        for (unsigned i = 0; i < c->ndisks; i++)
                json_object_array_add(disks, encode_disk(&c->disk[i]));
        for (unsigned i = 0; i < c->nnets; i++)
                json_object_array_add(nets, encode_net(&c->net[i]));
        json_object_object_add(into, "disks", disks);
        json_object_object_add(into, "nets", nets);
        json_put_bool(into, "rng", c->rng);
        json_put_bool(into, "balloon", c->balloon);
        json_put_bool(into, "vmgenid", c->vmgenid);
        if (c->vsock.cid) {
                struct json_object *vsock = json_object_new_object();

                json_put_u64(vsock, "cid", c->vsock.cid);
                json_put_str(vsock, "path", c->vsock.path);
                json_object_object_add(into, "vsock", vsock);
        }
}

static int take_text(struct json_object *o, const char *key, char *ret, size_t room, struct err *e)
{
        const char *text;
        int rc = json_take_str(o, key, &text, e);

        if (rc == 0 && strlen(text) >= room)
                rc = err_msg(e, EBADMSG, "'%s' is longer than %zu bytes", key, room - 1);
        if (rc == 0)
                strcpy(ret, text);
        return rc;
}

static int decode_disk(struct json_object *o, struct disk_config *ret, struct err *e)
{
        int rc = take_text(o, "id", ret->id, sizeof(ret->id), e);

        if (rc == 0)
                rc = take_text(o, "path", ret->path, sizeof(ret->path), e);
        if (rc == 0 && ret->path[0] != '/')
                rc = err_msg(e, EBADMSG, "the path '%s' of disk %s is not absolute", ret->path,
                             ret->id);
        if (rc == 0)
                rc = json_take_bool(o, "read_only", &ret->read_only, e);
        return rc;
}

static int decode_net(struct json_object *o, struct net_config *ret, struct err *e)
{
        const char *mac;
        int rc = take_text(o, "id", ret->id, sizeof(ret->id), e);

        if (rc == 0)
                rc = take_text(o, "tap", ret->tap, sizeof(ret->tap), e);
        if (rc == 0)
                rc = json_take_str(o, "mac", &mac, e);
        if (rc == 0 && !parse_mac(mac, ret->mac))
                rc = err_msg(e, EBADMSG, "'%s' is no MAC address", mac);
        return rc;
}

static int decode_vsock(struct json_object *o, struct vsock_config *ret, struct err *e)
{
        uint64_t cid;
        int rc = json_take_u64(o, "cid", CID_MAX, &cid, e);

        if (rc == 0 && cid < CID_MIN)
                rc = err_msg(e, EBADMSG, "vsock cid %llu is below %d", (unsigned long long)cid,
                             CID_MIN);
        if (rc == 0)
                rc = take_text(o, "path", ret->path, sizeof(ret->path), e);
        if (rc == 0)
                ret->cid = (uint32_t)cid;
        return rc;
}

/* As they are made: whoever looks for one by its id finds the one that is meant. */
static int check_id(const char *id, const char *kind, unsigned i, struct err *e)
{
        char want[MACHINE_ID_MAX + 1];

        snprintf(want, sizeof(want), "%s%u", kind, i);
        return strcmp(id, want) ? err_msg(e, EBADMSG, "'%s' stands where %s should", id, want) : 0;
}

static int decode_lists(struct json_object *from, struct machine_config *c, struct err *e)
{
        struct json_object *list;
        int rc = 0;

        if (json_object_object_get_ex(from, "disks", NULL)) {
                rc = json_take_array(from, "disks", MACHINE_DISKS_MAX, &list, e);
                for (; rc == 0 && c->ndisks < json_object_array_length(list); c->ndisks++) {
                        rc = decode_disk(json_object_array_get_idx(list, c->ndisks),
                                         &c->disk[c->ndisks], e);
                        if (rc == 0)
                                rc = check_id(c->disk[c->ndisks].id, "disk", c->ndisks, e);
                }
        }
        if (rc == 0 && json_object_object_get_ex(from, "nets", NULL)) {
                rc = json_take_array(from, "nets", MACHINE_NETS_MAX, &list, e);
                for (; rc == 0 && c->nnets < json_object_array_length(list); c->nnets++) {
                        rc = decode_net(json_object_array_get_idx(list, c->nnets),
                                        &c->net[c->nnets], e);
                        if (rc == 0)
                                rc = check_id(c->net[c->nnets].id, "net", c->nnets, e);
                }
        }
        return rc;
}

int machine_config_decode(struct json_object *from, struct machine_config *ret, struct err *e)
{
        const struct {
                const char *key;
                bool *value;
        } flags[] = {
                { "rng", &ret->rng }, { "balloon", &ret->balloon }, { "vmgenid", &ret->vmgenid },
        };
        struct json_object *vsock;

        memset(ret, 0, sizeof(*ret));

        int rc = decode_lists(from, ret, e);

        for (size_t i = 0; i < ARRAY_SIZE(flags) && rc == 0; i++) {
                if (json_object_object_get_ex(from, flags[i].key, NULL))
                        rc = json_take_bool(from, flags[i].key, flags[i].value, e);
        }
        if (rc == 0 && json_object_object_get_ex(from, "vsock", NULL)) {
                rc = json_take_obj(from, "vsock", &vsock, e);
                if (rc == 0)
                        rc = decode_vsock(vsock, &ret->vsock, e);
        }
        return rc < 0 ? err_in(e, rc, "the machine's devices") : 0;
}
