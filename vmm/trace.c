/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/trace.h"

#include <stdlib.h>

#include "common/check.h"
#include "common/json.h"

/* more than there are */
#define PHASES_MAX 32

struct phase {
        const char *name;
        uint64_t at_us;
};

static int compare(const void *a, const void *b)
{
        const struct phase *x = a, *y = b;

        return (x->at_us > y->at_us) - (x->at_us < y->at_us);
}

static size_t collect(struct json_object *phases, struct phase ret[PHASES_MAX])
{
        size_t n = 0;

        json_object_object_foreach(phases, name, value) {
                (void)value;
                ret[n].name = name;
                if (n < PHASES_MAX - 1 &&
                    json_take_u64(phases, name, UINT64_MAX, &ret[n].at_us, NULL) == 0)
                        n++;
        }
        return n;
}

void trace_print(FILE *out, struct json_object *report)
{
        struct phase phase[PHASES_MAX];
        struct json_object *phases;
        uint64_t before_us = 0, kvm_us, own_us;

        if (json_take_obj(report, "phases", &phases, NULL) < 0)
                return;

        size_t n = collect(phases, phase);

        qsort(phase, n, sizeof(phase[0]), compare);
        for (size_t i = 0; i < n; i++) {
                fprintf(out, "trace: %-17s %9llu us  + %llu\n", phase[i].name,
                        (unsigned long long)phase[i].at_us,
                        (unsigned long long)(phase[i].at_us - before_us));
                before_us = phase[i].at_us;
        }
        if (json_take_u64(report, "kvm_us", UINT64_MAX, &kvm_us, NULL) == 0 &&
            json_take_u64(report, "own_us", UINT64_MAX, &own_us, NULL) == 0)
                fprintf(out, "trace: of which in KVM's calls %llu us, our own %llu us\n",
                        (unsigned long long)kvm_us, (unsigned long long)own_us);
}
