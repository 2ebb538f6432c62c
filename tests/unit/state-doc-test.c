/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a saved state comes back from JSON text and blob bit by bit; a damaged
 *       or foreign one is refused with a sentence.
 * Method: states with random numbers in every field; single damages. No KVM. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/state-sample.h"
#include "tests/unit/suite.h"

struct doc {
        struct machine_state *state;
        struct json_object *json;
        struct state_blob blob;
};

static struct doc doc_new(unsigned cpus)
{
        struct doc d = { .state = sample_state(cpus, 1 + cpus) };
        struct json_object *o = NULL;
        struct err e;
        int rc = state_encode(d.state, &o, &d.blob, &e);

        ASSERT(rc == 0);
        d.json = sample_reparse(o);
        json_object_put(o);
        return d;
}

static void doc_fini(struct doc *d)
{
        free(d->state);
        json_object_put(d->json);
        state_blob_fini(&d->blob);
}

static int doc_decode(const struct doc *d, struct err *e)
{
        AUTO_FREE struct machine_state *m = NULL;

        return state_decode(d->json, &d->blob, &m, e);
}

static struct json_object *vcpu_of(const struct doc *d, unsigned cpu)
{
        struct json_object *vcpus;

        json_object_object_get_ex(d->json, "vcpus", &vcpus);
        return json_object_array_get_idx(vcpus, cpu);
}

static struct json_object *member(struct json_object *o, const char *key)
{
        struct json_object *v = NULL;

        json_object_object_get_ex(o, key, &v);
        ASSERT(v != NULL);
        return v;
}

/* ---- the tables themselves ---- */

struct unnamed {
        const char *table;
        size_t bytes;                   /* padding and reserved */
};

static const struct unnamed unnamed[] = {
        { "clock", 20 }, { "pic_master", 0 }, { "pic_slave", 0 }, { "ioapic", 4 }, { "pit", 36 },
        { "mp_state", 0 }, { "regs", 0 }, { "sregs", 20 }, { "xcrs", 192 }, { "debugregs", 72 },
        { "events", 27 }, { "tsc", 3 }, { "shadow_stack", 7 }, { "cpuid", 12 }, { "msrs", 4 },
};

static size_t unnamed_of(const char *table)
{
        for (size_t i = 0; i < ARRAY_SIZE(unnamed); i++)
                if (strcmp(unnamed[i].table, table) == 0)
                        return unnamed[i].bytes;
        return SIZE_MAX;
}

/* INV-TABLE */
static void check_table(const struct state_table *t)
{
        uint8_t named[1024] = { 0 };
        size_t free_bytes = 0;

        CU_ASSERT_FATAL(t->struct_bytes <= sizeof(named));
        for (size_t i = 0; i < t->nfields; i++) {
                const struct state_field *f = &t->fields[i];

                for (unsigned j = 0; j < f->count; j++) {
                        size_t at = f->offset + (size_t)j * f->stride;

                        CU_ASSERT_FATAL(at + f->bytes <= t->struct_bytes);
                        for (size_t b = 0; b < f->bytes; b++)
                                CU_ASSERT(named[at + b]++ == 0);
                }
        }
        for (size_t b = 0; b < t->struct_bytes; b++)
                free_bytes += named[b] == 0;
        CU_ASSERT(free_bytes == unnamed_of(t->name));
}

static void tables_cover_structs(void)
{
        for (size_t i = 0; i < state_vm_nsections; i++)
                check_table(state_vm_sections[i].table);
        for (size_t i = 0; i < state_vcpu_nsections; i++)
                check_table(state_vcpu_sections[i].table);
        check_table(&state_cpuid_row);
        check_table(&state_msr_row);
}

/* ---- round trip ---- */

static void round_trip(void)
{
        for (unsigned cpus = 1; cpus <= VCPUS_MAX; cpus++) {
                struct doc d = doc_new(cpus);
                AUTO_FREE struct machine_state *m = NULL;
                struct err e = { 0 };
                unsigned count = 0;

                CU_ASSERT(state_decode(d.json, &d.blob, &m, &e) == 0);
                CU_ASSERT_FATAL(m != NULL);
                CU_ASSERT(memcmp(m, d.state, sizeof(*m)) == 0);
                CU_ASSERT(state_vcpu_count(d.json, &count, &e) == 0 && count == cpus);
                doc_fini(&d);
        }
}

/* ---- numbers ---- */

