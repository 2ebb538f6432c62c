/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c - the local APIC from ring 3: timers, the other processors, the end.
 *
 * Every CPU has a periodic timer. That of vCPU 0 counts state.tick; those of
 * the others only end a wait, so that a throttled guest leaves its host idle.
 */
#include "vmm/payload/guest.h"

#define LAPIC_SVR               0x0f0
#define LAPIC_ICR_LOW           0x300
#define LAPIC_ICR_HIGH          0x310
#define LAPIC_LVT_TIMER         0x320
#define LAPIC_LVT_LINT0         0x350
#define LAPIC_TIMER_COUNT       0x380
#define LAPIC_TIMER_CURRENT     0x390
#define LAPIC_TIMER_DIVIDE      0x3e0
#define SVR_ENABLE              0x1ff           /* spurious vector 0xff */
#define LVT_MASKED              0x10000
#define LVT_PERIODIC            0x20000
#define DIVIDE_16               0x3
#define ICR_INIT                0x4500
#define ICR_STARTUP             0x4600

/* A processor has started after some milliseconds, or it does not exist. */
#define START_TICKS_MAX         20

#define PM1A_CONTROL            0x604
#define PM1_SLEEP_S5            (5 << 10 | 1 << 13)
#define KEYBOARD_COMMAND        0x64
#define KEYBOARD_RESET          0xfe

extern const uint8_t trampoline[], trampoline_end[];
extern volatile uint32_t ap_starting;

static void lapic_write(unsigned reg, uint32_t value)
{
        *(volatile uint32_t *)(uintptr_t)(LAPIC_GPA + reg) = value;
}

void timer_start(unsigned cpu)
{
        uint32_t vector = cpu == 0 ? VECTOR_TICK : VECTOR_WAKE;

        lapic_write(LAPIC_SVR, SVR_ENABLE);
        lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
        lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_16);
        lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | vector);
        lapic_write(LAPIC_TIMER_COUNT, TIMER_COUNTS);
}

uint32_t timer_left(void)
{
        return *(volatile uint32_t *)(uintptr_t)(LAPIC_GPA + LAPIC_TIMER_CURRENT);
}

static void send_ipi(unsigned cpu, uint32_t what)
{
        lapic_write(LAPIC_ICR_HIGH, cpu << 24);
        lapic_write(LAPIC_ICR_LOW, what);
}

/* INIT and SIPI are latched in this order by KVM and by QEMU; the pauses that
 * hardware of the nineties asked for are not needed. SIPI again at each tick. */
static bool cpu_start(unsigned cpu)
{
        uint64_t first_tick = load64(&state.tick), last_tick = first_tick;

        ap_starting = cpu;
        send_ipi(cpu, ICR_INIT);
        send_ipi(cpu, ICR_STARTUP | TRAMPOLINE_GPA >> 12);
        while (!load64(&state.cpu[cpu].up)) {
                cpu_pause();
                if (load64(&state.tick) == last_tick)
                        continue;
                last_tick = load64(&state.tick);
                if (last_tick - first_tick > START_TICKS_MAX)
                        return false;
                send_ipi(cpu, ICR_STARTUP | TRAMPOLINE_GPA >> 12);
        }
        return true;
}

/* Starts CPUs 1.. one after the other; returns how many there are with vCPU 0.
 * The trampoline's page may have held boot data: config_read() comes first. */
unsigned cpus_start(unsigned wanted)
{
        volatile uint8_t *to = (volatile uint8_t *)(uintptr_t)TRAMPOLINE_GPA;
        unsigned i, cpus = 1;

        if (wanted > 1)
                for (i = 0; trampoline + i < trampoline_end; i++)
                        to[i] = trampoline[i];
        while (cpus < wanted && cpu_start(cpus))
                cpus++;
        return cpus;
}

/* Until the next interrupt of this CPU; not at all if the tick has moved. */
void cpu_wait_tick(uint64_t seen_tick)
{
        uint32_t service = SERVICE_WAIT;

        __asm__ volatile("int3"
                         : "+a"(service)
                         : "D"(seen_tick)
                         : "memory", "cc");
}

void cpu_halt(void)
{
        for (;;)
                __asm__ volatile("int3" : : "a"(SERVICE_HALT) : "memory");
}

void power_off(void)
{
        io_write16(PM1A_CONTROL, PM1_SLEEP_S5);
        io_write8(KEYBOARD_COMMAND, KEYBOARD_RESET);
        cpu_halt();
}
