/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a VM takes from a client nothing but empty memfds of its own user, and notices that
 *       it is gone; a command takes from a VM nothing but what is whole and sealed.
 * Method: this process as its own client, over a socket pair; tables of what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "common/wire/sections.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/clone-build.h"
#include "vmm/clone-door.h"
#include "vmm/clone.h"

#define SEALS (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

static int memfd(void)
{
        int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        CU_ASSERT_FATAL(fd >= 0);
        return fd;
}

/* ---- the door -------------------------------------------------------------------- */

static int lend_empty(void)
{
        return memfd();
}

static int lend_filled(void)
{
        int fd = memfd();

        CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
        return fd;
}

static int lend_long(void)
{
        int fd = memfd();

        CU_ASSERT_EQUAL(ftruncate(fd, 4096), 0);
        return fd;
}

static int lend_sealed(void)
{
        int fd = memfd();

        CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
        return fd;
}

static int lend_unsealable(void)
{
        return memfd_create("test", MFD_CLOEXEC);
}

static int lend_file(void)
{
        return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int lend_device(void)
{
        return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int lend_folder(void)
{
        return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int lend_socket(void)
{
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static const struct {
        const char *what;
        int (*lend)(void);
        int rc;
} lent[] = {
        { "an empty memfd", lend_empty, 0 },
        { "a memfd that holds something", lend_filled, -EINVAL },
        { "a memfd that is long", lend_long, -EINVAL },
        { "a sealed memfd", lend_sealed, -EINVAL },
        { "a memfd that cannot be sealed", lend_unsealable, -EINVAL },
        { "a plain file", lend_file, -EINVAL },
        { "a device", lend_device, -EINVAL },
        { "a folder", lend_folder, -EINVAL },
        { "a socket", lend_socket, -EINVAL },
};

static int lend_filled_file(void)
{
        int fd = lend_file();

        CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
        return fd;
}

static int lend_named_file(void)
{
        int fd = open("clone-test.file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        CU_ASSERT(fd >= 0);
        return fd;
}

/* by root, of whom anyone may borrow */
static int lend_anothers_file(void)
{
        int fd = lend_file();

        CU_ASSERT_EQUAL(fchown(fd, 12345, 0), 0);
        return fd;
}

static const struct {
        const char *what;
        int (*lend)(void);
        bool root;                      /* needed */
        int rc;
} lent_files[] = {
        { "an empty file without a name", lend_file, false, 0 },
        { "one that holds something", lend_filled_file, false, -EINVAL },
        { "one with a name", lend_named_file, false, -EINVAL },
        { "another user's", lend_anothers_file, true, -EINVAL },
        { "a device", lend_device, false, -EINVAL },
        { "a folder", lend_folder, false, -EINVAL },
        { "a socket", lend_socket, false, -EINVAL },
};

static void open_door(int pair[2], struct clone_door *d)
{
        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        CU_ASSERT_EQUAL_FATAL(clone_door_open(pair[0], d, NULL), 0);
}

static void borrowing(void)
{
        unsigned fds = expect_open_fds();
        struct clone_door d;
        int pair[2];

        open_door(pair, &d);
        for (size_t i = 0; i < ARRAY_SIZE(lent); i++) {
                AUTO_FD fd = lent[i].lend();
                AUTO_FD got = -1;
                struct err e = { 0 };

                EXPECT_TRUE(lent[i].what, fd >= 0);
                EXPECT_EQUAL(lent[i].what, clone_door_borrow(&d, fd, &got, &e), lent[i].rc);
                EXPECT_EQUAL(lent[i].what, got >= 0, lent[i].rc == 0);
                EXPECT_EQUAL(lent[i].what, e.text[0] != '\0', lent[i].rc != 0);
        }
        clone_door_close(&d);
        close(pair[0]);
        close(pair[1]);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
}

/* Whoever opens a pipe for writing hangs up when he closes it: its reader can tell. */
static void what_is_no_memory_is_not_opened(void)
{
        AUTO_FD got = -1;
        struct clone_door d;
        char path[64];
        int pair[2];

        snprintf(path, sizeof(path), "/tmp/clone-test.%d", getpid());
        CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);

        AUTO_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        struct pollfd reader = { .fd = fd, .events = POLLIN };

        CU_ASSERT_EQUAL(unlink(path), 0);
        open_door(pair, &d);
        CU_ASSERT_EQUAL(clone_door_borrow(&d, fd, &got, NULL), -EINVAL);
        CU_ASSERT_EQUAL(poll(&reader, 1, 0), 0);
        clone_door_close(&d);
        close(pair[0]);
        close(pair[1]);
}

static void borrowing_files(void)
{
        unsigned fds = expect_open_fds();
        struct clone_door d;
        int pair[2];

        open_door(pair, &d);
        for (size_t i = 0; i < ARRAY_SIZE(lent_files); i++) {
                if (lent_files[i].root && geteuid() != 0)
                        continue;

                AUTO_FD fd = lent_files[i].lend();
                AUTO_FD got = -1;
                struct err e = { 0 };

                EXPECT_EQUAL(lent_files[i].what, clone_door_borrow_file(&d, fd, &got, &e),
                             lent_files[i].rc);
                EXPECT_EQUAL(lent_files[i].what, got >= 0, lent_files[i].rc == 0);
                EXPECT_EQUAL(lent_files[i].what, e.text[0] != '\0', lent_files[i].rc != 0);
        }
        unlink("clone-test.file");
        clone_door_close(&d);
        close(pair[0]);
        close(pair[1]);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
}

/* what is borrowed is the client's memory, by a descriptor of our own */
static void the_same_memory(void)
{
        AUTO_FD fd = memfd();
        AUTO_FD got = -1;
        struct clone_door d;
        int pair[2];
        char c = 0;

        open_door(pair, &d);
        CU_ASSERT_EQUAL_FATAL(clone_door_borrow(&d, fd, &got, NULL), 0);
        CU_ASSERT(got != fd && (fcntl(got, F_GETFD) & FD_CLOEXEC));
        CU_ASSERT_EQUAL(pwrite(got, "x", 1, 0), 1);
        CU_ASSERT(pread(fd, &c, 1, 0) == 1 && c == 'x');
        CU_ASSERT_EQUAL(clone_door_borrow(&d, 999999, &got, NULL), -ENOENT);
        clone_door_close(&d);
        close(pair[0]);
        close(pair[1]);
}

static void client_gone(void)
{
        struct clone_door d, other = { .sock = -2 };
        int pair[2];

        open_door(pair, &d);
        CU_ASSERT_FALSE(clone_door_gone(&d));
        CU_ASSERT_EQUAL(write(pair[1], "x", 1), 1);
        CU_ASSERT_FALSE(clone_door_gone(&d));   /* whoever says more has not gone */
        close(pair[1]);
        CU_ASSERT_TRUE(clone_door_gone(&d));
        CU_ASSERT_EQUAL(clone_door_open(pair[0], &other, NULL), -ECANCELED);
        CU_ASSERT_EQUAL(other.sock, -2);
        clone_door_close(&d);
        close(pair[0]);
}

static void no_client(void)
{
        struct clone_door d;
        AUTO_FD fd = lend_device();
        struct err e = { 0 };

        CU_ASSERT(clone_door_open(fd, &d, &e) < 0);
        CU_ASSERT(e.text[0] != '\0');
}

/* ---- the request ----------------------------------------------------------------- */

static void requests(void)
{
        static const struct {
                const char *text;
                const char *why;        /* NULL = it is understood */
        } table[] = {
                { "{\"ram_fd\":3,\"state_fd\":4}", NULL },
                { "{\"ram_fd\":0,\"state_fd\":2147483647}", NULL },
                { "{\"ram_fd\":3}", "state_fd" },
                { "{\"state_fd\":3}", "ram_fd" },
                { "{\"ram_fd\":-1,\"state_fd\":4}", "ram_fd" },
                { "{\"ram_fd\":3,\"state_fd\":2147483648}", "state_fd" },
                { "{\"ram_fd\":\"3\",\"state_fd\":4}", "ram_fd" },
                { "", "JSON" },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":[]}", NULL },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":"
                  "[{\"id\":\"disk0\",\"fd\":5}]}", NULL },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":{}}", "disks" },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":[5]}", "id" },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":[{\"id\":\"disk0\"}]}", "fd" },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":"
                  "[{\"id\":\"disk0disk0disk0disk0\",\"fd\":5}]}", "no id of a disk" },
                { "{\"ram_fd\":3,\"state_fd\":4,\"disks\":[1,2,3,4,5,6,7]}", "disks" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                struct clone_request r = { .ram_fd = -7 };
                struct err e = { 0 };
                int rc = clone_request_parse(table[i].text, strlen(table[i].text), &r, &e);

                EXPECT_EQUAL(table[i].text, rc < 0, table[i].why != NULL);
                EXPECT_TRUE(table[i].text, !table[i].why || strstr(e.text, table[i].why));
                EXPECT_EQUAL(table[i].text, r.ram_fd == -7, table[i].why != NULL);
        }
}

