/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no body of a request for a VM makes its parser misbehave, and what it lets through is
 *   within the limits that the building of a VM relies on.
 * Method: libFuzzer, or mutations of two good bodies (mutate.h). */
#include <string.h>

#include "common/check.h"
#include "tests/fuzz/mutate.h"
#include "vmm/create-request.h"
#include "vmm/kvm.h"
#include "vmm/ram.h"

static void check(const struct create_request *q)
{
        const struct create_fresh *f = &q->fresh;
        struct ram ram;

        ASSERT(!q->name[0] || rundir_check_name(q->name, NULL) == 0);
        ASSERT(!q->console[0] || q->console[0] == '/');
        if (q->snapshot.path[0]) {
                ASSERT(q->snapshot.path[0] == '/' && q->snapshot.hold_percent <= 100);
                ASSERT(!q->hugepages || q->snapshot.lane != PS_LANE_SHARED);
                return;
        }
        ASSERT(f->demo != (f->kernel[0] == '/'));
        ASSERT(f->cpus >= 1 && f->cpus <= VCPUS_MAX && ram_init(&ram, f->memory_bytes, NULL) == 0);
        ASSERT(strlen(f->cmdline) <= CREATE_CMDLINE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        struct create_request q;
        struct err e = { 0 };
        int rc = create_request_parse((const char *)data, bytes, &q, &e);

        if (rc == 0)
                check(&q);
        else
                ASSERT(e.code == rc && e.text[0]);
        rc = create_request_parse_load((const char *)data, bytes, &q, &e);
        ASSERT(rc < 0 || q.snapshot.path[0] == '/');
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        static char fresh[] = "{\"name\":\"a\",\"kernel\":\"/k\",\"initrd\":\"/i\","
                              "\"cmdline\":\"c\",\"memory\":\"64M\",\"cpus\":2,\"console\":\"/c\","
                              "\"resume\":false,\"hugepages\":true}";
        static char snapshot[] = "{\"snapshot\":\"/s\",\"tag\":\"t\",\"allow_parent\":\"/p\","
                                 "\"postcopy\":9,\"prefetch\":\"2M\",\"lane\":\"copy\","
                                 "\"pageserver\":\"/x\",\"resume\":true}";
        int status = mutate_main(argc, argv, (uint8_t *)fresh, strlen(fresh));

        return status || argc > 1 ? status
                                  : mutate_main(argc, argv, (uint8_t *)snapshot, strlen(snapshot));
}

#endif
