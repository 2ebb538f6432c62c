/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no body of a request to save makes its parser misbehave, and what it lets through
 *   is within the limits that the save relies on.
 * Method: libFuzzer, or mutations of one good body (mutate.h). */
#include <string.h>

#include "common/check.h"
#include "tests/fuzz/mutate.h"
#include "vmm/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        struct save_request r;
        struct err e = { 0 };
        int rc = control_parse_save((const char *)data, bytes, &r, &e);

        if (rc < 0) {
                ASSERT(e.code == rc && e.text[0]);
                return 0;
        }
        ASSERT(r.path[0] == '/' && strlen(r.path) < sizeof(r.path));
        ASSERT(!r.backing[0] || r.backing[0] == '/');
        ASSERT(r.mode == SAVE_LIVE || r.mode == SAVE_PAUSED || r.mode == SAVE_STOP);
        ASSERT(!r.staging_bytes || r.staging_bytes >= SAVE_STAGING_MIN);
        ASSERT(r.writer.cluster_bits >= QS_CLUSTER_BITS_MIN &&
               r.writer.cluster_bits <= QS_CLUSTER_BITS_MAX);
        ASSERT(r.writer.append == (r.writer.tag[0] != '\0'));
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        static char good[] = "{\"snapshot_path\":\"/a\",\"backing\":\"/b\",\"tag\":\"t\","
                             "\"mode\":\"live\",\"staging\":4194304,\"compress\":\"zstd\","
                             "\"level\":3,\"cluster_size\":65536,\"force\":true,"
                             "\"progress\":true}";

        return mutate_main(argc, argv, (uint8_t *)good, strlen(good));
}

#endif
