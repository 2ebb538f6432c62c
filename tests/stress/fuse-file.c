/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/fuse-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

#define NAME "image"
#define NODE 2u
#define REQUEST_BYTES (FUSE_MIN_READ_BUFFER + (1u << 16))
#define READ_BYTES_MAX (1u << 16)
/* that wait; a client has a few threads */
#define HELD_MAX 64

/* a read, or a close of one descriptor */
struct held {
        uint64_t unique;
        bool reads;
        struct fuse_read_in in;
};

/* The process that answers. It lives as long as the other end of its lifeline, which the
 * kernel closes before what is open of the file, for it was opened first. */
struct server {
        int fd;                         /* of the connection */
        int backing_fd;
        int lifeline;
        int kick_fd;
        _Atomic bool *answers;          /* shared */
        struct held held[HELD_MAX];
        unsigned n;
        alignas(struct fuse_in_header) char request[REQUEST_BYTES];
        char bytes[READ_BYTES_MAX];
};

struct fuse_file {
        pid_t pid;
        int lifeline;
        int kick_fd;
        _Atomic bool *answers;
        char folder[32];
};

static void reply(struct server *f, uint64_t unique, int error, const void *data, size_t n)
{
        struct fuse_out_header head = {
                .len = (uint32_t)(sizeof(head) + n), .error = error, .unique = unique,
        };
        char all[sizeof(head) + READ_BYTES_MAX];

        ASSERT(n <= READ_BYTES_MAX);
        memcpy(all, &head, sizeof(head));
        memcpy(all + sizeof(head), data, n);
        /* who asked may have been killed */
        (void)!write(f->fd, all, sizeof(head) + n);
}

static void reply_error(struct server *f, uint64_t unique, int error)
{
        reply(f, unique, -error, "", 0);
}

static struct fuse_attr attr_of(const struct server *f, uint64_t node)
{
        struct stat st;
        int rc = fstat(f->backing_fd, &st);

        ASSERT(rc == 0);
        if (node == FUSE_ROOT_ID)
                return (struct fuse_attr){ .ino = node, .mode = S_IFDIR | 0755, .nlink = 2 };
        return (struct fuse_attr){ .ino = node, .mode = S_IFREG | 0644, .nlink = 1,
                                   .size = (uint64_t)st.st_size };
}

static void take_flush(struct server *f, uint64_t unique)
{
        ASSERT(f->n < HELD_MAX);
        f->held[f->n++] = (struct held){ .unique = unique };
}

static void answer_read(struct server *f, const struct held *h)
{
        ssize_t n = pread(f->backing_fd, f->bytes, h->in.size < READ_BYTES_MAX ? h->in.size
                          : READ_BYTES_MAX, (off_t)h->in.offset);

        if (n < 0)
                reply_error(f, h->unique, errno);
        else
                reply(f, h->unique, 0, f->bytes, (size_t)n);
}

static void answer(struct server *f, const struct held *h)
{
        if (h->reads)
                answer_read(f, h);
        else
                reply_error(f, h->unique, 0);
}

static void take_read(struct server *f, uint64_t unique, const void *in)
{
        ASSERT(f->n < HELD_MAX);
        f->held[f->n] = (struct held){ .unique = unique, .reads = true };
        memcpy(&f->held[f->n].in, in, sizeof(f->held[f->n].in));
        f->n++;
}

static void answer_held(struct server *f)
{
        if (!atomic_load(f->answers))
                return;
        while (f->n > 0)
                answer(f, &f->held[--f->n]);
}

static void lookup(struct server *f, uint64_t unique, const char *name)
{
        struct fuse_entry_out out = { .nodeid = NODE, .attr = attr_of(f, NODE) };

        if (strcmp(name, NAME) != 0)
                reply_error(f, unique, ENOENT);
        else
                reply(f, unique, 0, &out, sizeof(out));
}

