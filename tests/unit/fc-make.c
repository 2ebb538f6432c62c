/* SPDX-License-Identifier: Apache-2.0 */
/* fc-make [--version TEXT] MINOR FILE MIB [GPA:BYTES[:plugged]]...: a vmstate file as
 * Firecracker v1.MINOR writes it of a guest of MIB MiB, or one with another version in
 * it. Sizes as people write them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/io.h"
#include "common/size.h"
#include "tests/unit/fc-kit.h"

static int parse_region(char *text, struct fc_kit_region *r)
{
        char *bytes = strchr(text, ':');
        char *plugged = bytes ? strchr(bytes + 1, ':') : NULL;

        if (!bytes)
                return -1;
        *bytes++ = '\0';
        if (plugged)
                *plugged = '\0';
        r->plugged_in = plugged != NULL;
        return size_parse(text, &r->gpa) < 0 || size_parse(bytes, &r->bytes) < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
        struct fc_kit kit = { .filler = 0x11 };
        uint8_t buf[FC_KIT_BYTES_MAX];

        if (argc > 2 && !strcmp(argv[1], "--version")) {
                kit.version = argv[2];
                argc -= 2;
                argv += 2;
        }
        if (argc < 4 || argc > 4 + (int)FC_KIT_REGIONS_MAX)
                return 2;
        kit.minor = (unsigned)strtoul(argv[1], NULL, 10);
        kit.memory_mib = strtoul(argv[3], NULL, 10);
        for (int i = 4; i < argc; i++)
                if (parse_region(argv[i], &kit.at[kit.n++]) < 0)
                        return 2;

        AUTO_FD fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0 || io_write_full(fd, buf, fc_kit_vmstate(&kit, buf)) < 0) {
                perror(argv[2]);
                return 1;
        }
        return 0;
}