struct number_case {
        const char *text;
        bool taken;
};

static const struct number_case numbers[] = {
        { "0", true }, { "9223372036854775807", true }, { "9223372036854775808", true },
        { "18446744073709551615", true },
        { "18446744073709551616", true },       /* json-c reads it as 2^64 - 1 */
        { "-1", false },
        { "-9223372036854775809", false }, { "1.0", false }, { "1e3", false }, { "\"1\"", false },
        { "true", false }, { "null", false }, { "[1]", false }, { "{}", false },
};

static void numbers_are_checked(void)
{
        struct doc d = doc_new(1);

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                AUTO_FREE struct machine_state *m = NULL;
                char text[64];
                struct json_object *o = NULL;
                struct err e = { 0 };

                snprintf(text, sizeof(text), "{\"v\":%s}", numbers[i].text);
                /* a number beyond 64 bits may already fail to parse */
                if (json_parse(text, strlen(text), &o, &e) < 0) {
                        CU_ASSERT(!numbers[i].taken);
                        continue;
                }
                json_object_object_add(member(vcpu_of(&d, 0), "regs"), "rip",
                                       json_object_get(json_object_object_get(o, "v")));
                json_object_put(o);

                int rc = state_decode(d.json, &d.blob, &m, &e);

                CU_ASSERT((rc == 0) == numbers[i].taken);
                if (rc == 0) {
                        CU_ASSERT(m->vcpu[0].regs.rip == strtoull(numbers[i].text, NULL, 10));
                } else {
                        CU_ASSERT(strstr(e.text, "'rip' of 'regs'") != NULL);
                }
        }
        doc_fini(&d);
}

/* One more than fits, in every field of every table. */
static void try_too_big(struct doc *d, const struct state_section *s, struct json_object *o)
{
        for (size_t k = 0; k < s->table->nfields; k++) {
                const struct state_field *f = &s->table->fields[k];
                struct json_object *section = member(o, s->table->name);
                struct json_object *was = json_object_get(member(section, f->name));
                struct err e = { 0 };

                if (f->bytes == 8 || f->count > 1) {
                        json_object_put(was);
                        continue;
                }
                json_object_object_add(section, f->name,
                                       json_object_new_uint64(1ull << 8 * f->bytes));
                CU_ASSERT(doc_decode(d, &e) == -EBADMSG && strstr(e.text, f->name));
                json_object_object_add(section, f->name, was);
        }
}

static void try_missing(struct doc *d, const struct state_section *s, struct json_object *o)
{
        for (size_t k = 0; k < s->table->nfields; k++) {
                const struct state_field *f = &s->table->fields[k];
                struct json_object *section = member(o, s->table->name);
                struct json_object *was = json_object_get(member(section, f->name));
                struct err e = { 0 };

                json_object_object_del(section, f->name);
                CU_ASSERT(doc_decode(d, &e) == -EBADMSG && strstr(e.text, f->name));
                json_object_object_add(section, f->name, was);
        }
}

static void each_field_is_needed(void)
{
        struct doc d = doc_new(1);
        struct err e;

        for (size_t i = 0; i < state_vm_nsections; i++) {
                try_missing(&d, &state_vm_sections[i], d.json);
                try_too_big(&d, &state_vm_sections[i], d.json);
        }
        for (size_t i = 0; i < state_vcpu_nsections; i++) {
                try_missing(&d, &state_vcpu_sections[i], vcpu_of(&d, 0));
                try_too_big(&d, &state_vcpu_sections[i], vcpu_of(&d, 0));
        }
        CU_ASSERT(doc_decode(&d, &e) == 0);
        doc_fini(&d);
}

/* ---- versions, counts, blob ---- */

static void versions(void)
{
        struct doc d = doc_new(1);
        struct err e = { 0 };
        unsigned count;

        json_object_object_add(d.json, "version", json_object_new_uint64(STATE_VERSION + 1));
        CU_ASSERT(doc_decode(&d, &e) == -ENOTSUP);
        CU_ASSERT(strstr(e.text, "saved by a newer version") != NULL);
        CU_ASSERT(state_vcpu_count(d.json, &count, &e) == -ENOTSUP);
        json_object_object_add(d.json, "version", json_object_new_uint64(UINT64_MAX));
        CU_ASSERT(doc_decode(&d, &e) == -ENOTSUP);
        json_object_object_add(d.json, "version", json_object_new_uint64(0));
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG);
        json_object_object_del(d.json, "version");
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG);
        doc_fini(&d);
}

