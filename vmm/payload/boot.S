/* SPDX-License-Identifier: Apache-2.0 */
/* boot.S - from the entry to ring 3, and all of ring 0.
 *
 * Ring 0 is emulated instruction by instruction on some backends (KVM without
 * VMX or SVM), so it only switches modes, loads three table registers, and
 * handles interrupts in a few instructions. All tables are static (tables.S).
 * vCPU 0 enters by PVH, the others by INIT/SIPI through the trampoline; both
 * meet in enter_long with EDI = CPU number and ESI = start_info (0: not first).
 */
#include "layout.h"

#define MSR_EFER                0xc0000080
#define EFER_LME                0x100
#define CR0_ON                  0x80050033      /* PG AM WP NE ET MP PE */
#define CR4_ON                  0x620           /* OSXMMEXCPT OSFXSR PAE */
#define CR0_PE                  1
#define RFLAGS_IF               0x202
#define PIC1_DATA               0x21
#define PIC2_DATA               0xa1

        .section .note.Xen, "a", @note
        .balign 4
        .long 4, 8, 18                          /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .quad pvh_entry

        .text
        .code32
        .globl pvh_entry
pvh_entry:
        cli
        cld
        mov     $0xff, %al                      /* no legacy interrupts */
        out     %al, $PIC1_DATA
        out     %al, $PIC2_DATA
        xor     %edi, %edi
        mov     %ebx, %esi
        jmp     enter_long

ap_entry:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %ss
        mov     ap_starting, %edi
        xor     %esi, %esi

enter_long:
        lgdt    gdtr
        mov     $CR4_ON, %eax
        mov     %eax, %cr4
        mov     $LAYOUT_PML4, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        mov     $EFER_LME, %eax
        xor     %edx, %edx
        wrmsr
        mov     $CR0_ON, %eax
        mov     %eax, %cr0
        ljmp    $SEL_CODE, $enter_user

        .code64
enter_user:
        mov     $SEL_USER_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %fs
        mov     %eax, %gs
        lidt    idtr
        mov     %edi, %eax
        shl     $4, %eax
        add     $SEL_TSS, %eax
        ltr     %ax
        mov     %edi, %eax
        inc     %eax
        shl     $12, %eax                       /* STACK_BYTES */
        add     $stacks3 - 8, %eax              /* as after a call */
        mov     %eax, %esp
        pushq   $SEL_USER_DATA
        push    %rax
        pushq   $RFLAGS_IF
        pushq   $SEL_USER_CODE
        pushq   $payload_main
        iretq

/* Copied to TRAMPOLINE_GPA; CS base is there, IP 0. */
        .section .rodata
        .globl trampoline, trampoline_end
        .code16
trampoline:
        cli
        lgdtl   %cs:(trampoline_gdtr - trampoline)
        mov     %cr0, %eax
        or      $CR0_PE, %al
        mov     %eax, %cr0
        ljmpl   $SEL_CODE32, $ap_entry
trampoline_gdtr:
        .word   SEL_TSS - 1
        .long   LAYOUT_GDT
trampoline_end:
        .code64

/* The number of the CPU being started; the others are up or not yet called. */
        .data
        .globl ap_starting
        .balign 4
ap_starting:
        .long   0

        .section .traps, "ax", @progbits
        .macro trap vector
        .org    \vector * TRAP_STEP
        .if \vector == VECTOR_SERVICE
        jmp     service
        .else
        .if (0x60227d00 >> \vector & 1) == 0    /* has no error code: push one */
        pushq   $0
        .endif
        pushq   $\vector
        jmp     fault
        .endif
        .endm

        .set    vector, 0
        .rept   32
        trap    vector
        .set    vector, vector + 1
        .endr
        .org    VECTOR_TICK * TRAP_STEP
        incq    LAYOUT_TICK
        jmp     end_of_interrupt
        .org    VECTOR_WAKE * TRAP_STEP
        jmp     end_of_interrupt
        .org    VECTOR_SPURIOUS * TRAP_STEP
        iretq

end_of_interrupt:
        push    %rax
        mov     $LAPIC_GPA + LAPIC_EOI, %eax
        movl    $0, (%rax)
        pop     %rax
        iretq

/* EAX: SERVICE_HALT; SERVICE_WAIT for the next interrupt unless the tick is no
 * longer RDI, with interrupts off from the test to the hlt; or an access to
 * port DX: of DIL (OUT8), of DI (OUT16), into AL (IN8). */
service:
        cmp     $SERVICE_WAIT, %eax
        jb      1f
        ja      3f
        cmp     %rdi, LAYOUT_TICK
        jne     2f
        sti
        hlt
        cli
2:      iretq
1:      hlt
        jmp     1b
3:      cmp     $SERVICE_OUT16, %eax
        mov     %edi, %eax
        jb      4f
        je      5f
        in      %dx, %al
        iretq
4:      out     %al, %dx
        iretq
5:      out     %ax, %dx
        iretq

/* Any exception: report it from ring 3. */
fault:
        pop     %rdi                            /* vector */
        pop     %rsi                            /* error code */
        mov     (%rsp), %rdx                    /* rip */
        mov     %cr2, %rcx
        movq    $payload_fault, (%rsp)
        iretq

        .section .note.GNU-stack, "", @progbits
