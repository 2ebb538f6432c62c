/* SPDX-License-Identifier: Apache-2.0 */
/* size.h - sizes as people write them: "64M", "1G", "4096". */
#ifndef COMMON_SIZE_H
#define COMMON_SIZE_H

#include <stdint.h>

/* Suffixes K, M, G, T are powers of 1024, upper or lower case, "iB"/"B" may
 * follow. 0, or -EINVAL / -ERANGE; *ret_bytes is written on success only. */
int size_parse(const char *text, uint64_t *ret_bytes);

#define SIZE_TEXT_MAX 24
/* "256 MiB", "1.5 GiB"; buf has SIZE_TEXT_MAX bytes; returns buf */
const char *size_text(uint64_t bytes, char *buf);

#endif
