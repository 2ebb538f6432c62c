/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a VM gives memfds to its client and to nobody else, and notices that it is gone; a
 *       command takes from a VM nothing but what is whole and sealed.
 * Method: this process as its own client, over a socket pair; tables of what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/fdpass.h"
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

static int file(void)
{
        return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* ---- the door -------------------------------------------------------------------- */

struct connection {
        int pair[2];                    /* of the request: the VM's end, the client's */
        struct clone_door vm;
        int client;                     /* where it listens */
};

static void connection_open(struct connection *c)
{
        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, c->pair), 0);
        CU_ASSERT_EQUAL_FATAL(clone_door_open(c->pair[0], &c->vm, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(clone_door_listen("kid", &c->client, NULL), 0);
}

static void connection_close(struct connection *c)
{
        clone_door_close(&c->vm);
        clone_door_end("kid", &c->client);
        close(c->pair[0]);
        close(c->pair[1]);
        CU_ASSERT(access("kid.clone", F_OK) < 0);
}

/* what is taken is what was given, also when the giver has gone */
static void the_same_memory(void)
{
        unsigned fds = expect_open_fds();
        struct clone_parts parts, got;
        struct connection c;
        char text[3] = "";

        clone_parts_init(&parts);
        parts.ram_fd = memfd();
        parts.state_fd = memfd();
        parts.disks.fd[2] = file();
        CU_ASSERT(write(parts.ram_fd, "r", 1) == 1 && write(parts.state_fd, "s", 1) == 1 &&
                  write(parts.disks.fd[2], "d", 1) == 1);
        connection_open(&c);
        CU_ASSERT_EQUAL(clone_door_connect(&c.vm, "kid", NULL), 0);
        CU_ASSERT_EQUAL(clone_door_give(&c.vm, &parts, NULL), 0);
        clone_parts_fini(&parts);
        fd_close(&c.vm.to);
        CU_ASSERT_EQUAL_FATAL(clone_door_take(c.client, &got, NULL), 0);
        CU_ASSERT(fcntl(got.ram_fd, F_GETFD) & FD_CLOEXEC);
        CU_ASSERT(pread(got.ram_fd, text, 1, 0) == 1 && pread(got.state_fd, text + 1, 1, 0) == 1 &&
                  pread(got.disks.fd[2], text + 2, 1, 0) == 1);
        CU_ASSERT(text[0] == 'r' && text[1] == 's' && text[2] == 'd');
        CU_ASSERT(got.disks.fd[0] < 0 && got.disks.fd[1] < 0);
        clone_parts_fini(&got);
        connection_close(&c);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
}

static void nothing_given(void)
{
        unsigned fds = expect_open_fds();
        struct clone_parts got;
        struct connection c;
        struct err e = { 0 };

        connection_open(&c);
        CU_ASSERT_EQUAL(clone_door_take(c.client, &got, &e), -EBADMSG);
        CU_ASSERT_EQUAL(clone_door_connect(&c.vm, "kid", NULL), 0);
        CU_ASSERT_EQUAL(clone_door_take(c.client, &got, &e), -EBADMSG);
        CU_ASSERT(got.ram_fd < 0 && got.state_fd < 0 && e.text[0] != '\0');
        connection_close(&c);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
}

static const struct {
        const char *words;
        size_t bytes, fds;
        int rc;
} messages[] = {
        { "c", 1, 2, 0 },
        { "c\0\5", 3, 4, 0 },
        { "c", 1, 0, -EBADMSG },
        { "x", 1, 2, -EBADMSG },
        { "c", 1, 1, -EBADMSG },
        { "c", 1, 3, -EBADMSG },
        { "c\1", 2, 2, -EBADMSG },
        { "c\1\1", 3, 4, -EBADMSG },
        { "c\6", 2, 3, -EBADMSG },
        { "c\377", 2, 3, -EBADMSG },
        { "c\0\1\2\3\4\5\6", 8, 9, -EBADMSG },
};

static void messages_of_a_vm(void)
{
        unsigned fds = expect_open_fds();
        struct connection c;

        connection_open(&c);
        for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
                struct clone_parts got;
                int given[9];

                for (size_t f = 0; f < messages[i].fds; f++)
                        given[f] = memfd();
                CU_ASSERT_EQUAL(clone_door_connect(&c.vm, "kid", NULL), 0);
                CU_ASSERT_EQUAL(fdpass_send(c.vm.to, messages[i].words, messages[i].bytes, given,
                                            messages[i].fds), 0);
                EXPECT_EQUAL(messages[i].words, clone_door_take(c.client, &got, NULL),
                             messages[i].rc);
                EXPECT_EQUAL(messages[i].words, got.ram_fd >= 0, messages[i].rc == 0);
                clone_parts_fini(&got);
                for (size_t f = 0; f < messages[i].fds; f++)
                        close(given[f]);
                fd_close(&c.vm.to);
        }
        connection_close(&c);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);
}