static void grow(struct json_object *array, size_t items)
{
        while (json_object_array_length(array) < items)
                json_object_array_add(array, json_object_get(json_object_array_get_idx(array, 0)));
}

static void counts_are_bounded(void)
{
        struct doc d = doc_new(1);
        struct json_object *vcpu = vcpu_of(&d, 0);
        struct err e = { 0 };

        grow(member(vcpu, "msrs"), STATE_MSRS_MAX);
        grow(member(vcpu, "cpuid"), STATE_CPUID_MAX);
        grow(member(d.json, "vcpus"), VCPUS_MAX);
        CU_ASSERT(doc_decode(&d, &e) == 0);
        grow(member(d.json, "vcpus"), VCPUS_MAX + 1);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG);
        json_object_array_del_idx(member(d.json, "vcpus"), 1, VCPUS_MAX);
        grow(member(vcpu, "msrs"), STATE_MSRS_MAX + 1);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG && strstr(e.text, "msrs"));
        json_object_array_del_idx(member(vcpu, "msrs"), 1, STATE_MSRS_MAX);
        grow(member(vcpu, "cpuid"), STATE_CPUID_MAX + 1);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG && strstr(e.text, "cpuid"));
        json_object_array_del_idx(member(d.json, "vcpus"), 0, 1);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG && strstr(e.text, "no vCPU"));
        doc_fini(&d);
}

static void arrays_have_their_length(void)
{
        struct doc d = doc_new(1);
        struct json_object *vcpu = vcpu_of(&d, 0);
        struct json_object *values = member(member(vcpu, "xcrs"), "xcrs.value");
        struct json_object *row = json_object_array_get_idx(member(vcpu, "msrs"), 0);
        struct err e = { 0 };

        json_object_array_del_idx(values, 0, 1);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG && strstr(e.text, "xcrs.value"));
        grow(values, KVM_MAX_XCRS);
        CU_ASSERT(doc_decode(&d, &e) == 0);
        grow(row, 3);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG && strstr(e.text, "msrs"));
        doc_fini(&d);
}

struct piece_case {
        const char *piece;
        uint64_t offset, bytes;
};

/* The blob of one vCPU has 4160 bytes of XSAVE and 1024 of LAPIC. */
static const struct piece_case bad_pieces[] = {
        { "xsave", 0, 4095 },                           /* too short for KVM */
        { "xsave", 0, 5185 },                           /* one beyond the blob */
        { "xsave", 5184, 4096 }, { "xsave", 5185, 0 }, { "xsave", UINT64_MAX, 4096 },
        { "xsave", 1, UINT64_MAX }, { "xsave", 4096, UINT64_MAX - 4095 },
        { "lapic", 0, 1023 }, { "lapic", 0, 1025 }, { "lapic", 4161, 1024 },
        { "lapic", UINT64_MAX - 1023, 1024 },
};

static void pieces_stay_inside(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(bad_pieces); i++) {
                const struct piece_case *c = &bad_pieces[i];
                struct doc d = doc_new(1);
                struct json_object *piece = member(vcpu_of(&d, 0), c->piece);
                struct err e = { 0 };

                CU_ASSERT_FATAL(d.blob.bytes == 5184);
                json_object_object_add(piece, "offset", json_object_new_uint64(c->offset));
                json_object_object_add(piece, "bytes", json_object_new_uint64(c->bytes));
                CU_ASSERT(doc_decode(&d, &e) == -EBADMSG && strstr(e.text, c->piece));
                doc_fini(&d);
        }

        struct doc d = doc_new(1);
        struct err e = { 0 };

        state_blob_fini(&d.blob);
        CU_ASSERT(doc_decode(&d, &e) == -EBADMSG);
        doc_fini(&d);
}

static const CU_TestInfo cases[] = {
        { "tables name every byte that is not padding, once", tables_cover_structs },
        { "1 to 8 vCPUs come back bit by bit", round_trip },
        { "numbers are whole, not negative and fit", numbers_are_checked },
        { "each field of each table is needed and bounded", each_field_is_needed },
        { "newer and unknown versions are refused", versions },
        { "counts have limits", counts_are_bounded },
        { "arrays have their length", arrays_have_their_length },
        { "pieces lie inside the blob", pieces_stay_inside },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("state-doc", cases);
}
