/* SPDX-License-Identifier: Apache-2.0 */
/* tables.S - the tables the processor reads, ready made.
 *
 * Accessed and dirty bits are set from the start, so the processor does not
 * write here, apart from the busy bits of the TSS descriptors; a guest that
 * does nothing dirties nothing here. Page tables for RAM above 4 GiB are made
 * at run time (config.c).
 */
#include "layout.h"

        .section .tables, "aw", @progbits

/* 0x101000 */
gdt:
        .quad 0
        .quad 0x00cf9b000000ffff                /* SEL_CODE32 */
        .quad 0x00af9b000000ffff                /* SEL_CODE   */
        .quad 0x00cf93000000ffff                /* SEL_DATA   */
        .quad 0
        .quad 0x00cff3000000ffff                /* SEL_USER_DATA */
        .quad 0x00affb000000ffff                /* SEL_USER_CODE */
        .quad 0
        .set tss, LAYOUT_TSS
        .rept LAYOUT_CPUS
        .word TSS_BYTES - 1
        .word tss & 0xffff
        .byte tss >> 16, 0x89, 0, 0
        .quad 0
        .set tss, tss + TSS_STEP
        .endr
gdt_end:

        .org LAYOUT_TSS - LAYOUT_GDT
        .set cpu, 0
        .rept LAYOUT_CPUS
1:      .long 0
        .quad stacks0 + (cpu + 1) * STACK_BYTES /* RSP0 */
        .org 1b - gdt + 102
        .word TSS_BYTES                         /* no I/O bitmap */
        .org 1b - gdt + TSS_STEP
        .set cpu, cpu + 1
        .endr

        .macro gate vector, dpl
        .set stub, LAYOUT_TRAPS + \vector * TRAP_STEP
        .word stub & 0xffff, SEL_CODE
        .byte 0, 0x8e | \dpl << 5
        .word stub >> 16
        .quad 0
        .endm

        .org LAYOUT_IDT - LAYOUT_GDT
        .set vector, 0
        .rept VECTOR_SPURIOUS
        .if vector == VECTOR_SERVICE
        gate vector, 3
        .else
        gate vector, 0
        .endif
        .set vector, vector + 1
        .endr
        .rept 256 - VECTOR_SPURIOUS
        gate VECTOR_SPURIOUS, 0
        .endr

        .org LAYOUT_PML4 - LAYOUT_GDT
        .quad LAYOUT_PDPT + PTE_TABLE

        .org LAYOUT_PDPT - LAYOUT_GDT
        .quad LAYOUT_PD + PTE_TABLE
        .quad LAYOUT_PD + 0x1000 + PTE_TABLE
        .quad LAYOUT_PD + 0x2000 + PTE_TABLE
        .quad LAYOUT_PD + 0x3000 + PTE_TABLE

        .org LAYOUT_PD - LAYOUT_GDT
        .set gpa, 0
        .rept 4 * 512
        .if gpa < DEVICES_GPA
        .quad gpa + PTE_LARGE
        .else
        .quad gpa + PTE_LARGE + PTE_UNCACHED
        .endif
        .set gpa, gpa + LARGE_PAGE_BYTES
        .endr

        .section .rodata
        .globl gdtr, idtr
gdtr:
        .word gdt_end - gdt - 1
        .quad LAYOUT_GDT
idtr:
        .word 256 * 16 - 1
        .quad LAYOUT_IDT

/* Stacks of ring 0 (interrupts) and of ring 3, one page each per CPU. */
        .bss
        .balign STACK_BYTES
        .globl stacks0, stacks3
stacks0:
        .skip LAYOUT_CPUS * STACK_BYTES
stacks3:
        .skip LAYOUT_CPUS * STACK_BYTES

/* payload.lds checks its own numbers against these. */
        .globl layout_state, layout_gdt, layout_traps
        .set layout_state, LAYOUT_STATE
        .set layout_gdt, LAYOUT_GDT
        .set layout_traps, LAYOUT_TRAPS

        .section .note.GNU-stack, "", @progbits