static_assert(MACHINE_DISKS_MAX == 6, "the table above knows how many disks there are");

/* one that the client did not listen at itself, and names that lead elsewhere */
static void another_listens(void)
{
        struct connection c;
        int ready[2];
        char byte;
        pid_t child;

        connection_open(&c);
        CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);
        child = fork();
        if (child == 0) {
                int fd;

                (void)!write(ready[1], "", clone_door_listen("other", &fd, NULL) == 0);
                pause();
                _exit(1);
        }
        close(ready[1]);
        CU_ASSERT_EQUAL(read(ready[0], &byte, 1), 1);
        CU_ASSERT_EQUAL(clone_door_connect(&c.vm, "other", NULL), -EPERM);
        CU_ASSERT_EQUAL(clone_door_connect(&c.vm, "nobody", NULL), -ENOENT);
        CU_ASSERT_EQUAL(clone_door_connect(&c.vm, "../kid", NULL), -EINVAL);
        CU_ASSERT_EQUAL(c.vm.to, -1);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(ready[0]);
        unlink("other.clone");
        connection_close(&c);
}

static void client_gone(void)
{
        struct clone_door d, other = { .sock = -2 };
        int pair[2];

        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        CU_ASSERT_EQUAL_FATAL(clone_door_open(pair[0], &d, NULL), 0);
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
        AUTO_FD fd = open("/dev/null", O_RDWR | O_CLOEXEC);
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
                { "{\"to\":\"kid\"}", NULL },
                { "{\"to\":\"kid\",\"ram_fd\":3}", NULL },
                { "{\"from\":\"kid\"}", "to" },
                { "{\"to\":3}", "to" },
                { "{\"to\":\"\"}", "name" },
                { "{\"to\":\"../kid\"}", "name" },
                { "", "JSON" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                struct clone_request r = { "?" };
                struct err e = { 0 };
                int rc = clone_request_parse(table[i].text, strlen(table[i].text), &r, &e);

                EXPECT_EQUAL(table[i].text, rc < 0, table[i].why != NULL);
                EXPECT_TRUE(table[i].text, !table[i].why || strstr(e.text, table[i].why));
                EXPECT_EQUAL(table[i].text, r.to[0] == '?', table[i].why != NULL);
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
                struct clone_parts from;

                clone_parts_init(&from);
                from.ram_fd = make_ram(h);
                from.state_fd = make_state(h);

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
        struct clone_image *image = NULL;
        struct clone_parts from;

        clone_parts_init(&from);
        from.ram_fd = file();
        from.state_fd = file();
        CU_ASSERT_EQUAL(clone_image_new(&from, &image, NULL), -EBADMSG);
        CU_ASSERT_PTR_NULL(image);
}

static const CU_TestInfo cases[] = {
        { "what is taken is what was given", the_same_memory },
        { "nothing given", nothing_given },
        { "messages of a VM", messages_of_a_vm },
        { "another than the client listens", another_listens },
        { "a client that goes", client_gone },
        { "no client at all", no_client },
        { "requests", requests },
        { "what a VM hands out", handed_out },
        { "files instead of it", handed_out_files },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        char folder[] = "/tmp/clone-test-XXXXXX";
        int rc;

        ASSERT(mkdtemp(folder) && chdir(folder) == 0);
        setenv("VMM_RUNTIME_DIR", ".", 1);
        rc = suite_main("clone", cases);
        rmdir(folder);
        return rc;
}