/* ---- what a VM hands out --------------------------------------------------------- */

struct handed {
        uint64_t memory_bytes;          /* in META */
        uint64_t ram_bytes;             /* of the memfd */
        int ram_seals;
        int state_seals;
        bool no_meta;
        bool damaged;
};

static const struct {
        const char *what;
        struct handed handed;
        int rc;
} images[] = {
        { "as it should be", { 64 << 20, 64 << 20, SEALS, SEALS, false, false }, 0 },
        { "RAM may be written", { 64 << 20, 64 << 20, SEALS & ~F_SEAL_WRITE, SEALS, false,
                                  false }, -EBADMSG },
        { "RAM may shrink", { 64 << 20, 64 << 20, SEALS & ~F_SEAL_SHRINK, SEALS, false, false },
          -EBADMSG },
        { "the state may be written", { 64 << 20, 64 << 20, SEALS, SEALS & ~F_SEAL_WRITE, false,
                                        false }, -EBADMSG },
        { "less RAM than META says", { 64 << 20, 62 << 20, SEALS, SEALS, false, false },
          -EBADMSG },
        { "META with an odd size", { 65 << 20, 65 << 20, SEALS, SEALS, false, false }, -EINVAL },
        { "META with no memory", { 0, 0, SEALS, SEALS, false, false }, -ERANGE },
        { "no META", { 64 << 20, 64 << 20, SEALS, SEALS, true, false }, -EBADMSG },
        { "no sections", { 64 << 20, 64 << 20, SEALS, SEALS, false, true }, -EBADMSG },
};

