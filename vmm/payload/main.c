/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the payload from its first instruction in ring 3, on every CPU. */
#include "vmm/payload/guest.h"

struct payload_state state __attribute__((section(".state"), aligned(4096))) = {
        .magic = { 'S', 'N', 'A', 'P', 'P', 'A', 'Y', 'L' },
        .version = PAYLOAD_VERSION,
        .state_bytes = sizeof(struct payload_state),
};

/* An exception; of the CPU that stored phase FAULT. */
static struct {
        uint64_t vector, error, rip, cr2;
} fault;

extern uint8_t stacks3[];

/* The compiler may ask for these two whatever the flags. */
void *memset(void *to, int value, size_t len);
void *memcpy(void *to, const void *from, size_t len);

void *memset(void *to, int value, size_t len)
{
        void *at = to;

        __asm__ volatile("rep stosb"
                         : "+D"(at), "+c"(len) : "a"(value) : "memory");
        return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
        void *at = to;

        __asm__ volatile("rep movsb"
                         : "+D"(at), "+S"(from), "+c"(len) : : "memory");
        return to;
}

static void put_field(const char *name, uint64_t value)
{
        put_text(name);
        put_hex(value);
}

/* Prints why the guest stops. */
void report(void)
{
        if (load32(&state.phase) == PAYLOAD_CORRUPT) {
                put_field("CORRUPT gpa=", state.corrupt_gpa);
                put_field(" want=", state.corrupt_want);
                put_field(" got=", state.corrupt_got);
                put_line_end();
        } else if (load32(&state.phase) == PAYLOAD_FAULT) {
                put_field("FAULT vector=", fault.vector);
                put_field(" error=", fault.error);
                put_field(" rip=", fault.rip);
                put_field(" cr2=", fault.cr2);
                put_line_end();
        }
}

static void banner(void)
{
        static const char *const patterns[] = {
                "mixed", "compressible", "random"
        };

        put_text("payload: ");
        put_dec(config_ram_mib());
        put_text(" MiB, ");
        put_dec(state.cpus);
        put_text(" CPUs, window ");
        put_dec(state.start_bytes >> 10);
        put_text(" to ");
        put_dec(state.limit_bytes >> 10);
        put_text(" KiB, mode ");
        put_text(state.mode == PAYLOAD_RO ? "ro" : "rw");
        put_text(", pattern ");
        put_text(patterns[state.pattern]);
        put_line_end();
}

/* From boot.S when a CPU has taken an exception. If it is vCPU 0 nobody else
 * can report it; of the others, vCPU 0 sees the phase. */
void payload_fault(uint64_t vector, uint64_t error, uint64_t rip, uint64_t cr2)
{
        uint8_t *here = __builtin_frame_address(0);

        fault.vector = vector;
        fault.error = error;
        fault.rip = rip;
        fault.cr2 = cr2;
        store32(&state.phase, PAYLOAD_FAULT);
        if (here - stacks3 < STACK_BYTES)
                report();
        cpu_halt();
}

void payload_main(unsigned cpu, uint64_t start_info_gpa)
{
        unsigned wanted;

        if (cpu == 0) {
                wanted = config_read(start_info_gpa);
                timer_start(0);
                gaps_start();
                state.cpus = cpus_start(wanted);
                banner();
                store32(&state.phase, PAYLOAD_RUN);
        } else {
                timer_start(cpu);
                store64(&state.cpu[cpu].up, 1);
                while (load32(&state.phase) == PAYLOAD_BOOT)
                        cpu_pause();
        }
        work(cpu);
}
