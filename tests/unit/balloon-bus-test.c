/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a driver as Linux's finds balloon and entropy on their bus, in their slots; what the host
 *       wants reaches it, what it gives goes back, and a machine that was saved goes on with
 *       both, on another bus and in place.
 * Method: devices.h without KVM, and a driver that writes registers; three queues of the
 *         balloon, in the order in which drivers count them. */
#include "vmm/devices.h"

#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/suite.h"
#include "tests/unit/vqguest.h"
#include "vmm/starter.h"
#include "vmm/virtio/balloon.h"

#define PAGE 4096u
#define SLOT_RNG 0
#define SLOT_BALLOON 1
#define RING_SIZE 64
#define RING_GPA 0x110000ull
#define LIST_GPA 0x180000ull
#define AREA_GPA 0x200000ull
#define PATIENCE_NS (20 * NS_PER_SEC)
#define CONFIG_CHANGED 2u               /* of the interrupt status */

enum { INFLATE, DEFLATE, REPORTING, QUEUES };

struct bench {
        struct ram ram;
        struct giveback *giveback;
        struct virtio_bus *bus;
        struct starter *starter;        /* threads are confined as in a VM */
        struct vqguest guest[QUEUES];
};

static void make_bus(struct bench *b)
{
        const struct machine_config config = { .rng = true, .balloon = true };
        const struct devices_host host = { .ram = &b->ram, .giveback = b->giveback };
        const struct virtio_bus_ops ops = { .starter = b->starter };
        struct err e;

        CU_ASSERT_EQUAL_FATAL(devices_make_bus(&config, &host, &ops, &b->bus, &e), 0);
}

static void begin(struct bench *b)
{
        struct err e;

        memset(b, 0, sizeof(*b));
        CU_ASSERT_EQUAL_FATAL(starter_new(SANDBOX_ON, &b->starter, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_init(&b->ram, RAM_BYTES_MIN, &e), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&b->ram, false, RAM_SMALL, &e), 0);
        CU_ASSERT_EQUAL_FATAL(giveback_new(&b->ram, &b->giveback, &e), 0);
        make_bus(b);
}

static void end(struct bench *b)
{
        virtio_bus_free(b->bus);
        starter_free(b->starter);
        giveback_free(b->giveback);
        ram_unmap(&b->ram);
}

/* ---- the driver --------------------------------------------------------------------- */

static void put(struct bench *b, uint32_t offset, uint32_t value)
{
        CU_ASSERT(virtio_bus_mmio(b->bus, virtio_window_gpa(SLOT_BALLOON) + offset, &value, 4,
                                  true));
}

static uint32_t get_of(struct bench *b, unsigned slot, uint32_t offset)
{
        uint32_t value = 0xdeadbeef;

        CU_ASSERT(virtio_bus_mmio(b->bus, virtio_window_gpa(slot) + offset, &value, 4, false));
        return value;
}

static uint32_t get(struct bench *b, uint32_t offset)
{
        return get_of(b, SLOT_BALLOON, offset);
}

static void set_up_queue(struct bench *b, unsigned i)
{
        struct virtqueue q;

        vqguest_init(&b->guest[i], &b->ram, RING_GPA + i * 0x10000, RING_SIZE, &q);
        put(b, VIRTIO_MMIO_QUEUE_SEL, i);
        CU_ASSERT(get(b, VIRTIO_MMIO_QUEUE_NUM_MAX) >= RING_SIZE);
        put(b, VIRTIO_MMIO_QUEUE_NUM, RING_SIZE);
        put(b, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)q.s.desc_gpa);
        put(b, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)q.s.avail_gpa);
        put(b, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)q.s.used_gpa);
        put(b, VIRTIO_MMIO_QUEUE_READY, 1);
        CU_ASSERT_EQUAL(get(b, VIRTIO_MMIO_QUEUE_READY), 1);
}

