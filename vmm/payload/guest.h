/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - what the files of the payload share.
 *
 * All of it runs in ring 3, on the CPU whose number is passed where it matters;
 * functions without a CPU number are for vCPU 0. What one CPU or interrupt
 * stores and another reads goes through load and store: plain moves, in order.
 */
#ifndef VMM_PAYLOAD_GUEST_H
#define VMM_PAYLOAD_GUEST_H

#include <stdbool.h>

#include "vmm/payload/layout.h"
#include "vmm/payload/payload.h"

static_assert(PAYLOAD_STATE_GPA == LAYOUT_STATE, "one place for the state");
static_assert(LAYOUT_TICK - LAYOUT_STATE == offsetof(struct payload_state, tick),
              "the handler counts here");
static_assert(PAYLOAD_CPUS_MAX == LAYOUT_CPUS, "one TSS and stack per CPU");

#define TICKS_PER_SECOND        10

/* KVM and QEMU both run the local APIC's bus at 1 GHz, which is divided by 16. */
#define TIMER_COUNTS            (1000000000u / 16 / TICKS_PER_SECOND)

extern struct payload_state state;

static inline uint64_t load64(const uint64_t *at)
{
        return *(const volatile uint64_t *)at;
}

static inline uint32_t load32(const uint32_t *at)
{
        return *(const volatile uint32_t *)at;
}

/* What was written before is in RAM before; the compiler is told so too. */
static inline void store64(uint64_t *at, uint64_t value)
{
        __asm__ volatile("" ::: "memory");
        *(volatile uint64_t *)at = value;
}

static inline void store32(uint32_t *at, uint32_t value)
{
        __asm__ volatile("" ::: "memory");
        *(volatile uint32_t *)at = value;
}

/* console.c: one line is built, then sent; vCPU 0, or a CPU that has faulted */
void put_text(const char *text);
void put_dec(uint64_t value);
void put_hex(uint64_t value);
void put_line_end(void);

/* cpu.c: interrupts, other processors, the end */
void timer_start(unsigned cpu);
uint32_t timer_left(void);              /* of TIMER_COUNTS, until the next tick */
unsigned cpus_start(unsigned wanted);
void cpu_wait_tick(uint64_t seen_tick);
_Noreturn void cpu_halt(void);
_Noreturn void power_off(void);

static inline void cpu_pause(void)
{
        __asm__ volatile("pause" ::: "memory");
}

/* Ports are ring 0's (layout.h): each access is a call of its service. */
static inline uint32_t io_service(uint32_t service, uint16_t port, uint32_t value)
{
        __asm__ volatile("int3"
                         : "+a"(service)
                         : "d"(port), "D"((uint64_t)value)
                         : "memory", "cc");
        return service;
}

static inline void io_write8(uint16_t port, uint8_t value)
{
        io_service(SERVICE_OUT8, port, value);
}

static inline void io_write16(uint16_t port, uint16_t value)
{
        io_service(SERVICE_OUT16, port, value);
}

static inline uint8_t io_read8(uint16_t port)
{
        return (uint8_t)io_service(SERVICE_IN8, port, 0);
}

/* gaps.c: steps of a CPU, timed; without the option `gaps` only gaps_start,
 * gaps_step and gaps_page may be called, and do nothing */
void gaps_start(void);
void gaps_step(unsigned cpu);
void gaps_page(unsigned cpu);
bool gaps_ahead(unsigned cpu);
void gaps_put(void);

/* config.c: fills the constant part of the state from start_info */
unsigned config_read(uint64_t start_info_gpa);
uint64_t config_ram_mib(void);

/* work.c: the passes; never returns */
_Noreturn void work(unsigned cpu);

/* main.c: report() prints CORRUPT or FAULT; the others are called by boot.S */
void report(void);
_Noreturn void payload_main(unsigned cpu, uint64_t start_info_gpa);
_Noreturn void payload_fault(uint64_t vector, uint64_t error, uint64_t rip,
                             uint64_t cr2);

#endif
