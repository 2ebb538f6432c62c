/* SPDX-License-Identifier: Apache-2.0 */
/* struct machine_state <-> JSON document and blob. No KVM here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "vmm/state-priv.h"

void state_blob_fini(struct state_blob *blob)
{
        free(blob->data);
        *blob = (struct state_blob){ 0 };
}

/* ---- encode ---- */

static void sections_encode(const struct state_section *s, size_t n, const void *base,
                            struct json_object *o)
{
        for (size_t i = 0; i < n; i++)
                state_json_add(o, s[i].table->name,
                               state_table_encode(s[i].table,
                                                  (const uint8_t *)base + s[i].offset));
}

static struct json_object *rows_encode(const struct state_table *t, const void *rows, size_t n)
{
        struct json_object *array = json_object_new_array_ext((int)n + 1);

        for (size_t i = 0; i < n; i++)
                json_object_array_add(array, state_row_encode(t, (const uint8_t *)rows +
                                                                 i * t->struct_bytes));
        return array;
}

/* The blob has room: state_encode added up the pieces. */
static struct json_object *piece_encode(struct state_blob *blob, const void *data, size_t bytes)
{
        struct json_object *o = json_object_new_object();

        memcpy(blob->data + blob->bytes, data, bytes);
        json_put_u64(o, "offset", blob->bytes);
        json_put_u64(o, "bytes", bytes);
        blob->bytes += bytes;
        return o;
}

static struct json_object *vcpu_encode(const struct state_vcpu *v, struct state_blob *blob)
{
        struct json_object *o = json_object_new_object();

        sections_encode(state_vcpu_sections, state_vcpu_nsections, v, o);
        state_json_add(o, "cpuid", rows_encode(&state_cpuid_row, v->cpuid.entries, v->cpuid.nent));
        state_json_add(o, "msrs", rows_encode(&state_msr_row, v->msrs.entries, v->msrs.nmsrs));
        state_json_add(o, "xsave", piece_encode(blob, v->xsave, v->xsave_bytes));
        state_json_add(o, "lapic", piece_encode(blob, &v->lapic, sizeof(v->lapic)));
        return o;
}

int state_encode(const struct machine_state *m, struct json_object **ret,
                 struct state_blob *ret_blob, struct err *e)
{
        size_t room = 0;

        for (unsigned i = 0; i < m->cpus; i++)
                room += m->vcpu[i].xsave_bytes + sizeof(m->vcpu[i].lapic);

        struct state_blob blob = { .data = malloc(room) };

        if (!blob.data)
                return err_msg(e, ENOMEM, "no memory for %zu bytes of machine state", room);

        struct json_object *o = json_object_new_object();
        struct json_object *vcpus = json_object_new_array_ext((int)m->cpus);

        json_put_u64(o, "version", STATE_VERSION);
        sections_encode(state_vm_sections, state_vm_nsections, m, o);
        for (unsigned i = 0; i < m->cpus; i++)
                json_object_array_add(vcpus, vcpu_encode(&m->vcpu[i], &blob));
        state_json_add(o, "vcpus", vcpus);
        ASSERT(blob.bytes == room);
        *ret = o;
        *ret_blob = blob;
        return 0;
}

/* ---- decode: everything below reads untrusted input ---- */

static int sections_decode(const struct state_section *s, size_t n, struct json_object *o,
                           void *base, struct err *e)
{
        for (size_t i = 0; i < n; i++) {
                struct json_object *section;
                int rc = json_take_obj(o, s[i].table->name, &section, e);

                if (rc == 0)
                        rc = state_table_decode(s[i].table, section,
                                                (uint8_t *)base + s[i].offset, e);
                if (rc < 0)
                        return rc;
        }
        return 0;
}

static int rows_decode(const struct state_table *t, struct json_object *o, size_t max,
                       void *rows, uint32_t *ret_n, struct err *e)
{
        struct json_object *array;
        int rc = json_take_array(o, t->name, max, &array, e);

        if (rc < 0)
                return rc;

        size_t n = json_object_array_length(array);

        for (size_t i = 0; i < n; i++) {
                rc = state_row_decode(t, json_object_array_get_idx(array, i),
                                      (uint8_t *)rows + i * t->struct_bytes, e);
                if (rc < 0)
                        return rc;
        }
        *ret_n = (uint32_t)n;
        return 0;
}

