/* SPDX-License-Identifier: Apache-2.0 */
/* embed.S - the linked payload as read-only data of the monitor.
 * PAYLOAD_ELF is the path of payload.elf, from the Makefile. */
        .section .rodata
        .globl payload_elf_start, payload_elf_end
        .balign 16
payload_elf_start:
        .incbin PAYLOAD_ELF
payload_elf_end:
        .byte 0

        .section .note.GNU-stack, "", @progbits
