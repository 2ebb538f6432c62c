/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: nothing that an image says of its disks makes the parser misbehave, or leads to a
 *   file that is neither beside the image nor named in full.
 * Method: libFuzzer, or mutations of one good document (mutate.h). */
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/fuzz/mutate.h"
#include "vmm/kept-disks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        AUTO_FREE struct kept_disks *k = malloc(sizeof(*k));
        AUTO_JSON *o = NULL;
        struct err e = { 0 };

        if (!k || json_parse((const char *)data, bytes, &o, NULL) < 0 ||
            !json_object_is_type(o, json_type_object))
                return 0;

        int rc = kept_disks_decode(o, k, &e);

        ASSERT(rc == 0 || (e.code == rc && e.text[0]));
        for (unsigned i = 0; rc == 0 && i < k->n; i++) {
                const char *path = k->disk[i].identity.path;

                ASSERT(i < MACHINE_DISKS_MAX && k->disk[i].id[0]);
                ASSERT(memchr(path, '\0', sizeof(k->disk[i].identity.path)));
                ASSERT(k->disk[i].kept ? !strchr(path, '/') : path[0] == '/');
        }
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

int main(int argc, char **argv)
{
        static char good[] = "{\"disks_kept\":[{\"id\":\"disk0\",\"kept\":true,"
                             "\"path\":\"a-01234567.disk0\",\"bytes\":512,\"recipe\":1,"
                             "\"content\":\"0123456789abcdef\",\"mtime_ns\":-1,\"inode\":2},"
                             "{\"id\":\"disk1\",\"kept\":false,\"path\":\"/b\","
                             "\"bytes\":1024,\"recipe\":1,\"content\":\"00000000000000ff\","
                             "\"mtime_ns\":3,\"inode\":18446744073709551615}]}";

        return mutate_main(argc, argv, (uint8_t *)good, strlen(good));
}

#endif