static int piece_decode(struct json_object *o, const char *key, const struct state_blob *blob,
                        size_t max_bytes, void *data, size_t *ret_bytes, struct err *e)
{
        struct json_object *piece;
        uint64_t offset, bytes;
        int rc = json_take_obj(o, key, &piece, e);

        if (rc == 0)
                rc = json_take_u64(piece, "offset", blob->bytes, &offset, e);
        if (rc == 0)
                rc = json_take_u64(piece, "bytes", MIN(max_bytes, blob->bytes - offset), &bytes,
                                   e);
        if (rc < 0)
                return err_in(e, rc, "'%s' in %zu bytes of blob", key, blob->bytes);
        if (bytes > 0)
                memcpy(data, blob->data + offset, bytes);
        *ret_bytes = bytes;
        return 0;
}

static int pieces_decode(struct json_object *o, const struct state_blob *blob,
                         struct state_vcpu *v, struct err *e)
{
        size_t lapic_bytes = 0;
        int rc = piece_decode(o, "xsave", blob, sizeof(v->xsave), v->xsave, &v->xsave_bytes, e);

        if (rc == 0)
                rc = piece_decode(o, "lapic", blob, sizeof(v->lapic), &v->lapic, &lapic_bytes, e);
        if (rc == 0 && v->xsave_bytes < sizeof(struct kvm_xsave))
                rc = err_msg(e, EBADMSG, "'xsave' has %zu bytes, at least %zu are needed",
                             v->xsave_bytes, sizeof(struct kvm_xsave));
        if (rc == 0 && lapic_bytes != sizeof(v->lapic))
                rc = err_msg(e, EBADMSG, "'lapic' has %zu bytes, %zu are needed", lapic_bytes,
                             sizeof(v->lapic));
        return rc;
}

static int vcpu_decode(struct json_object *o, const struct state_blob *blob,
                       struct state_vcpu *v, struct err *e)
{
        if (!json_object_is_type(o, json_type_object))
                return err_msg(e, EBADMSG, "it is not a JSON object");

        int rc = sections_decode(state_vcpu_sections, state_vcpu_nsections, o, v, e);

        if (rc == 0)
                rc = rows_decode(&state_cpuid_row, o, STATE_CPUID_MAX, v->cpuid.entries,
                                 &v->cpuid.nent, e);
        if (rc == 0)
                rc = rows_decode(&state_msr_row, o, STATE_MSRS_MAX, v->msrs.entries,
                                 &v->msrs.nmsrs, e);
        if (rc == 0)
                rc = pieces_decode(o, blob, v, e);
        return rc;
}

/* The version comes first: nothing else is known to mean what we think. */
static int vcpus_take(struct json_object *o, struct json_object **ret, struct err *e)
{
        uint64_t version;
        int rc = json_take_u64(o, "version", UINT64_MAX, &version, e);

        if (rc < 0)
                return rc;
        if (version > STATE_VERSION)
                return err_msg(e, ENOTSUP, "saved by a newer version of vmm (state version %llu; "
                               "this one reads up to %d): revert with that version",
                               (unsigned long long)version, STATE_VERSION);
        if (version == 0)
                return err_msg(e, EBADMSG, "state version 0 does not exist");

        struct json_object *vcpus;

        rc = json_take_array(o, "vcpus", VCPUS_MAX, &vcpus, e);
        if (rc < 0)
                return rc;
        if (json_object_array_length(vcpus) == 0)
                return err_msg(e, EBADMSG, "no vCPU was saved");
        *ret = vcpus;
        return 0;
}

int state_vcpu_count(struct json_object *kvm_state, unsigned *ret, struct err *e)
{
        struct json_object *vcpus;
        int rc = vcpus_take(kvm_state, &vcpus, e);

        if (rc < 0)
                return err_in(e, rc, "saved machine state");
        *ret = (unsigned)json_object_array_length(vcpus);
        return 0;
}

static int document_decode(struct json_object *o, const struct state_blob *blob,
                           struct machine_state *m, struct err *e)
{
        struct json_object *vcpus;
        int rc = vcpus_take(o, &vcpus, e);

        if (rc == 0)
                rc = sections_decode(state_vm_sections, state_vm_nsections, o, m, e);
        if (rc < 0)
                return rc;
        m->cpus = (unsigned)json_object_array_length(vcpus);
        for (unsigned i = 0; i < m->cpus; i++) {
                rc = vcpu_decode(json_object_array_get_idx(vcpus, i), blob, &m->vcpu[i], e);
                if (rc < 0)
                        return err_in(e, rc, "vCPU %u", i);
        }
        return 0;
}

int state_decode(struct json_object *o, const struct state_blob *blob,
                 struct machine_state **ret, struct err *e)
{
        AUTO_FREE struct machine_state *m = calloc(1, sizeof(*m));

        if (!m)
                return err_msg(e, ENOMEM, "no memory for the machine state");

        int rc = document_decode(o, blob, m, e);

        if (rc < 0)
                return err_in(e, rc, "saved machine state");
        *ret = ptr_take(&m);
        return 0;
}