static void handle(struct server *f)
{
        const struct fuse_in_header *head = (const void *)f->request;
        const void *in = head + 1;
        struct fuse_init_out init = {
                .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                .max_background = 16, .congestion_threshold = 12, .max_write = 4096,
        };
        struct fuse_attr_out attr = { .attr = attr_of(f, head->nodeid) };
        struct fuse_open_out open_out = { .open_flags = FOPEN_DIRECT_IO };

        switch (head->opcode) {
        case FUSE_INIT:
                reply(f, head->unique, 0, &init, sizeof(init));
                break;
        case FUSE_LOOKUP:
                lookup(f, head->unique, in);
                break;
        case FUSE_GETATTR:
                reply(f, head->unique, 0, &attr, sizeof(attr));
                break;
        case FUSE_OPEN:
                reply(f, head->unique, 0, &open_out, sizeof(open_out));
                break;
        case FUSE_READ:
                take_read(f, head->unique, in);
                break;
        case FUSE_FLUSH:
                take_flush(f, head->unique);
                break;
        case FUSE_RELEASE:
                reply_error(f, head->unique, 0);
                break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:            /* it hangs: nothing interrupts that */
                break;
        default:
                reply_error(f, head->unique, ENOSYS);
        }
}

static void serve(struct server *f)
{
        struct pollfd p[] = { { .fd = f->lifeline, .events = POLLIN },
                              { .fd = f->fd, .events = POLLIN },
                              { .fd = f->kick_fd, .events = POLLIN } };

        while (poll(p, 3, -1) > 0 && !p[0].revents && !(p[1].revents & POLLERR)) {
                uint64_t kicks;

                if (p[2].revents)
                        io_read_full(f->kick_fd, &kicks, sizeof(kicks));
                if (p[1].revents && read(f->fd, f->request, sizeof(f->request)) > 0)
                        handle(f);
                answer_held(f);
        }
}

static int mount_it(int *ret_fd, const char *folder)
{
        AUTO_FD fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        char options[64];

        if (fd < 0)
                return -errno;
        snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd,
                 (unsigned)getuid(), (unsigned)getgid());
        if (mount("snapback-test", folder, "fuse", MS_NODEV | MS_NOSUID, options) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

/* in the child; says first how mounting went */
static _Noreturn void be_server(const struct fuse_file *file, int backing_fd, int lifeline,
                                int answer_fd)
{
        static struct server server;
        int rc;

        signal(SIGTERM, SIG_IGN);       /* of all the test: its end is what counts */
        signal(SIGINT, SIG_IGN);
        close(file->lifeline);
        server = (struct server){ .backing_fd = backing_fd, .lifeline = lifeline,
                                  .kick_fd = file->kick_fd, .answers = file->answers };
        rc = mount_it(&server.fd, file->folder);
        io_write_full(answer_fd, &rc, sizeof(rc));
        close(answer_fd);
        if (rc == 0) {
                serve(&server);
                umount2(file->folder, MNT_DETACH);
        }
        rmdir(file->folder);
        _exit(0);
}

int fuse_file_new(int backing_fd, struct fuse_file **ret, struct err *e)
{
        struct fuse_file *f = calloc(1, sizeof(*f));
        int life[2], answer[2], rc;

        ASSERT(f);
        f->answers = mmap(NULL, sizeof(*f->answers), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT(f->answers != MAP_FAILED);
        atomic_store(f->answers, true);
        f->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        strcpy(f->folder, "fuse-test-XXXXXX");
        if (!mkdtemp(f->folder) || pipe2(life, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0)
                return err_set(e, errno, "make a folder");
        f->lifeline = life[1];
        f->pid = fork();
        if (f->pid == 0)
                be_server(f, backing_fd, life[0], answer[1]);
        close(life[0]);
        close(answer[1]);
        if (f->pid < 0 || io_read_full(answer[0], &rc, sizeof(rc)) < 0)
                rc = -EIO;
        close(answer[0]);
        if (rc < 0) {
                fuse_file_free(f);
                return err_set(e, -rc, "cannot mount FUSE");
        }
        *ret = f;
        return 0;
}

int fuse_file_open(struct fuse_file *f)
{
        char path[64];

        snprintf(path, sizeof(path), "%s/" NAME, f->folder);
        return open(path, O_RDONLY | O_CLOEXEC);
}

void fuse_file_answers(struct fuse_file *f, bool answers)
{
        uint64_t one = 1;

        atomic_store(f->answers, answers);
        io_write_full(f->kick_fd, &one, sizeof(one));
}

void fuse_file_free(struct fuse_file *f)
{
        fd_close(&f->lifeline);
        fd_close(&f->kick_fd);
        if (f->pid > 0)
                waitpid(f->pid, NULL, 0);
        munmap((void *)f->answers, sizeof(*f->answers));
        free(f);
}