static void set_up(struct bench *b)
{
        put(b, VIRTIO_MMIO_STATUS, 3);
        put(b, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        put(b, VIRTIO_MMIO_DRIVER_FEATURES,
            1u << VIRTIO_BALLOON_F_DEFLATE_ON_OOM | 1u << VIRTIO_BALLOON_F_REPORTING);
        put(b, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        put(b, VIRTIO_MMIO_DRIVER_FEATURES, 1);         /* VERSION_1 */
        put(b, VIRTIO_MMIO_STATUS, 11);
        CU_ASSERT_EQUAL_FATAL(get(b, VIRTIO_MMIO_STATUS), 11);
        for (unsigned i = 0; i < QUEUES; i++)
                set_up_queue(b, i);
        put(b, VIRTIO_MMIO_STATUS, 15);
}

static bool is_answered(struct bench *b, unsigned queue)
{
        uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
        uint16_t head;
        uint32_t written;

        while (clock_now_ns() < until_ns) {
                if (vqguest_used(&b->guest[queue], &head, &written))
                        return written == 0;
        }
        return false;
}

static void give(struct bench *b, unsigned queue, const struct vqguest_buf *buf)
{
        vqguest_add(&b->guest[queue], buf, 1);
        put(b, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

static void inflate(struct bench *b, uint32_t pfn)
{
        const struct vqguest_buf buf = { LIST_GPA, sizeof(pfn), false };

        memcpy(ram_at(&b->ram, LIST_GPA, sizeof(pfn)), &pfn, sizeof(pfn));
        give(b, INFLATE, &buf);
}

static uint8_t *page_of(struct bench *b, uint64_t gpa)
{
        return ram_at(&b->ram, gpa, PAGE);
}

static void held(struct bench *b)
{
        struct err e;

        virtio_bus_hold(b->bus);
        CU_ASSERT_EQUAL(virtio_bus_wait_held(b->bus, clock_now_ns() + PATIENCE_NS, &e), 0);
}

static struct virtio_device *balloon(struct bench *b)
{
        return devices_find(b->bus, "balloon");
}

/* ---- cases -------------------------------------------------------------------------- */

static void are_found(void)
{
        struct bench b;

        begin(&b);
        CU_ASSERT_EQUAL(get_of(&b, SLOT_RNG, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_RNG);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BALLOON);
        CU_ASSERT_PTR_EQUAL(balloon(&b), virtio_bus_device(b.bus, SLOT_BALLOON));
        CU_ASSERT_PTR_NULL(devices_find(b.bus, "blk"));
        CU_ASSERT_PTR_NULL(devices_find(NULL, "balloon"));
        /* there is no queue behind the third */
        put(&b, VIRTIO_MMIO_QUEUE_SEL, QUEUES);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        end(&b);
}

static void hears_its_target(void)
{
        struct bench b;
        struct err e;

        begin(&b);
        virtio_bus_release(b.bus);
        set_up(&b);

        uint32_t generation = get(&b, VIRTIO_MMIO_CONFIG_GENERATION);

        CU_ASSERT_EQUAL(virtio_balloon_set_target(balloon(&b), 4 << 20, &e), 0);
        CU_ASSERT(get(&b, VIRTIO_MMIO_INTERRUPT_STATUS) & CONFIG_CHANGED);
        CU_ASSERT_NOT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG_GENERATION), generation);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG), 4 << 8);
        put(&b, VIRTIO_MMIO_CONFIG, 0);
        put(&b, VIRTIO_MMIO_CONFIG + 4, 1 << 8);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG), 4 << 8);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG + 4), 1 << 8);
        inflate(&b, AREA_GPA / PAGE);
        CU_ASSERT(is_answered(&b, INFLATE));            /* so it runs */
        put(&b, VIRTIO_MMIO_STATUS, 0);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG), 4 << 8);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG + 4), 0);
        end(&b);
}

