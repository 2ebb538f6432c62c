/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an image has only those files shown to a guest that are its own, or that its caller
 *       names; and what was looked at is what is opened (INV-ONCE, INV-KNOWN).
 * Method: an image and a disk in a folder, a table of what is done to them before; files that
 *         are exchanged between finding and opening. Root is somebody else's, too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/disk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/disk/identity.h"
#include "vmm/kept-disks.h"

#define BYTES 131072u
#define KEPT "vm-01234567.disk0"
#define OTHER_USER 12345

/* An image that says that disk0 was kept, or is elsewhere: in the same folder. */
struct place {
        struct disk_kit kit;
        char *image;
        char *disk;
        struct kept_disks *kept;
        struct machine_config *machine;
        struct disks_wish wish;
        char arg[400];
        int image_fd;
};

static void place_begin(struct place *p, bool kept)
{
        struct kept_disk *k;

        disk_kit_init(&p->kit, BYTES);
        p->image = disk_kit_path(&p->kit, "vm");
        p->disk = disk_kit_path(&p->kit, KEPT);
        p->kept = calloc(1, sizeof(*p->kept));
        p->machine = calloc(1, sizeof(*p->machine));
        p->wish = (struct disks_wish){ .n = 0 };
        p->image_fd = open(p->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ASSERT(p->image_fd >= 0 && rename(p->kit.base, p->disk) == 0);
        ASSERT(chmod(p->disk, 0400) == 0);

        AUTO_FD fd = open(p->disk, O_RDONLY | O_CLOEXEC);

        k = &p->kept->disk[p->kept->n++];
        ASSERT(disk_identity_of(fd, p->disk, &k->identity, NULL) == 0);
        k->kept = kept;
        strcpy(k->id, "disk0");
        strcpy(k->identity.path, kept ? KEPT : p->disk);
        p->machine->ndisks = 1;
        strcpy(p->machine->disk[0].id, "disk0");
}

static void place_end(struct place *p)
{
        fd_close(&p->image_fd);
        free(p->image);
        free(p->disk);
        free(p->kept);
        free(p->machine);
        disk_kit_fini(&p->kit);
}

static int find(struct place *p, struct disk_files *files, struct err *e)
{
        const struct kept_disks_image image = { p->image, p->image_fd };

        disk_files_init(files);
        return kept_disks_find(p->kept, &image, &p->wish, p->machine, files, e);
}

/* ---- what is done before ------------------------------------------------------------ */

static void nothing(struct place *p) { (void)p; }

static void wish(struct place *p, const char *rest)
{
        snprintf(p->arg, sizeof(p->arg), "disk0=%s%s", p->disk, rest);
        ASSERT(kept_disks_wish(&p->wish, p->arg, NULL) == 0);
}
static void asked_for(struct place *p) { wish(p, ""); }

/* Aside, and something else there. */
static void move_aside(struct place *p, char aside[400])
{
        snprintf(aside, 400, "%s.aside", p->disk);
        ASSERT(rename(p->disk, aside) == 0);
}
static void is_link(struct place *p)
{
        char aside[400];

        move_aside(p, aside);
        ASSERT(symlink(strrchr(aside, '/') + 1, p->disk) == 0);
}
static void is_link_asked_for(struct place *p)
{
        is_link(p);
        asked_for(p);
}
static void is_fifo(struct place *p)
{
        char aside[400];

        move_aside(p, aside);
        ASSERT(mkfifo(p->disk, 0600) == 0);
}
static void is_fifo_asked_for(struct place *p)
{
        is_fifo(p);
        wish(p, ",trust");
}
static void is_copy(struct place *p)
{
        AUTO_FREE uint8_t *buf = malloc(BYTES);
        char aside[400];

        move_aside(p, aside);

        AUTO_FD from = open(aside, O_RDONLY | O_CLOEXEC);
        AUTO_FD to = open(p->disk, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);

        ASSERT(pread(from, buf, BYTES, 0) == BYTES && pwrite(to, buf, BYTES, 0) == BYTES);
}
static void copy_asked_for(struct place *p)
{
        is_copy(p);
        asked_for(p);
}
static void can_be_written(struct place *p) { ASSERT(chmod(p->disk, 0620) == 0); }
static void both_can_be_written(struct place *p)
{
        can_be_written(p);
        ASSERT(fchmod(p->image_fd, 0660) == 0);
}
static void anothers_disk(struct place *p) { ASSERT(chown(p->disk, OTHER_USER, 0) == 0); }
static void anothers_image(struct place *p) { ASSERT(fchown(p->image_fd, OTHER_USER, 0) == 0); }
static void both_anothers(struct place *p)
{
        anothers_disk(p);
        anothers_image(p);
}
static void anothers_image_and_asked_for(struct place *p)
{
        anothers_image(p);
        asked_for(p);
}
/* By its number and time it is the disk: what anyone sees who may search the folder. */
static void other_content(struct place *p)
{
        struct stat st;

        ASSERT(stat(p->disk, &st) == 0);

        const struct timespec t[2] = { st.st_atim, st.st_mtim };
        AUTO_FD fd = open(p->disk, O_WRONLY | O_CLOEXEC);

        ASSERT(pwrite(fd, "secret", 6, 4096) == 6 && futimens(fd, t) == 0);
}
static void image_is_exchanged(struct place *p)
{
        ASSERT(unlink(p->image) == 0);

        AUTO_FD fd = open(p->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        ASSERT(fd >= 0);
}
static void machine_has_it(struct place *p)
{
        is_copy(p);
        strcpy(p->machine->disk[0].path, p->disk);
        p->wish.present = p->machine;
}

static void who_says_so(void)
{
        static const struct {
                const char *row;
                bool kept;
                bool root;              /* needed */
                void (*before)(struct place *p);
                int rc;
                const char *says;
        } rows[] = {
                { "kept", true, false, nothing, 0, "" },
                { "kept, copied", true, false, is_copy, 0, "" },
                { "kept, a link", true, false, is_link, -EINVAL, "no regular file" },
                { "kept, a fifo", true, false, is_fifo, -EINVAL, "no regular file" },
                { "kept, a link, asked for", true, false, is_link_asked_for, 0, "" },
                { "a fifo that is trusted", true, false, is_fifo_asked_for, -EINVAL, "neither" },
                { "kept, others write", true, true, can_be_written, -EACCES, "more users" },
                { "others write both", true, true, both_can_be_written, 0, "" },
                { "kept, another's disk", true, true, anothers_disk, -EACCES, "another owner" },
                { "kept, another's image", true, true, anothers_image, -EACCES, "another owner" },
                { "both another's", true, true, both_anothers, 0, "" },
                { "kept, other content", true, true, other_content, -ESTALE, "other content" },
                { "the image was exchanged", true, false, image_is_exchanged, -ESTALE,
                  "try again" },
                { "elsewhere", false, false, nothing, 0, "" },
                { "elsewhere, a link", false, false, is_link, -EACCES, "no regular file" },
                { "elsewhere, a copy", false, false, is_copy, -EACCES, "--disk disk0=" },
                { "elsewhere, a copy, asked for", false, false, copy_asked_for, 0, "" },
                { "elsewhere, a copy that it has", false, false, machine_has_it, 0, "" },
                { "elsewhere, another's image", false, true, anothers_image, -EACCES,
                  "somebody else's" },
                { "the same, asked for", false, true, anothers_image_and_asked_for, 0, "" },
                { "elsewhere, other content", false, true, other_content, -ESTALE,
                  "other content" },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct disk_files files;
                struct place p;
                struct err e = { 0 };

                if (rows[i].root && geteuid() != 0) {
                        printf("left out: %s: needs root\n", rows[i].row);
                        continue;
                }
                place_begin(&p, rows[i].kept);
                rows[i].before(&p);
                EXPECT_EQUAL(rows[i].row, find(&p, &files, &e), rows[i].rc);
                EXPECT_EQUAL(rows[i].row, files.fd[0] >= 0, rows[i].rc == 0);
                EXPECT_TRUE(rows[i].row, strstr(e.text, rows[i].says) != NULL);
                disk_files_fini(&files);
                place_end(&p);
        }
}

/* INV-ONCE: somebody exchanges the file after it was looked at. */
static void what_was_found_is_opened(void)
{
        static const bool overlays[] = { true, false };
        uint8_t sector[512], want[512];
        const struct iovec iov = { sector, sizeof(sector) };

        for (unsigned i = 0; i < ARRAY_SIZE(overlays); i++) {
                struct disk_files files;
                struct disk *d = NULL;
                struct place p;
                char aside[400];

                place_begin(&p, true);
                memcpy(want, p.kit.model, sizeof(want));
                CU_ASSERT_EQUAL_FATAL(find(&p, &files, NULL), 0);
                move_aside(&p, aside);

                AUTO_FD other = open(p.disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

                ASSERT(ftruncate(other, BYTES) == 0 && pwrite(other, "secret", 6, 0) == 6);

                const struct disk_options how = {
                        .path = p.machine->disk[0].path, .file = disk_files_at(&files, 0),
                        .overlay = overlays[i], .read_only = !overlays[i],
                };

                CU_ASSERT_EQUAL_FATAL(disk_open(&how, &d, NULL), 0);
                disk_files_fini(&files);
                CU_ASSERT_EQUAL(disk_read(d, &iov, 1, 0), 0);
                CU_ASSERT(memcmp(sector, want, sizeof(sector)) == 0);
                disk_close(d);
                place_end(&p);
        }
}

static void what_was_wished(void)
{
        struct disk_files files;
        struct place p;
        struct err e;

        place_begin(&p, true);
        p.kept->n = 0;
        CU_ASSERT_EQUAL(find(&p, &files, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "does not say which disk"));
        CU_ASSERT_EQUAL(kept_disks_wish(&p.wish, "=a", &e), -EINVAL);
        CU_ASSERT_EQUAL(kept_disks_wish(&p.wish, "disk0=/nowhere", &e), 0);
        wish(&p, ",trust");             /* the last one counts */
        CU_ASSERT_EQUAL(find(&p, &files, &e), 0);
        CU_ASSERT_TRUE(p.machine->disk[0].overlay);
        CU_ASSERT_EQUAL(p.machine->disk[0].path[0], '/');
        disk_files_fini(&files);
        p.wish.in_place = true;
        CU_ASSERT_EQUAL(find(&p, &files, &e), 0);
        CU_ASSERT_FALSE(p.machine->disk[0].overlay);
        disk_files_fini(&files);
        while (p.wish.n < MACHINE_DISKS_MAX)
                wish(&p, "");
        CU_ASSERT_EQUAL(kept_disks_wish(&p.wish, p.arg, &e), -E2BIG);
        place_end(&p);
}

/* Of a clone: nothing else is looked for, and it is never written. */
static void what_was_lent_is_taken(void)
{
        struct disk_files files;
        struct place p;

        place_begin(&p, true);
        p.kept->n = 0;
        p.wish.in_place = true;
        disk_files_init(&files);
        files.fd[0] = dup(p.image_fd);

        const struct kept_disks_image image = { p.image, p.image_fd };
        int lent = files.fd[0];

        CU_ASSERT_EQUAL(kept_disks_find(p.kept, &image, &p.wish, p.machine, &files, NULL), 0);
        CU_ASSERT_EQUAL(files.fd[0], lent);
        CU_ASSERT_TRUE(p.machine->disk[0].overlay);
        disk_files_fini(&files);
        place_end(&p);
}

static CU_TestInfo cases[] = {
        { "whose files are shown to a guest", who_says_so },
        { "what was found is opened", what_was_found_is_opened },
        { "what was wished is opened", what_was_wished },
        { "what was lent is taken", what_was_lent_is_taken },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("kept-disks-find", cases);
}
