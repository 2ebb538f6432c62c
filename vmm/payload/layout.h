/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h - where the parts of the image lie; for C, assembly and, checked at
 * link time, payload.lds. Everything is identity-mapped, all of it U=1.
 *
 * The addresses are constants so that the descriptor tables and the page
 * tables of the first 4 GiB can be data of the image: on backends that emulate
 * ring 0 each instruction not run there counts.
 */
#ifndef VMM_PAYLOAD_LAYOUT_H
#define VMM_PAYLOAD_LAYOUT_H

#define LAYOUT_STATE            0x100000
#define LAYOUT_TICK             0x100080        /* payload_state.tick         */
#define LAYOUT_GDT              0x101000
#define LAYOUT_TSS              0x101200        /* one per CPU                */
#define LAYOUT_IDT              0x102000
#define LAYOUT_PML4             0x103000
#define LAYOUT_PDPT             0x104000
#define LAYOUT_PD               0x105000        /* four of them               */
#define LAYOUT_TRAPS            0x109000        /* one stub per vector        */

#define LAYOUT_CPUS             8

/* A TSS without an I/O bitmap: ports are accessed by ring 0, on request. KVM
 * shows and restores TR as busy, as it is on a processor, and QEMU's emulation
 * of SVM then takes the bitmap for absent: ring 3 would lose its ports. */
#define TSS_BYTES               104
#define TSS_STEP                0x80

/* Selectors. User code and data are where Linux has them: some backends ask
 * for exactly these. */
#define SEL_CODE32              0x08
#define SEL_CODE                0x10
#define SEL_DATA                0x18
#define SEL_USER_DATA           0x2b
#define SEL_USER_CODE           0x33
#define SEL_TSS                 0x40            /* 16 bytes per CPU           */

#define TRAP_STEP               16
#define VECTOR_SERVICE          3               /* int3: ring 3 calls ring 0  */
#define VECTOR_TICK             0x20            /* LAPIC timer of vCPU 0      */
#define VECTOR_WAKE             0x21            /* LAPIC timer of the others  */
#define VECTOR_SPURIOUS         0x22            /* stub of all other vectors  */

#define SERVICE_HALT            0
#define SERVICE_WAIT            1
#define SERVICE_OUT8            2
#define SERVICE_OUT16           3
#define SERVICE_IN8             4

#define PTE_TABLE               0x027           /* accessed, user, rw, present */
#define PTE_LARGE               0x0e7           /* ... large, dirty            */
#define PTE_UNCACHED            0x018

#define LARGE_PAGE_BYTES        0x200000
#define DEVICES_GPA             0xfe000000      /* uncached from here to 4 GiB */

#define STACK_BYTES             4096
#define LAPIC_GPA               0xfee00000
#define LAPIC_EOI               0x0b0

/* Where INIT/SIPI makes an application processor begin. */
#define TRAMPOLINE_GPA          0x8000

#endif
