/* SPDX-License-Identifier: Apache-2.0 */
/* vsock-echo - both ends of what the lab sends between guest and host.
 *
 * Goal:   bytes that go through a virtio vsock and back are the same.
 * Method: one static program for both sides:
 *           vsock-echo serve vsock:PORT | unix:PATH       echoes to all who connect
 *           vsock-echo ask vsock:CID:PORT BYTES           asks as a guest does
 *           vsock-echo ask unix:PATH:PORT BYTES           asks as a program of the host does,
 *                                                         with CONNECT first
 *         `ask` prints "echoed BYTES"; it gives up after 50 s.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define ASK_SECONDS 50
#define CHUNK_MAX 4096

static void die(const char *what)
{
        perror(what);
        exit(1);
}

static int vsock(unsigned cid, unsigned port, struct sockaddr_vm *ret)
{
        int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

        if (fd < 0)
                die("socket of AF_VSOCK");
        *ret = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
        return fd;
}

static int unix_socket(const char *path, size_t len, struct sockaddr_un *ret)
{
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (fd < 0 || len >= sizeof(ret->sun_path))
                die("socket of AF_UNIX");
        memcpy(ret->sun_path, path, len);
        return fd;
}

static int listen_at(const char *where)
{
        struct sockaddr_vm vm;
        struct sockaddr_un un;
        unsigned port;
        int fd, rc;

        if (sscanf(where, "vsock:%u", &port) == 1) {
                fd = vsock(VMADDR_CID_ANY, port, &vm);
                rc = bind(fd, (struct sockaddr *)&vm, sizeof(vm));
        } else {
                fd = unix_socket(where + strlen("unix:"), strlen(where + strlen("unix:")), &un);
                rc = bind(fd, (struct sockaddr *)&un, sizeof(un));
        }
        if (rc < 0 || listen(fd, 8) < 0)
                die(where);
        return fd;
}

static void echo(int fd)
{
        char buf[CHUNK_MAX];
        ssize_t n;

        while ((n = read(fd, buf, sizeof(buf))) > 0) {
                for (ssize_t done = 0, w; done < n; done += w) {
                        w = write(fd, buf + done, (size_t)(n - done));
                        if (w <= 0)
                                return;
                }
        }
}

static void serve(const char *where)
{
        int listener = listen_at(where);

        for (;;) {
                int fd = accept(listener, NULL, NULL);

                if (fd < 0)
                        continue;
                echo(fd);
                close(fd);
        }
}

static void read_all(int fd, char *buf, size_t bytes)
{
        for (size_t done = 0; done < bytes;) {
                ssize_t n = read(fd, buf + done, bytes - done);

                if (n <= 0)
                        die("read");
                done += (size_t)n;
        }
}

static void write_all(int fd, const char *buf, size_t bytes)
{
        for (size_t done = 0; done < bytes;) {
                ssize_t n = write(fd, buf + done, bytes - done);

                if (n <= 0)
                        die("write");
                done += (size_t)n;
        }
}

/* The monitor's answer is "OK" and a number. */
static void introduce(int fd, const char *port)
{
        char line[64] = "";

        dprintf(fd, "CONNECT %s\n", port);
        for (size_t i = 0; i < sizeof(line) - 1 && !strchr(line, '\n'); i++)
                read_all(fd, line + i, 1);
        if (strncmp(line, "OK ", 3) != 0) {
                fprintf(stderr, "the monitor answers '%s'\n", line);
                exit(1);
        }
}

static int connect_to(const char *where)
{
        struct sockaddr_vm vm;
        struct sockaddr_un un;
        unsigned cid, port;

        if (sscanf(where, "vsock:%u:%u", &cid, &port) == 2) {
                int fd = vsock(cid, port, &vm);

                if (connect(fd, (struct sockaddr *)&vm, sizeof(vm)) < 0)
                        die(where);
                return fd;
        }

        const char *path = where + strlen("unix:"), *end = strrchr(path, ':');

        if (!end)
                die(where);

        int fd = unix_socket(path, (size_t)(end - path), &un);

        if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
                die(where);
        introduce(fd, end + 1);
        return fd;
}

/* Chunks of all sizes; no more than one is under way, so that neither side fills up. */
static int ask(const char *where, size_t bytes)
{
        char out[CHUNK_MAX], in[CHUNK_MAX];
        size_t done = 0, chunk = 1;

        alarm(ASK_SECONDS);

        int fd = connect_to(where);

        while (done < bytes) {
                if (chunk > bytes - done)
                        chunk = bytes - done;
                for (size_t i = 0; i < chunk; i++)
                        out[i] = (char)((done + i) * 2654435761u >> 24);
                write_all(fd, out, chunk);
                read_all(fd, in, chunk);
                if (memcmp(in, out, chunk) != 0) {
                        fprintf(stderr, "other bytes came back behind %zu\n", done);
                        return 1;
                }
                done += chunk;
                chunk = chunk * 7 % CHUNK_MAX + 1;
        }
        printf("echoed %zu\n", done);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 3 && !strcmp(argv[1], "serve"))
                serve(argv[2]);
        if (argc == 4 && !strcmp(argv[1], "ask"))
                return ask(argv[2], strtoul(argv[3], NULL, 10));
        fprintf(stderr, "usage: vsock-echo serve ADDRESS | ask ADDRESS BYTES\n");
        return 2;
}
