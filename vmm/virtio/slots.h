/* SPDX-License-Identifier: Apache-2.0 */
/* slots.h - where virtio-mmio devices lie, for the bus and for the ACPI tables. */
#ifndef VMM_VIRTIO_SLOTS_H
#define VMM_VIRTIO_SLOTS_H

#include <stdint.h>

#define VIRTIO_WINDOW_GPA 0xd0000000u
#define VIRTIO_WINDOW_BYTES 0x1000u
/* Seven pins of the IOAPIC that no ISA device has, then ISA interrupts that nobody else
 * uses here; 23 is the generic event device's (vmgenid.h). */
#define VIRTIO_SLOTS_MAX 12

static inline uint64_t virtio_window_gpa(unsigned slot)
{
        return VIRTIO_WINDOW_GPA + (uint64_t)slot * VIRTIO_WINDOW_BYTES;
}

static inline unsigned virtio_gsi(unsigned slot)
{
        static const uint8_t gsi[VIRTIO_SLOTS_MAX] = {
                16, 17, 18, 19, 20, 21, 22, 5, 6, 7, 10, 11,
        };

        return gsi[slot];
}

#endif
