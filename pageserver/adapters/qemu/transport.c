/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "pageserver/adapters/qemu/rendezvous.h"

#define ROOM_BYTES (1 << 20)
#define ROOM_BYTES_MIN (64 << 10)       /* what a pipe has anyway */

/* no type of a section, nor how a stream begins */
#define NO_STREAM 0xff

/* ---- what the user says ---------------------------------------------------- */

static bool take_fd(const char **text, int *ret)
{
        char *end;
        long n = strtol(*text, &end, 10);

        if (**text < '0' || **text > '9' || n > INT32_MAX)
                return false;
        *text = end;
        *ret = (int)n;
        return true;
}

int transport_parse_uri(const char *text, struct transport_options *ret, struct err *e)
{
        const char *at = text + 3;
        int in = -1, out;
        bool fine = !strncmp(text, "fd:", 3) && take_fd(&at, &in);

        out = in;
        if (fine && *at == ',') {
                at++;
                fine = take_fd(&at, &out);
        }
        if (!fine || *at)
                return err_msg(e, EINVAL, "--uri needs fd:N or fd:IN,OUT, numbers of descriptors, "
                               "not '%s'", text);
        ret->kind = TRANSPORT_FD;
        ret->in = in;
        ret->out = out;
        return 0;
}

int transport_parse_address(const char *text, enum transport_kind kind,
                            struct transport_options *ret, struct err *e)
{
        int rc = rendezvous_check(text, e);

        if (rc < 0)
                return rc;
        ret->kind = kind;
        ret->address = text;
        return 0;
}

/* ---- opening --------------------------------------------------------------- */

static int check_fd(int fd, bool reads, struct err *e)
{
        int flags = fcntl(fd, F_GETFL);
        int mode = flags & O_ACCMODE;

        if (flags < 0)
                return err_set(e, errno, "descriptor %d was not inherited", fd);
        if (mode == (reads ? O_WRONLY : O_RDONLY))
                return err_msg(e, EBADF, "descriptor %d is not open for %s", fd,
                               reads ? "reading" : "writing");
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
                return err_set(e, errno, "cannot use descriptor %d", fd);
        return 0;
}

static int open_inherited(int in, int out, struct transport *ret, struct err *e)
{
        int rc = check_fd(in, true, e);

        if (rc == 0)
                rc = check_fd(out, false, e);
        if (rc == 0)
                *ret = (struct transport){ .in = in, .out = out };
        return rc;
}

int transport_open(const struct transport_options *o, struct transport *ret, struct err *e)
{
        int fd;
        int rc;

        switch (o->kind) {
        case TRANSPORT_STDIO:
                return open_inherited(STDIN_FILENO, STDOUT_FILENO, ret, e);
        case TRANSPORT_FD:
                return open_inherited(o->in, o->out, ret, e);
        case TRANSPORT_LISTEN:
                rc = rendezvous_listen(o->address, o->timeout_s, &fd, e);
                break;
        default:
                rc = rendezvous_connect(o->address, o->timeout_s, &fd, e);
        }
        if (rc == 0)
                *ret = (struct transport){ .in = fd, .out = fd };
        return rc;
}

/* ---- room ------------------------------------------------------------------ */

/* Who has many large pipes already, without privilege, gets less. */
static void enlarge_pipe(int fd)
{
        for (int bytes = ROOM_BYTES; bytes > ROOM_BYTES_MIN; bytes /= 2) {
                if (fcntl(fd, F_GETPIPE_SZ) >= bytes || fcntl(fd, F_SETPIPE_SZ, bytes) >= 0)
                        return;
        }
}

/* The kernel cuts to its own limit; what is no TCP socket has no delay. */
static void enlarge_socket(int fd)
{
        int bytes = ROOM_BYTES, one = 1;

        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void enlarge(int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return;
        if (S_ISFIFO(st.st_mode))
                enlarge_pipe(fd);
        else if (S_ISSOCK(st.st_mode))
                enlarge_socket(fd);
}

void transport_enlarge(const struct transport *t)
{
        enlarge(t->in);
        if (t->out != t->in)
                enlarge(t->out);
}

/* ---- the end --------------------------------------------------------------- */

void transport_refuse(struct transport *t)
{
        static const uint8_t byte = NO_STREAM;

        if (t->out < 0 || t->wrote)
                return;
        io_write_full(t->out, &byte, sizeof(byte));
        t->wrote = true;
}

void transport_end(struct transport *t)
{
        if (t->out != t->in)
                fd_close(&t->out);
        else if (t->out >= 0)
                shutdown(t->out, SHUT_WR);
}

void transport_close(struct transport *t)
{
        if (t->out != t->in)
                fd_close(&t->out);
        fd_close(&t->in);
        t->out = -1;
}
