/* SPDX-License-Identifier: Apache-2.0 */
/* fc-guest - a guest of Firecracker for flow tests (fc-client.h).
 *
 * usage: fc-guest SOCKET RAW v1.1|v1.7|v1.12 [balloon] [split | file]
 *
 * RAW is what its memory has to be like. split: it has two regions, as large guests have
 * on x86-64, up to 3 GiB and from 4 GiB on in RAW; file: the same, one behind the other
 * as in a memory file; then it reads some pages only. 0 when every byte was right. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/check.h"
#include "tests/stress/fc-client.h"
#include "tests/stress/ps-guest.h"

#define GIB (1ull << 30)
#define LOW_BYTES (3 * GIB)
#define HIGH_GPA (4 * GIB)
#define LARGE_ONE_OF 64

static enum fc_version parse_version(const char *text)
{
        static const char *const names[] = {
                [FC_V1_1] = "v1.1", [FC_V1_7] = "v1.7", [FC_V1_12] = "v1.12",
        };
        unsigned i = 0;

        while (i < ARRAY_SIZE(names) && strcmp(text, names[i]) != 0)
                i++;
        TEST(i < ARRAY_SIZE(names));
        return (enum fc_version)i;
}

/* high: where the second region begins in RAW, 0 = there is only one */
static void place(struct fc_plan *plan, uint64_t end, uint64_t high)
{
        struct err e;

        plan->memory = (struct fc_regions){
                .page_bytes = FC_PAGE, .n = 1, .at[0].bytes = end,
        };
        if (high) {
                plan->one_of = LARGE_ONE_OF;
                TEST(end > high);
                plan->memory.n = 2;
                plan->memory.at[0].bytes = LOW_BYTES;
                plan->memory.at[1] = (struct fc_extent){ .gpa = high, .bytes = end - high };
        }
        MUST(fc_regions_finish(&plan->memory, &e), &e);
}

int main(int argc, char **argv)
{
        static struct fc_plan plan;
        struct stat st;
        uint64_t high = 0;

        TEST(argc >= 4 && strlen(argv[1]) < sizeof(plan.socket_path) &&
             strlen(argv[2]) < sizeof(plan.raw_path));
        strcpy(plan.socket_path, argv[1]);
        strcpy(plan.raw_path, argv[2]);
        plan.version = parse_version(argv[3]);
        plan.threads = 2;
        for (int i = 4; i < argc; i++) {
                plan.balloon |= !strcmp(argv[i], "balloon");
                if (!strcmp(argv[i], "split"))
                        high = HIGH_GPA;
                if (!strcmp(argv[i], "file"))
                        high = LOW_BYTES;
        }
        TEST(stat(argv[2], &st) == 0);
        place(&plan, (uint64_t)st.st_size, high);
        return fc_client_run(&plan, -1);
}