static int make_state(const struct handed *h)
{
        const struct meta m = { .name = "demo", .memory_bytes = h->memory_bytes, .cpus = 1 };
        AUTO_JSON *o = meta_encode(&m);
        const char *text = json_object_to_json_string(o);
        struct section s = { .name = "META", .data = text, .bytes = strlen(text) };

        if (h->no_meta)
                strcpy(s.name, "OTHER");

        size_t bytes = sections_bytes(&s, 1);
        AUTO_FREE uint8_t *buf = malloc(bytes);
        int fd = memfd();

        CU_ASSERT_FATAL(buf != NULL);
        sections_encode(&s, 1, buf);
        buf[0] ^= h->damaged;
        CU_ASSERT_EQUAL(io_pwrite_full(fd, buf, bytes, 0), 0);
        CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS, h->state_seals), 0);
        return fd;
}

static int make_ram(const struct handed *h)
{
        int fd = memfd();

        CU_ASSERT_EQUAL(ftruncate(fd, (off_t)h->ram_bytes), 0);
        CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS, h->ram_seals), 0);
        return fd;
}

static void handed_out(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
                unsigned fds = expect_open_fds();
                const struct handed *h = &images[i].handed;
                struct clone_image *image = NULL;
                struct err e = { 0 };
                struct clone_lent from = { make_ram(h), make_state(h), { { 0 } } };

                disk_files_init(&from.disks);

                int rc = clone_image_new(&from, &image, &e);

                EXPECT_EQUAL(images[i].what, rc, images[i].rc);
                EXPECT_EQUAL(images[i].what, image != NULL, rc == 0);
                EXPECT_EQUAL(images[i].what, e.text[0] != '\0', rc != 0);
                if (image)
                        CU_ASSERT_STRING_EQUAL(clone_image_meta(image)->name, "demo");
                clone_image_free(image);
                EXPECT_EQUAL(images[i].what, expect_open_fds(), fds);
        }
}

static void handed_out_files(void)
{
        struct clone_lent from = { lend_file(), lend_file(), { { 0 } } };
        struct clone_image *image = NULL;

        disk_files_init(&from.disks);
        CU_ASSERT_EQUAL(clone_image_new(&from, &image, NULL), -EBADMSG);
        CU_ASSERT_PTR_NULL(image);
}

static const CU_TestInfo cases[] = {
        { "what may be borrowed", borrowing },
        { "what is no memory is not opened", what_is_no_memory_is_not_opened },
        { "what files may be borrowed", borrowing_files },
        { "what is borrowed is the client's", the_same_memory },
        { "a client that goes", client_gone },
        { "no client at all", no_client },
        { "requests", requests },
        { "what a VM hands out", handed_out },
        { "files instead of it", handed_out_files },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("clone", cases);
}