/* Reverted and not running yet: it is told when it does. */
static void hears_it_before_it_starts(void)
{
        struct bench b;
        struct err e;

        begin(&b);
        set_up(&b);
        CU_ASSERT_EQUAL(virtio_balloon_set_target(balloon(&b), 4 << 20, &e), 0);
        virtio_bus_release(b.bus);
        inflate(&b, AREA_GPA / PAGE);
        CU_ASSERT(is_answered(&b, INFLATE));
        CU_ASSERT(get(&b, VIRTIO_MMIO_INTERRUPT_STATUS) & CONFIG_CHANGED);
        end(&b);
}

static void gives_back(void)
{
        const struct vqguest_buf reported = { AREA_GPA + PAGE, PAGE, true };
        struct bench b;

        begin(&b);
        virtio_bus_release(b.bus);
        set_up(&b);
        memset(page_of(&b, AREA_GPA), 0x5a, PAGE);
        memset(page_of(&b, AREA_GPA + PAGE), 0x5a, PAGE);
        inflate(&b, AREA_GPA / PAGE);
        CU_ASSERT(is_answered(&b, INFLATE));
        CU_ASSERT_EQUAL(*page_of(&b, AREA_GPA), 0);
        CU_ASSERT_EQUAL(*page_of(&b, AREA_GPA + PAGE), 0x5a);
        give(&b, REPORTING, &reported);
        CU_ASSERT(is_answered(&b, REPORTING));
        CU_ASSERT_EQUAL(*page_of(&b, AREA_GPA + PAGE), 0);
        end(&b);
}

/* Into the same bus or another one. */
static void save_and_go_on(bool another)
{
        AUTO_JSON *doc = NULL;
        struct virtio_bus_state *state, *again;
        struct bench b;
        struct err e;

        begin(&b);
        virtio_bus_release(b.bus);
        set_up(&b);
        CU_ASSERT_EQUAL(virtio_balloon_set_target(balloon(&b), 4 << 20, &e), 0);
        put(&b, VIRTIO_MMIO_CONFIG + 4, 1 << 8);
        held(&b);
        /* a request that the saved machine takes along */
        memset(page_of(&b, AREA_GPA), 0x5a, PAGE);
        inflate(&b, AREA_GPA / PAGE);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_state_new(b.bus, &state, &e), 0);
        virtio_bus_capture(b.bus, state);
        CU_ASSERT_EQUAL(virtio_bus_encode(state, &doc, &e), 0);
        virtio_bus_state_free(state);
        if (another) {
                virtio_bus_free(b.bus);
                make_bus(&b);
        } else {
                CU_ASSERT_EQUAL(virtio_balloon_set_target(balloon(&b), 9 << 20, &e), 0);
                put(&b, VIRTIO_MMIO_CONFIG + 4, 7);
        }
        CU_ASSERT_EQUAL_FATAL(virtio_bus_decode(b.bus, doc, &again, &e), 0);
        CU_ASSERT_EQUAL(virtio_bus_apply(b.bus, again, &e), 0);
        virtio_bus_state_free(again);
        CU_ASSERT_EQUAL(*page_of(&b, AREA_GPA), 0x5a);
        virtio_bus_release(b.bus);
        CU_ASSERT(is_answered(&b, INFLATE));
        CU_ASSERT_EQUAL(*page_of(&b, AREA_GPA), 0);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG), 4 << 8);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG + 4), 1 << 8);
        CU_ASSERT(get(&b, VIRTIO_MMIO_INTERRUPT_STATUS) & CONFIG_CHANGED);
        put(&b, VIRTIO_MMIO_CONFIG, 0);
        CU_ASSERT_EQUAL(get(&b, VIRTIO_MMIO_CONFIG), 4 << 8);
        end(&b);
}

static void goes_on_after_a_revert(void)
{
        save_and_go_on(true);
}

static void goes_on_after_a_rollback(void)
{
        save_and_go_on(false);
}

static const CU_TestInfo cases[] = {
        { "are found in their slots", are_found },
        { "hears its target", hears_its_target },
        { "hears its target before it starts", hears_it_before_it_starts },
        { "gives back", gives_back },
        { "goes on after a revert", goes_on_after_a_revert },
        { "goes on after a rollback", goes_on_after_a_rollback },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("balloon-bus", cases);
}
