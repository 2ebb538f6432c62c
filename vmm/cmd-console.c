/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-console.c - this terminal, connected to a VM's serial line. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "vmm/cli.h"
#include "vmm/rundir.h"
#include "vmm/tty.h"
#include "vmm/unixsock.h"

/* Standard input to the VM. False when the user is done. */
static bool forward_input(int sock, struct pollfd *in)
{
        char buf[1024];
        ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

        if (n > 0 && isatty(STDIN_FILENO) && memchr(buf, TTY_ESCAPE, (size_t)n))
                return false;
        if (n > 0)
                return io_write_full(sock, buf, (size_t)n) == 0;
        if (n < 0 && errno == EINTR)
                return true;
        /* the VM takes what is under way, sends what it has and hangs up */
        shutdown(sock, SHUT_WR);
        in->fd = -1;
        return true;
}

static void exchange(int sock)
{
        struct pollfd fds[] = {
                { .fd = STDIN_FILENO, .events = POLLIN },
                { .fd = sock, .events = POLLIN },
        };
        char buf[4096];

        while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
                if (fds[1].revents) {
                        ssize_t n = read(sock, buf, sizeof(buf));

                        if (n <= 0 || io_write_full(STDOUT_FILENO, buf, (size_t)n) < 0)
                                return;
                }
                if (fds[0].revents && !forward_input(sock, &fds[0]))
                        return;
        }
}

int cmd_console(const struct cli *cli, int argc, char **argv, struct err *e)
{
        static const struct option longopts[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
        struct rundir_path path;
        struct tty_state tty;
        AUTO_FD sock = -1;
        int c;

        (void)cli;
        opterr = 0;
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                if (c != 'h')
                        return cli_bad_option("console", argv, e) < 0 ? CLI_FAILED : 0;
                cli_help("usage: vmm console NAME\n\n"
                         "Shows what the console last said and connects to it; Ctrl-] leaves.\n\n"
                         "  --help    show this\n");
                return 0;
        }

        int rc = cli_operands(argc, argv, 1, "console NAME", e);

        if (rc == 0)
                rc = rundir_find(argv[optind], e);
        if (rc == 0)
                rc = rundir_path(&path, argv[optind], "console", e);
        if (rc == 0)
                rc = unixsock_connect(path.text, SOCK_STREAM, &sock, e);
        if (rc < 0)
                return CLI_FAILED;
        tty_raw(STDIN_FILENO, &tty);
        exchange(sock);
        tty_restore(&tty);
        return 0;
}
