/* SPDX-License-Identifier: Apache-2.0 */
/* fcuffd.h - the one message of Firecracker's UFFD handshake: JSON <-> structs.
 *
 * Firecracker connects to the socket of a page-fault handler and sends an array with
 * an object for each region of guest memory, and its userfaultfd beside it:
 *     [{"base_host_virt_addr":N,"size":N,"offset":N,"page_size":N,"page_size_kib":N}, ...]
 * v1.1 to v1.6 say nothing of pages, which are 4 KiB then; v1.7 to v1.11 only
 * page_size_kib, which is in bytes in spite of its name; from v1.12 on both are
 * there and page_size counts. The message has no length and no end but the array's.
 *
 * Threads: pure functions. No I/O.
 * Errors:  a negative errno and a sentence.
 */
#ifndef COMMON_WIRE_FCUFFD_H
#define COMMON_WIRE_FCUFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* Firecracker has three at most, and memory that was plugged in. */
#define FC_REGIONS_MAX 64u
/* 64 regions with the longest numbers are 12 KiB; the rest is for keys to come. */
#define FC_HELLO_BYTES_MAX 65536u
/* x86-64's user space with four levels of page tables, which is what KVM hosts give
 * to who does not ask for more. */
#define FC_HVA_END (1ull << 47)

struct fc_region {
        uint64_t hva;                   /* in Firecracker's address space */
        uint64_t bytes;
        uint64_t file_offset;           /* in the memory file: the sum of those before */
        uint32_t page_bytes;            /* 4096 or 2 MiB, the same in all */
};

/* text is what has arrived so far. 0: the regions, in the order of the message.
 * -EAGAIN: so far it may be the beginning of a message; read on. -EBADMSG: it is none,
 * or longer than FC_HELLO_BYTES_MAX, or one of its regions cannot be: not of whole
 * pages, empty, beyond FC_HVA_END, over another, or not behind the one before it in
 * the file. Then *ret_n of ret are 1..FC_REGIONS_MAX. */
int fc_hello_parse(const char *text, size_t len, struct fc_region ret[FC_REGIONS_MAX],
                   size_t *ret_n, struct err *e);

/* which keys a version of Firecracker sends */
enum fc_hello_form {
        FC_HELLO_PLAIN,                 /* v1.1 to v1.6 */
        FC_HELLO_PAGE_SIZE_KIB,         /* v1.7 to v1.11 */
        FC_HELLO_PAGE_SIZE,             /* 2.0, as announced */
        FC_HELLO_BOTH,                  /* v1.12 and later 1.x */
};

/* The message as Firecracker would send it, right or wrong regions alike; the caller
 * frees *ret_text. */
int fc_hello_format(const struct fc_region *regions, size_t n, enum fc_hello_form form,
                    char **ret_text, size_t *ret_len, struct err *e);

#endif
