/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no JSON text and no blob makes decoding a saved state crash, read
 *       outside its input or leave a count beyond its limit.
 * Method: input is 4 bytes of little-endian JSON length, the JSON, the blob.
 *       With libFuzzer it is a fuzz target. Without, main() decodes the files
 *       it is given or, with none, a valid state and mutations of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/state-sample.h"
#include "vmm/cpu-compat.h"

#define LENGTH_BYTES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void ignore(void *ctx, const char *field, const char *was, const char *is)
{
        *(size_t *)ctx += strlen(field) + strlen(was) + strlen(is);
}

static void check_limits(const struct machine_state *m)
{
        ASSERT(m->cpus >= 1 && m->cpus <= VCPUS_MAX);
        for (unsigned i = 0; i < m->cpus; i++) {
                const struct state_vcpu *v = &m->vcpu[i];

                ASSERT(v->cpuid.nent <= STATE_CPUID_MAX && v->msrs.nmsrs <= STATE_MSRS_MAX);
                ASSERT(v->xsave_bytes >= sizeof(struct kvm_xsave));
                ASSERT(v->xsave_bytes <= STATE_XSAVE_BYTES_MAX);
                (void)state_vcpu_deadline(v);
        }
}

/* What is said of it can be printed. */
static void check_cpu(const struct machine_state *m)
{
        const struct cpu_model none = { .vendor = "none" };
        struct cpu_model guest;

        state_cpu_model(m, &guest);
        ASSERT(memchr(guest.vendor, '\0', sizeof(guest.vendor)));
        for (const char *c = guest.vendor; *c; c++)
                ASSERT(*c >= ' ' && *c <= '~');
        json_object_put(cpu_compat_describe(&guest, &none));
}

/* -1 refused, 0 decoded */
static int decode(const char *json, size_t json_bytes, struct state_blob *blob)
{
        AUTO_JSON *o = NULL;
        AUTO_FREE struct machine_state *m = NULL;
        struct err e = { 0 };
        unsigned cpus = 0;
        size_t text = 0;

        if (json_parse(json, json_bytes, &o, &e) < 0)
                return -1;

        bool counted = state_vcpu_count(o, &cpus, &e) == 0;

        if (state_decode(o, blob, &m, &e) < 0) {
                ASSERT(e.text[0] != '\0');
                return -1;
        }
        ASSERT(counted && cpus == m->cpus);
        check_limits(m);
        check_cpu(m);
        ASSERT(state_compare(o, blob, o, blob, ignore, &text, &e) == 0);
        return 0;
}

static int decode_input(const uint8_t *data, size_t bytes)
{
        if (bytes < LENGTH_BYTES)
                return -1;

        size_t json_bytes = MIN((size_t)get_le32(data), bytes - LENGTH_BYTES);
        const uint8_t *behind = data + LENGTH_BYTES + json_bytes;
        struct state_blob blob = { .bytes = bytes - LENGTH_BYTES - json_bytes };

        /* copies of their exact size, so that a sanitizer sees their ends */
        AUTO_FREE char *json = malloc(json_bytes + 1);
        AUTO_FREE uint8_t *blob_data = malloc(blob.bytes + 1);

        ASSERT(json != NULL && blob_data != NULL);
        memcpy(json, data + LENGTH_BYTES, json_bytes);
        json[json_bytes] = '\0';
        memcpy(blob_data + 1, behind, blob.bytes);
        blob.data = blob_data + 1;
        return decode(json, json_bytes, &blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        (void)decode_input(data, bytes);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

/* enough to hit every field of the sample some times, in a second */
#define MUTATIONS 3000
#define SEED 0x5eedull

static uint8_t *valid_input(size_t *ret_bytes)
{
        AUTO_FREE struct machine_state *m = sample_state(1, SEED);
        AUTO_JSON *o = NULL;
        struct state_blob blob = { 0 };
        struct err e;
        int rc = state_encode(m, &o, &blob, &e);

        ASSERT(rc == 0);

        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        size_t text_bytes = strlen(text);
        uint8_t *input = malloc(LENGTH_BYTES + text_bytes + blob.bytes);

        ASSERT(input != NULL);
        put_le32(input, (uint32_t)text_bytes);
        memcpy(input + LENGTH_BYTES, text, text_bytes);
        memcpy(input + LENGTH_BYTES + text_bytes, blob.data, blob.bytes);
        *ret_bytes = LENGTH_BYTES + text_bytes + blob.bytes;
        state_blob_fini(&blob);
        return input;
}

/* Bytes that mean something to a JSON parser are likelier to get far. */
static void mutate(uint8_t *input, size_t bytes, uint64_t *seed)
{
        static const char tokens[] = "0123456789-.e,:[]{}\"ntf ";
        unsigned changes = 1 + sample_random(seed) % 3;

        for (unsigned i = 0; i < changes; i++) {
                size_t at = LENGTH_BYTES + sample_random(seed) % (bytes - LENGTH_BYTES);

                if (sample_random(seed) % 4 == 0)
                        at = sample_random(seed) % LENGTH_BYTES;
                input[at] = (uint8_t)tokens[sample_random(seed) % (sizeof(tokens) - 1)];
        }
}

static int run_mutations(void)
{
        size_t bytes = 0;
        AUTO_FREE uint8_t *valid = valid_input(&bytes);
        AUTO_FREE uint8_t *input = malloc(bytes);
        uint64_t seed = SEED;
        unsigned taken = 0;

        ASSERT(input != NULL);
        if (decode_input(valid, bytes) < 0) {
                fprintf(stderr, "the valid state is refused\n");
                return 1;
        }
        for (unsigned i = 0; i < MUTATIONS; i++) {
                memcpy(input, valid, bytes);
                mutate(input, bytes, &seed);
                taken += decode_input(input, bytes - sample_random(&seed) % 3) == 0;
        }
        printf("%u of %u mutations decode\n", taken, MUTATIONS);
        /* neither all nor none, else this tests nothing */
        return taken > 0 && taken < MUTATIONS ? 0 : 1;
}

int main(int argc, char **argv)
{
        for (int i = 1; i < argc; i++) {
                AUTO_FREE char *data = NULL;
                size_t bytes = 0;
                FILE *f = fopen(argv[i], "rb");
                int rc = f ? io_read_all(fileno(f), 16 << 20, &data, &bytes) : -1;

                if (f)
                        fclose(f);
                if (rc < 0) {
                        fprintf(stderr, "can not read '%s'\n", argv[i]);
                        return 1;
                }
                (void)decode_input((const uint8_t *)data, bytes);
        }
        return argc > 1 ? 0 : run_mutations();
}

#endif
