/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - an error is a value: a negative errno and a sentence.
 *
 * Ownership: the caller owns the struct, usually on its stack; nothing is
 *            allocated. A NULL err is allowed everywhere: only the code counts.
 * Threads:   one thread at a time per struct.
 * Use:       the innermost function that knows what failed makes the text
 *            (err_set, err_msg); callers may put their own context in front
 *            (err_in); the program prints it once (err_print).
 *
 * All functions return the negative errno, so that
 *     return err_set(e, errno, "open '%s'", path);
 * reads as one step.
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#define ERR_TEXT_MAX 640

struct err {
        int code;                       /* negative errno; 0 = no error */
        char text[ERR_TEXT_MAX];
};

/* "<fmt>: <strerror(errnum)>" */
int err_set(struct err *e, int errnum, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* "<fmt>", for failures that no errno describes better than a sentence */
int err_msg(struct err *e, int errnum, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* puts "<fmt>: " in front of what is there; rc is passed through */
int err_in(struct err *e, int rc, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* "program: text" on stderr, one line */
void err_print(const char *program, const struct err *e);

#endif
