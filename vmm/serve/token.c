/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/token.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"

#define SCHEME "Bearer "

int token_parse(const char *text, size_t bytes, struct token *ret, struct err *e)
{
        size_t n = bytes;

        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r'))
                n--;
        if (n < TOKEN_BYTES_MIN || n > TOKEN_BYTES_MAX)
                return err_msg(e, EINVAL, "a token has %d to %d characters, not %zu",
                               TOKEN_BYTES_MIN, TOKEN_BYTES_MAX, n);
        for (size_t i = 0; i < n; i++) {
                if (!isgraph((unsigned char)text[i]))
                        return err_msg(e, EINVAL, "a token is one line of printable characters "
                                       "without blanks");
        }
        ret->bytes = n;
        memcpy(ret->text, text, n);
        ret->text[n] = '\0';
        return 0;
}

static int check_file(int fd, struct err *e)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return err_set(e, errno, "stat");
        if (!S_ISREG(st.st_mode))
                return err_msg(e, EINVAL, "it is no regular file");
        if (st.st_uid != geteuid() && st.st_uid != 0)
                return err_msg(e, EPERM, "it belongs to user %u: whoever may change it may "
                               "command all VMs", st.st_uid);
        if (st.st_mode & 077)
                return err_msg(e, EPERM, "others can read it: chmod 600");
        return 0;
}

int token_read(const char *path, struct token *ret, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        AUTO_FREE char *text = NULL;
        size_t bytes = 0;

        if (fd < 0)
                return err_set(e, errno, "token file '%s'", path);

        int rc = check_file(fd, e);

        if (rc == 0) {
                rc = io_read_all(fd, TOKEN_BYTES_MAX + 2, &text, &bytes);
                if (rc < 0)
                        err_set(e, -rc, "read");
        }
        if (rc == 0)
                rc = token_parse(text, bytes, ret, e);
        return rc < 0 ? err_in(e, rc, "token file '%s'", path) : 0;
}

bool token_shown(const struct token *token, const char *header)
{
        const size_t skip = sizeof(SCHEME) - 1;
        unsigned char differs = 0;

        if (!header || strncasecmp(header, SCHEME, skip))
                return false;

        const char *shown = header + skip;

        if (strlen(shown) != token->bytes)
                return false;
        for (size_t i = 0; i < token->bytes; i++)
                differs |= (unsigned char)(shown[i] ^ token->text[i]);
        return differs == 0;
}
