/* SPDX-License-Identifier: Apache-2.0 */
/* embed.S - the linked payload as read-only data of the monitor (payload.h).
 * The path is relative to the top build directory, where the assembler runs. */
        .section .rodata
        .globl payload_elf_start, payload_elf_end
        .balign 16
payload_elf_start:
        .incbin "vmm/payload/payload.elf"
payload_elf_end:
        .byte 0

        .section .note.GNU-stack, "", @progbits
